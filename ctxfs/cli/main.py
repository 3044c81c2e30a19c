"""The program `ctxfs`: the table of commands. Each module is imported when its command is called, for a fast start."""

import importlib
import os
import sys
from typing import TYPE_CHECKING

import click

from ctxfs import __version__
from ctxfs.cli.command_table import COMMANDS, GROUPS, HIDDEN
from ctxfs.cli.groups import CommandGroup, suggestion
from ctxfs.cli.help_page import DESCRIPTION, EPILOG, STORE_HELP, VERSION_HELP
from ctxfs.cli.options import add_store_option
from ctxfs.cli.output import fail
from ctxfs.model.errors import CommandError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class _Commands(CommandGroup):
    """The commands, each imported at its first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*(name for name in COMMANDS if name not in HIDDEN), "help"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "help":
            return show_help
        if cmd_name not in COMMANDS:
            return None
        module_name, _, function = COMMANDS[cmd_name].module.partition(":")
        module = importlib.import_module(f"ctxfs.cli.{module_name}")
        command: click.Command = getattr(module, function or cmd_name)
        add_store_option(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, entries in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.summary) for name, entry in entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete the names of commands, and options."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        items = [CompletionItem(name, help=COMMANDS[name].summary if name in COMMANDS else "") for name in names]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(cls=_Commands, epilog=EPILOG, help=DESCRIPTION, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--store", metavar="DIR", help=STORE_HELP)
@click.version_option(__version__, "-V", "--version", message="ctxfs %(version)s", help=VERSION_HELP)
@click.pass_context
def cli(ctx: click.Context, store: str | None) -> None:
    """Hold the store for the command."""
    ctx.obj = store
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False


@click.command(name="help")
@click.argument("names", metavar="[COMMAND]…", nargs=-1)
@click.pass_context
def show_help(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Print the help of a command"""
    parent = ctx.find_root()
    command: click.Command = cli
    for name in names:
        subcommand = command.get_command(parent, name) if isinstance(command, click.Group) else None
        if subcommand is None:
            candidates = command.list_commands(parent) if isinstance(command, click.Group) else []
            ctx.fail(f"No such command {name!r}.{suggestion(name, candidates)}")
        parent = click.Context(subcommand, info_name=name, parent=parent)
        command = subcommand
    click.echo(command.get_help(parent))


def main() -> None:
    """Run a command; print errors with their remedy and exit with their code."""
    try:
        if "_CTXFS_COMPLETE" in os.environ:
            cli.main(prog_name="ctxfs")  # the shell requests completions
        # Not through `main`: it exits with 1 when the reader of a pipe ends early.
        with cli.make_context("ctxfs", sys.argv[1:]) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of the pipe ended, as in `ctxfs ls | head`: this is no error, and output has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (CommandError, OSError) as error:
        fail(error)
