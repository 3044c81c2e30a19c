"""The commands record and history: append to the event log, read it, and verify its chains."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from ctxfs.cli import completion_values
from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import json_option, limit_option, principal_option, yes_option
from ctxfs.cli.output import count_noun, print_json, print_line, print_lines, warn, write_bytes
from ctxfs.cli.sessions import (
    day,
    no_pager_option,
    replay_session,
    search_records,
    session_argument,
    sessions,
    show_session,
)
from ctxfs.daemon.session import StoreSession
from ctxfs.daemon.session import session as opened_session
from ctxfs.eventlog.record_schema import KINDS
from ctxfs.model.errors import EXIT_FAILURE, EXIT_NOTHING_FOUND, EXIT_USAGE, CommandError

_FOLLOW_SECONDS = 30.0
_FOLLOW_FIRST = 20  # operations before the first new one


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
    content = text if text is not None and text != "-" else sys.stdin.buffer.read().decode("utf-8-sig", "replace")
    if jsonl:
        # Only a line feed ends a record: strings may contain other line separators, such as U+2028.
        records = [_parse_object(line, number) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    elif not content.strip():
        records = []
    else:
        entry: dict[str, Any] = {"kind": kind, "text": content.rstrip("\n")}
        if origin:
            entry["origin"] = origin
        if model:
            entry["model"] = {"name": model, **({"version": model_version} if model_version else {})}
        records = [entry]
    if not records:
        warn("there is no text: nothing is recorded")
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)
    with opened_session(store) as opened:
        if principal:
            opened.call("join", principal=principal, tool="record")
        numbers = opened.call(
            "record", said=records, session=session or os.environ.get("CTXFS_SESSION", ""), in_shell=True
        )
    print_line(f"record {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} records")


def _parse_object(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise CommandError(f"line {number} is not JSON: {error}", "give an object a line", EXIT_USAGE) from error
    if not isinstance(value, dict):
        raise CommandError(f"line {number} is not a JSON object", "give an object a line", EXIT_USAGE)
    return value


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


def _with_filters(command: Any) -> Any:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@history.command()
@session_argument
@_with_filters
@no_pager_option
@json_option("Print a JSON object a line")
@click.pass_context
def show(
    ctx: click.Context, name: str, session: str, principal: str, day: str, kind: str, limit: int, no_pager: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Print a session as turns, or records

    SESSION, or the beginning of its name, prints its turns: speaker, time and text, with a line for each record of a
    tool. Without it, records are printed a line each, oldest first.
    """
    store: str | None = ctx.obj
    if name:
        _refuse_filters(session, principal, day, kind)
        show_session(store, name, _given_limit(ctx, limit), is_whole=False, as_json=as_json, no_pager=no_pager)
        return
    for entry in _fetch_records(store, session, principal, day, kind, limit):
        if as_json:
            write_bytes((json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
        else:
            session_name, by = entry.get("session", "-"), _principal_of(entry)
            print_line(f"{entry['seq']:>6}  {entry.get('at', '')[:19]}  {session_name}  {by}  {_one_line_text(entry)}")


@history.command()
@session_argument
@_with_filters
@click.option("--speed", type=click.FloatRange(0, min_open=True), metavar="X", help="Wait as it was, X times as fast")
@json_option("Print a JSON object a line")
@click.pass_context
def replay(
    ctx: click.Context, name: str, session: str, principal: str, day: str, kind: str, limit: int, speed: float | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Print the full texts of records

    They come in their order in the log: a conversation to read or to feed to a model, with the calls of tools and
    their results. SESSION may be the beginning of a name.
    """
    store: str | None = ctx.obj
    if name:
        _refuse_filters(session, principal, day, kind)
        replay_session(store, name, _given_limit(ctx, limit), speed=speed or 0.0, as_json=as_json)
        return
    if speed or as_json:
        raise CommandError("--speed and --json need a session", "name it: ctxfs history replay SESSION", EXIT_USAGE)
    for entry in _fetch_records(store, session, principal, day, kind, limit):
        model = entry.get("model")
        model_name = f" ({' '.join(str(v) for v in model.values())})" if isinstance(model, dict) else ""
        print_line(
            f"--- {entry.get('at', '')[:19]} {_principal_of(entry)} {entry.get('kind', 'forgotten')}{model_name}"
        )
        print_lines(_full_text(entry))


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

    The chains reveal edits, gaps and reordering. The anchors in versions reveal a cut end, and chains that were
    rewritten as a whole. In a shared store the log has anchors of all nodes: the chains of this one are verified, those of
    others have to advance, and are verified on their node. Exit code 1 if there are faults, or if the log cannot be read.
    """
    with opened_session(store) as opened:
        report = opened.call("verify_history", remote=remote)
    if as_json:
        print_json(report)
    else:
        for fault in report["faults"]:
            warn(f"{fault['where']}: {fault['what']}")
        _print_anchors(report["anchors"], remote)
        _print_nodes(report["nodes"], report["log_fault"])
        erased = f", {report['forgotten']} of them forgotten" if report["forgotten"] else ""
        state = f"{len(report['faults'])} faults" if report["faults"] else "the chains are whole"
        print_line(f"{report['records']} records{erased}, {report['audited']} of the audit: {state}")
    if report["faults"] or report["log_fault"] or any(node["faults"] for node in report["nodes"]):
        raise click.exceptions.Exit(EXIT_FAILURE)


def _print_nodes(nodes: list[dict[str, Any]], log_fault: str) -> None:
    """Print the result for the chains of each node of a shared store; nothing for a store that is not shared."""
    if log_fault:
        warn(f"the anchors of the nodes cannot be checked: {log_fault}")
    for node in nodes:
        for fault in node["faults"]:
            warn(f"node {node['node']}: {fault}")
        up_to = node["up_to"]
        print_line(
            f"node {node['node']}: {node['state']}, {node['anchors']} entries of the log name records up to "
            f"{up_to['events']}, of the audit {up_to['audit']}"
        )


def _print_anchors(anchors: dict[str, Any], remote: str) -> None:
    """Print the evidence of the anchors, and its limits."""
    where = f"versions at {remote}" if remote else "versions here"
    if not anchors["versions"]:
        print_line(f"{where} name no record: nothing tells whether the chains were cut or written again as a whole")
        return
    up_to, newer = anchors["up_to"], anchors["unanchored"]
    print_line(
        f"{anchors['versions']} {where} since {anchors['since']} name records up to {up_to['events']}, of the audit "
        f"{up_to['audit']}; {newer['events']} and {newer['audit']} newer ones are not named yet"
    )
    if anchors["of_other_stores"]:
        print_line(f"{anchors['of_other_stores']} of these versions are of other stores: check their chains there")
    if anchors["has_key"]:
        print_line(f"{anchors['sealed']} are sealed with the key, since {anchors['sealed_since'] or 'never'}")
    elif not remote:
        print_line(
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
@click.option("--follow", is_flag=True, help="Print operations as they happen, until Ctrl-C")
@limit_option("operations, the newest", default=1000)
@json_option("Print a JSON object a line")
@click.pass_obj
def audit(
    store: str | None, path: str, session: str, principal: str, day: str, op: str, refused: bool, follow: bool,
    limit: int, as_json: bool,
) -> None:  # fmt: skip
    """Print the operations of the audit

    The output has the reads, writes, moves, removals and questions at PATH and below, or everywhere, with the refused
    ones.

    The audit contains a digest of each question only. Give the words of a question as PATH to list those who had the
    same.
    """
    outcome = "EACCES" if refused else ""
    if follow and (path or session or day):
        raise CommandError("--follow has no path, session and day", "use --principal, --op or --refused", EXIT_USAGE)
    with opened_session(store) as opened:
        if follow:
            _follow(opened, as_json=as_json, principal=principal, op=op, outcome=outcome)
        filters = {"session": session, "principal": principal, "day": day, "op": op, "path": path, "limit": limit}
        operations = opened.call("audit", **filters, outcome=outcome)
    for operation in operations:
        _print_operation(operation, as_json=as_json)
    if not operations:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


def _follow(opened: StoreSession, *, as_json: bool, **filters: str) -> NoReturn:
    """Print new operations until the command is interrupted."""
    last = -1
    while True:
        answer = opened.call("follow_audit", after=last, wait=_FOLLOW_SECONDS, limit=_FOLLOW_FIRST, **filters)
        last = answer["last"]
        for operation in answer["records"]:
            _print_operation(operation, as_json=as_json)
        sys.stdout.flush()


def _print_operation(operation: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_bytes((json.dumps(operation, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
        return
    outcome = "" if operation["outcome"] == "ok" else f"  {operation['outcome']}"
    where = " → ".join(str(operation[name]) for name in ("path", "to") if name in operation)
    times = f"  × {operation['times']}" if "times" in operation else ""
    session_name, by = operation.get("session", "-"), _principal_of(operation)
    print_line(f"{operation['at'][:19]}  {by}  {session_name}  {operation['op']:<8} {where}{times}{outcome}")


@history.command()
@json_option()
@click.pass_obj
def activity(store: str | None, as_json: bool) -> None:
    """Count the operations of the last hour

    Of each principal: reads, writes, questions and refusals, with the time of the last one (UTC).
    """
    with opened_session(store) as opened:
        answer = opened.call("activity")
    if as_json:
        print_json(answer)
        return
    for row in answer["principals"]:
        counts = "  ".join(f"{row[name]:>7} {name}" for name in ("reads", "writes", "questions", "refused"))
        print_line(f"{row['last'][:19]}  {row['principal']:<24}{counts}")
    if not answer["complete"]:
        warn("the hour has more operations than these: only the newest are counted")
    if not answer["principals"]:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


@history.command()
@click.argument("session", shell_complete=completion_values.history_sessions)
@yes_option("Confirm: the erasure cannot be undone")
@click.pass_obj
def forget(store: str | None, session: str, yes: bool) -> None:
    """Erase the records of a session

    Their entries stay in the chain without content, and a record names the principal that erased them.
    """
    if not yes:
        raise CommandError("this cannot be undone", f"to do it: ctxfs history forget --yes {session}", EXIT_USAGE)
    with opened_session(store) as opened:
        print_line(f"{opened.call('forget_history', session=session)} records forgotten")


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
        print_line(f"{count_noun(opened.call('pack_history', days=days), 'file')} packed")


def _given_limit(ctx: click.Context, limit: int) -> int | None:
    """Return the limit that the command line gives; None if it gives none, for all records of a session."""
    is_default = ctx.get_parameter_source("limit") is click.core.ParameterSource.DEFAULT
    return None if is_default else limit


def _refuse_filters(*values: str) -> None:
    if any(values):
        raise CommandError("a session and filters exclude each other", "use --session with other filters", EXIT_USAGE)


for _command in (sessions, day, search_records):
    history.add_command(_command)


def _fetch_records(
    store: str | None, session: str, principal: str, day: str, kind: str, limit: int
) -> list[dict[str, Any]]:
    with opened_session(store) as opened:
        filters = {"session": session, "principal": principal, "day": day, "kind": kind, "limit": limit}
        records: list[dict[str, Any]] = opened.call("history", **filters)
    if not records:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)
    return records


def _principal_of(entry: Mapping[str, Any]) -> str:
    return str(entry.get("principal", "-"))


def _full_text(entry: Mapping[str, Any]) -> str:
    if "forgotten" in entry:
        return f"(forgotten by {entry['forgotten'].get('by')})"
    shown = ("seq", "at", "session", "principal", "kind", "text", "model")
    rest = {name: value for name, value in entry.items() if name not in shown}
    return "\n".join(filter(None, (str(entry.get("text", "")), json.dumps(rest, ensure_ascii=False) if rest else "")))


def _one_line_text(entry: Mapping[str, Any]) -> str:
    return f"{entry.get('kind', '')}: {' '.join(_full_text(entry).split())[:160]}"
