"""Values that shells complete: tree paths, sources, snapshots, branches, tasks, principals, sessions, remotes and tools.

Each function has the signature of click's `shell_complete`. It completes nothing if the store cannot be opened,
because the shell would take an error message for values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ctxfs.daemon.session import StoreSession

Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]

_NEVER_LISTED = ("human:", "group:")


def _completer(values: Callable[[StoreSession, str], Iterable[str]]) -> Completer:
    def complete(context: click.Context, parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
        del parameter
        from click.shell_completion import CompletionItem

        from ctxfs.daemon.session import session

        # Any error: its text on stderr would garble the command line that is being typed.
        with contextlib.suppress(Exception), session(_store_of(context)) as opened:
            return [CompletionItem(value) for value in values(opened, prefix) if value.startswith(prefix)]
        return []

    return complete


def _store_of(context: click.Context) -> str | None:
    """Return the store that the line names before or after the command."""
    store = context.obj if isinstance(context.obj, str) else context.find_root().params.get("store")
    return str(store) if store else None


def _paths(opened: StoreSession, prefix: str) -> list[str]:
    parent, slash, name = prefix.rpartition("/")
    entries = opened.call("list", path=parent.strip("/"))
    listed = [(str(entry[0]), entry[1] == "dir") for entry in entries if str(entry[0]).startswith(name)]
    return [f"{parent}{slash}{entry}{'/' if is_directory else ''}" for entry, is_directory in listed]


def _sources(opened: StoreSession, prefix: str) -> list[str]:
    del prefix
    return [
        str(source["at"]).removeprefix("knowledge/")
        for source in opened.call("status")["sources"]
        if "/" in source["at"]
    ]


def _snapshots(opened: StoreSession, prefix: str) -> list[str]:
    del prefix
    return [str(snapshot["name"]) for snapshot in opened.call("snapshots")]


def _branches(opened: StoreSession, prefix: str) -> list[str]:
    del prefix
    return [str(branch["name"]) for branch in opened.call("branches")]


def _revisions(opened: StoreSession, prefix: str) -> list[str]:
    recent = [str(version["revision"])[:12] for version in opened.call("log", path="", limit=20)]
    return ["prev", "latest", *_snapshots(opened, prefix), *recent]


def _tasks(opened: StoreSession, prefix: str) -> list[str]:
    del prefix
    return [str(entry[0]) for entry in opened.call("list", path="context")]


def _principals(opened: StoreSession, prefix: str) -> list[str]:
    del prefix
    names = {str(opened.call("whoami")["principal"])}
    names |= {f"agent:{entry[0]}" for entry in opened.call("list", path="memory") if entry[0] != "shared"}
    names |= {str(token["principal"]) for token in opened.call("tokens")}
    rules = opened.call("policy")["rules"]
    names |= {principal for principal in (rule.split()[1] for rule in rules) if "*" not in principal}
    return sorted(name for name in names if not name.startswith(_NEVER_LISTED))


def _remotes(opened: StoreSession, prefix: str) -> list[str]:
    del prefix
    return sorted(opened.call("remotes"))


def _tools(opened: StoreSession, prefix: str) -> list[str]:
    del prefix
    return [str(tool["name"]) for tool in opened.call("tools")["tools"]]


def _history_sessions(opened: StoreSession, prefix: str) -> list[str]:
    del prefix
    return [str(name) for name in opened.call("session_names")]


def transcript_members(context: click.Context, parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """Return `text=` and so on for `ctxfs import jsonl --map`; it needs no store."""
    del context, parameter
    from click.shell_completion import CompletionItem

    from ctxfs.transcripts.json_lines import DEFAULT_NAMES

    return [CompletionItem(f"{name}=") for name in DEFAULT_NAMES if f"{name}=".startswith(prefix)]


tree_paths = _completer(_paths)
history_sessions = _completer(_history_sessions)
sources = _completer(_sources)
snapshots = _completer(_snapshots)
branches = _completer(_branches)
revisions = _completer(_revisions)
tasks = _completer(_tasks)
principals = _completer(_principals)
remotes = _completer(_remotes)
tools = _completer(_tools)
