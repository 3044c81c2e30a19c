"""Options of the command line: hidden aliases of older spellings, and options that several commands share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from ctxfs.cli import completion_values


class AliasedOption(click.Option):
    """An option with further accepted spellings of it and of its values, which help and completion do not show."""

    def __init__(
        self,
        declarations: Sequence[str],
        hidden_aliases: Sequence[str] = (),
        hidden_values: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(declarations, **attributes)
        self.hidden_aliases = list(hidden_aliases)
        self.hidden_values = dict(hidden_values or {})

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Register the visible spellings and the aliases."""
        visible = self.opts
        self.opts = [*visible, *self.hidden_aliases]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = visible

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the converted value; older spellings count as their present ones."""
        present = self.hidden_values.get(value, value) if isinstance(value, str) else value
        return super().type_cast_value(ctx, present)


def aliased_option(*declarations: str, hidden_aliases: Sequence[str], **attributes: Any) -> Callable[[Any], Any]:
    """Return the decorator of an `AliasedOption`."""
    return click.option(*declarations, cls=AliasedOption, hidden_aliases=hidden_aliases, **attributes)


def json_option(help_text: str = "Print JSON") -> Callable[[Any], Any]:
    """Return the decorator of `--json` with the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def limit_option(
    noun: str, *, default: int, maximum: int | None = None, hidden_aliases: Sequence[str] = ()
) -> Callable[[Any], Any]:
    """Return the decorator of `-n/--limit`, the number of results."""
    return aliased_option(
        "-n",
        "--limit",
        hidden_aliases=hidden_aliases,
        default=default,
        show_default=True,
        type=click.IntRange(1, maximum),
        metavar="N",
        help=f"Maximum number of {noun}",
    )


def principal_option(
    help_text: str, *, hidden_aliases: Sequence[str] = (), default: str | None = None
) -> Callable[[Any], Any]:
    """Return the decorator of `--principal`."""
    return aliased_option(
        "--principal",
        hidden_aliases=hidden_aliases,
        default=default,
        metavar="PRINCIPAL",
        shell_complete=completion_values.principals,
        help=help_text,
    )


def token_option() -> Callable[[Any], Any]:
    """Return the decorator of `--token`, empty by default."""
    return click.option(
        "--token",
        default="",
        envvar="CTXFS_TOKEN",
        metavar="TOKEN",
        help="Access token of the principal [default: $CTXFS_TOKEN]",
    )


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--tls-cert`, `--tls-key` and `--hostname` to a command."""
    options = (
        click.option("--tls-cert", default="", metavar="FILE", help="Certificate with its chain, in PEM"),
        click.option("--tls-key", default="", metavar="FILE", help="Private key of the certificate, in PEM"),
        click.option("--hostname", multiple=True, metavar="NAME", help="Host name of the server; repeatable"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def below_option(help_text: str = "Limit to a directory of the tree") -> Callable[[Any], Any]:
    """Return the decorator of `--below`, empty by default."""
    return click.option(
        "--below", default="", metavar="PATH", shell_complete=completion_values.tree_paths, help=help_text
    )


def reason_option() -> Callable[[Any], Any]:
    """Return the decorator of `-m/--reason`."""
    return click.option("-m", "--reason", default="", metavar="TEXT", help="Reason, recorded with the version")


def yes_option(help_text: str = "Skip the prompt") -> Callable[[Any], Any]:
    """Return the decorator of `--yes`."""
    return click.option("--yes", is_flag=True, help=help_text)


def _select_store(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.obj = value


def add_store_option(command: click.Command) -> None:
    """Accept `--store DIR` after the names of the command and of its subcommands, too."""
    if not any(parameter.name == "store_after" for parameter in command.params):
        option = click.Option(
            ["--store", "store_after"],
            metavar="DIR",
            hidden=True,
            expose_value=False,
            callback=_select_store,
            is_eager=True,
            help="Store folder",
        )
        command.params.append(option)
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            add_store_option(subcommand)
