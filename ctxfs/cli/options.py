"""Options of the command line: hidden aliases of older spellings, and options that several commands share."""

from collections.abc import Callable, Sequence
from typing import Any

import click


class AliasedOption(click.Option):
    """An option with further accepted spellings, which help and completion do not show."""

    def __init__(self, declarations: Sequence[str], hidden_aliases: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(declarations, **attributes)
        self.hidden_aliases = list(hidden_aliases)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Register the visible spellings and the aliases."""
        visible = self.opts
        self.opts = [*visible, *self.hidden_aliases]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = visible


def aliased_option(*declarations: str, hidden_aliases: Sequence[str], **attributes: Any) -> Callable[[Any], Any]:
    """Return the decorator of an option with hidden aliases."""
    return click.option(*declarations, cls=AliasedOption, hidden_aliases=hidden_aliases, **attributes)


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
            help="Use this store",
        )
        command.params.append(option)
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            add_store_option(subcommand)
