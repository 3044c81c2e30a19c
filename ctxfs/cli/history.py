"""The commands record and history: append to the event log, read it, and verify its chains."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import json_option, limit_option, principal_option, yes_option
from ctxfs.cli.output import say, say_json, say_lines, warn, write_bytes
from ctxfs.daemon.session import session as opened_session
from ctxfs.eventlog.record_schema import KINDS
from ctxfs.model.errors import EXIT_FAILURE, EXIT_NOTHING_FOUND, EXIT_USAGE, CommandError


@click.command()
@click.argument("text", required=False)
@click.option("--session", default="", metavar="ID", help="Session id [default: $CTXFS_SESSION or 'shell']")
@click.option("--kind", default="note", show_default=True, help=f"Kind: {', '.join(KINDS)}, or another word")
@click.option("--origin", default="", help="Origin: a path, a URL, a tool")
@click.option("--model", default="", help="Model that wrote the text")
@click.option("--model-version", default="", help="Version of the model")
@principal_option("Principal of the record, such as agent:alice [default: you]", hidden_aliases=["--as"], default="")
@click.option("--jsonl", is_flag=True, help="Read records from stdin, a JSON object a line")
@click.pass_obj
def record(
    store: str | None, text: str | None, session: str, kind: str, origin: str, model: str, model_version: str,
    principal: str, jsonl: bool,
) -> None:  # fmt: skip
    """Add a record to the history

    TEXT is read from stdin if it is absent or `-`. No record of the history is ever changed.
    """
    given = text if text is not None and text != "-" else sys.stdin.buffer.read().decode("utf-8", "replace")
    if jsonl:
        said = [_object(line, number) for number, line in enumerate(given.splitlines(), 1) if line.strip()]
    else:
        one: dict[str, Any] = {"kind": kind, "text": given.rstrip("\n")}
        if origin:
            one["origin"] = origin
        if model:
            one["model"] = {"name": model, **({"version": model_version} if model_version else {})}
        said = [one]
    with opened_session(store) as opened:
        if principal:
            opened.call("join", principal=principal, tool="record")
        numbers = opened.call(
            "record", said=said, session=session or os.environ.get("CTXFS_SESSION", ""), in_shell=True
        )
    say(f"record {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} records")


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise CommandError(f"line {number} is not JSON: {error}", "give an object a line", EXIT_USAGE) from error
    if not isinstance(found, dict):
        raise CommandError(f"line {number} is not a JSON object", "give an object a line", EXIT_USAGE)
    return found


@click.group(cls=CommandGroup)
def history() -> None:
    """Manage the event log and the audit

    The event log has the messages and actions of sessions; the audit has the operations.
    """


_FILTERS = (
    click.option("--session", default="", metavar="ID", help="Limit to a session"),
    principal_option("Limit to a principal, such as agent:alice", hidden_aliases=["--agent"], default=""),
    click.option("--day", default="", metavar="DATE", help="Limit to a day (UTC)"),
    click.option("--kind", default="", help="Limit to a kind"),
    limit_option("records, the newest", default=1000),
)


def _filtered(command: Any) -> Any:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@history.command()
@_filtered
@json_option("Print a JSON object a line")
@click.pass_obj
def show(store: str | None, session: str, principal: str, day: str, kind: str, limit: int, as_json: bool) -> None:
    """Print records, oldest first"""
    for each in _asked(store, session, principal, day, kind, limit):
        if as_json:
            write_bytes((json.dumps(each, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
        else:
            say(f"{each['seq']:>6}  {each.get('at', '')[:19]}  {each.get('session', '-')}  {_who(each)}  {_line(each)}")


@history.command()
@_filtered
@click.pass_obj
def replay(store: str | None, session: str, principal: str, day: str, kind: str, limit: int) -> None:
    """Print the full texts of records

    They come in their order in the log: a conversation to read or to feed to a model.
    """
    for each in _asked(store, session, principal, day, kind, limit):
        model = each.get("model")
        by = f" ({' '.join(str(v) for v in model.values())})" if isinstance(model, dict) else ""
        say(f"--- {each.get('at', '')[:19]} {_who(each)} {each.get('kind', 'forgotten')}{by}")
        say_lines(_text(each))


@history.command()
@click.option(
    "--remote",
    default="",
    metavar="NAME",
    shell_complete=completion_values.remotes,
    help="Remote whose versions to compare with",
)
@json_option()
@click.pass_obj
def verify(store: str | None, remote: str, as_json: bool) -> None:
    """Verify the records and their hash chains

    The chains reveal edits, gaps and reordering. The anchors in versions reveal a cut end, and chains that were rewritten as a
    whole. Exit code 1 if there are faults.
    """
    with opened_session(store) as opened:
        found = opened.call("verify_history", remote=remote)
    if as_json:
        say_json(found)
    else:
        for fault in found["faults"]:
            warn(f"{fault['where']}: {fault['what']}")
        _say_anchors(found["anchors"], remote)
        erased = f", {found['forgotten']} of them forgotten" if found["forgotten"] else ""
        state = f"{len(found['faults'])} faults" if found["faults"] else "the chains are whole"
        say(f"{found['records']} records{erased}, {found['audited']} of the audit: {state}")
    if found["faults"]:
        raise click.exceptions.Exit(EXIT_FAILURE)


def _say_anchors(anchors: dict[str, Any], remote: str) -> None:
    """Print the evidence of the anchors, and its limits."""
    where = f"versions at {remote}" if remote else "versions here"
    if not anchors["versions"]:
        say(f"{where} name no record: nothing tells whether the chains were cut or written again as a whole")
        return
    up_to, newer = anchors["up_to"], anchors["unanchored"]
    say(
        f"{anchors['versions']} {where} since {anchors['since']} name records up to {up_to['events']}, of the audit "
        f"{up_to['audit']}; {newer['events']} and {newer['audit']} newer ones are not named yet"
    )
    if anchors["of_other_stores"]:
        say(f"{anchors['of_other_stores']} of these versions are of other stores: check their chains there")
    if anchors["has_key"]:
        say(f"{anchors['sealed']} are sealed with the key, since {anchors['sealed_since'] or 'never'}")
    elif not remote:
        say(
            "whoever can write this store could have written its versions again, too: compare with --remote NAME, or set a key"
        )


@history.command()
@click.argument("path", required=False, default="", shell_complete=completion_values.tree_paths)
@click.option("--session", default="", metavar="ID", help="Limit to a session")
@principal_option("Limit to a principal, such as agent:alice", hidden_aliases=["--agent"], default="")
@click.option("--day", default="", metavar="DATE", help="Limit to a day (UTC)")
@click.option(
    "--op",
    default="",
    help="Limit to an operation: read, write, create, rename, delete, meta, search, context, policy …",
)
@click.option("--refused", is_flag=True, help="Limit to refused operations")
@limit_option("operations, the newest", default=1000)
@json_option("Print a JSON object a line")
@click.pass_obj
def audit(
    store: str | None, path: str, session: str, principal: str, day: str, op: str, refused: bool, limit: int, as_json: bool
) -> None:  # fmt: skip
    """Print the operations of the audit

    The output has the reads, writes, moves, removals and questions at PATH and below, or everywhere, with the refused ones.

    The audit contains a digest of each question only. Give the words of a question as PATH to list those who had the same.
    """
    with opened_session(store) as opened:
        asked = {"session": session, "principal": principal, "day": day, "op": op, "path": path, "limit": limit}
        found = opened.call("audit", **asked, outcome="EACCES" if refused else "")
    for each in found:
        if as_json:
            write_bytes((json.dumps(each, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
            continue
        outcome = "" if each["outcome"] == "ok" else f"  {each['outcome']}"
        where = " → ".join(str(each[name]) for name in ("path", "to") if name in each)
        times = f"  × {each['times']}" if "times" in each else ""
        say(f"{each['at'][:19]}  {_who(each)}  {each.get('session', '-')}  {each['op']:<8} {where}{times}{outcome}")
    if not found:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


@history.command()
@click.argument("session")
@yes_option("Confirm: the erasure cannot be undone")
@click.pass_obj
def forget(store: str | None, session: str, yes: bool) -> None:
    """Erase the records of a session

    Their entries stay in the chain without content, and a record names the principal that erased them.
    """
    if not yes:
        raise CommandError("this cannot be undone", f"to do it: ctxfs history forget --yes {session}", EXIT_USAGE)
    with opened_session(store) as opened:
        say(f"{opened.call('forget_history', session=session)} records forgotten")


@history.command()
@click.option(
    "--days", default=30, show_default=True, type=click.IntRange(1), help="Number of recent days that stay as they are"
)
@click.pass_obj
def pack(store: str | None, days: int) -> None:
    """Compress older days

    Nothing is deleted, and all records stay readable.
    """
    with opened_session(store) as opened:
        say(f"{opened.call('pack_history', days=days)} files packed")


def _asked(store: str | None, session: str, principal: str, day: str, kind: str, limit: int) -> list[dict[str, Any]]:
    with opened_session(store) as opened:
        asked = {"session": session, "principal": principal, "day": day, "kind": kind, "limit": limit}
        found: list[dict[str, Any]] = opened.call("history", **asked)
    if not found:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)
    return found


def _who(each: Mapping[str, Any]) -> str:
    return str(each.get("principal", "-"))


def _text(each: Mapping[str, Any]) -> str:
    if "forgotten" in each:
        return f"(forgotten by {each['forgotten'].get('by')})"
    shown = ("seq", "at", "session", "principal", "kind", "text", "model")
    rest = {name: value for name, value in each.items() if name not in shown}
    return "\n".join(filter(None, (str(each.get("text", "")), json.dumps(rest, ensure_ascii=False) if rest else "")))


def _line(each: Mapping[str, Any]) -> str:
    return f"{each.get('kind', '')}: {' '.join(_text(each).split())[:160]}"
