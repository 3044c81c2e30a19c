"""The command capture: hooks of clients, which record their sessions in the history."""

import os
import shutil
import sys
from pathlib import Path

import click

from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import principal_option
from ctxfs.cli.output import print_line, print_lines, warn
from ctxfs.model.errors import EXIT_NOTHING_FOUND, CommandError

_CLIENTS = ("claude-code", "codex", "gemini-cli", "cursor")
_SESSION_EVENTS = ("session-start", "prompt", "stop", "compact", "session-end")
_DEFAULT_RECALL_TOKENS = 1000
_MAX_RECALL_TOKENS = 100_000
_RECALL = "--recall"


@click.group(cls=CommandGroup)
def capture() -> None:
    """Manage hooks that record clients

    Hooks of a client record its prompts, answers, starts, ends and compactions in the history, and can answer prompts
    with context from the store. Text between <private> and </private> is never recorded.
    """


class _RecallCommand(click.Command):
    """A command whose option --recall has a value only after an equals sign."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Complete a bare --recall by its default."""
        return super().parse_args(ctx, [f"{_RECALL}={_DEFAULT_RECALL_TOKENS}" if a == _RECALL else a for a in args])


@capture.command(cls=_RecallCommand)
@click.argument("client", type=click.Choice(_CLIENTS))
@click.option("--write", is_flag=True, help="Write to the settings file of the client")
@click.option("--user", is_flag=True, help="Use your own settings, not those of this project")
@click.option(
    _RECALL,
    type=click.IntRange(100, _MAX_RECALL_TOKENS),
    default=None,
    metavar="[=TOKENS]",
    help=f"Answer prompts from the store [{_DEFAULT_RECALL_TOKENS}]",
)
@click.option("--tools", is_flag=True, help="Record calls of tools, too")
@principal_option("Principal of the records [default: you]", hidden_aliases=["--as"], default="")
@click.pass_context
def install(
    context: click.Context, client: str, write: bool, user: bool, recall: int | None, tools: bool, principal: str
) -> None:
    """Set up the hooks of a client

    Prints the change of the settings file of CLIENT; --write makes it. The rest of the file stays, and a second run
    changes nothing.
    """
    from ctxfs.capture.client_hooks import HOOK_CLIENTS, HookCommand
    from ctxfs.capture.installation import plan_install
    from ctxfs.model.principal import parse_principal
    from ctxfs.store.layout import find_store

    layout, hooks = find_store(context.obj), HOOK_CLIENTS[client]
    named = str(parse_principal(principal)) if principal else ""
    tokens = (recall or 0) if hooks.can_recall else 0
    command = HookCommand(_program(), str(layout.root.resolve()), client, named, tokens)
    events = [event for event in hooks.events if tools or event != "tool"]
    file = hooks.file(None if user else Path.cwd())
    change = plan_install(hooks, file, command, events)
    for note in hooks.notes:
        if recall or "recall" not in note:
            warn(note)
    for event in _SESSION_EVENTS:
        if event not in hooks.events:
            warn(f"{client} has no hook for {event}: it is not recorded")
    if change.is_empty:
        print_line(f"{file}: the hooks are there already")
        return
    print_lines(change.diff.rstrip("\n"))
    if not write:
        warn(f"nothing is written yet; --write changes {file}")
        return
    change.write()
    print_line(f"{file}: written; start the client again")


@capture.command()
@click.argument("client", type=click.Choice(_CLIENTS))
@click.option("--write", is_flag=True, help="Write to the settings file of the client")
@click.option("--user", is_flag=True, help="Use your own settings, not those of this project")
@click.pass_context
def uninstall(context: click.Context, client: str, write: bool, user: bool) -> None:
    """Remove the hooks of a client

    Prints the change of the settings file of CLIENT; --write makes it. Only the entries of `install` are removed: those
    of every store, or of --store.
    """
    from ctxfs.capture.client_hooks import HOOK_CLIENTS
    from ctxfs.capture.installation import plan_uninstall

    hooks = HOOK_CLIENTS[client]
    file = hooks.file(None if user else Path.cwd())
    store = str(Path(context.obj).expanduser().resolve()) if context.obj else ""
    change = plan_uninstall(hooks, file, store)
    if change.is_empty:
        remedy = "was it installed in another project?" if user else "was it installed for --user?"
        raise CommandError(f"'{file}' has no hooks of ctxfs", remedy, EXIT_NOTHING_FOUND)
    print_lines(change.diff.rstrip("\n"))
    if not write:
        warn(f"nothing is written yet; --write changes {file}")
        return
    change.write()
    print_line(f"{file}: {'removed' if change.after is None else 'taken out'}; start the client again")


@capture.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
)
@click.argument("event", required=False, default="")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[--client CLIENT] [--as PRINCIPAL] [--recall]")
@click.pass_context
def hook(context: click.Context, event: str, options: tuple[str, ...]) -> None:
    """Add an event of a client to the history

    EVENT is session-start, prompt, response, stop, tool, compact or session-end. Reads the event as JSON from stdin, as
    clients write it for their hooks, and returns at once: the daemon or the next command records it. The exit code is
    always 0.
    """
    from ctxfs.capture.hook import run_hook

    store = ["--store", context.obj] if context.obj else []
    raise click.exceptions.Exit(run_hook([*store, event, *options]))


def _program() -> tuple[str, ...]:
    """Return the words that start this program from any folder."""
    beside = Path(sys.executable).with_name("ctxfs")
    if os.access(beside, os.X_OK):
        return (str(beside),)
    program = shutil.which("ctxfs")
    return (program,) if program else (sys.executable, "-m", "ctxfs")
