"""`ctxfs`: the table of commands. Each is imported when it is called, so that starting stays fast."""

import importlib
import os
import sys

import click

from ctxfs import __version__
from ctxfs.cli.output import fail
from ctxfs.model.errors import CommandError

_COMMANDS = {
    "init": "stores",
    "trust": "stores",
    "add": "stores",
    "remove": "stores",
    "reindex": "stores",
    "status": "status",
    "doctor": "status",
    "version": "status",
    "mount": "mounts",
    "unmount": "mounts",
    "service": "service",
    "daemon": "mounts",
    "ls": "files",
    "cat": "files",
    "tree": "files",
    "log": "versions",
    "show": "versions",
    "diff": "versions",
    "blame": "versions",
    "restore": "versions",
    "undo": "versions",
    "redo": "versions",
    "forget": "versions",
    "snapshot": "versions",
    "commit": "versions",
    "gc": "versions",
    "remote": "remotes",
    "meta": "meta",
    "search": "search",
    "grep": "grep",
    "policy": "policy",
    "token": "credentials",
    "record": "history",
    "history": "history",
    "context": "contexts",
    "review": "review",
    "tokens": "search",
    "fit": "search",
    "eval": "evaluation:evaluate",
    "model": "models",
    "tools": "tools",
    "calls": "tools",
    "skills": "skills",
    "mcp": "mcp",
    "mcp-call": "mcp:mcp_call",
    "completion": "completion",
}

_EPILOG = """\b
Exit codes: 0 done · 1 failed · 2 wrong usage · 3 nothing found · 4 no store
            5 in use · 6 something is unhealthy (doctor)
The store is --store, $CTXFS_STORE, a .ctxfs folder here or above that you
have confirmed (ctxfs trust), or ~/.local/share/ctxfs/store."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in _COMMANDS if name != "daemon"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        room, _, name = _COMMANDS[cmd_name].partition(":")
        module = importlib.import_module(f"ctxfs.cli.{room}")
        found: click.Command = getattr(module, name or cmd_name)
        return found


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--store", metavar="DIR", help="The store to work on.")
@click.version_option(__version__, message="ctxfs %(version)s")
@click.pass_context
def cli(ctx: click.Context, store: str | None) -> None:
    """A file system of context: memory, tools and knowledge as one tree of files."""
    ctx.obj = store


def main() -> None:
    """Run a command; errors become a line, a remedy and an exit code."""
    try:
        if "_CTXFS_COMPLETE" in os.environ:
            cli.main(prog_name="ctxfs")  # the shell asks for completions
        # Not through `main`: it would turn a reader that left early into exit code 1.
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
        # The reader has gone, as in `ctxfs ls | head`: not an error, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (CommandError, OSError) as error:
        fail(error)
