"""The command import: add the transcripts of other clients to the event log, or a bundle to the tree."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import json_option, principal_option
from ctxfs.cli.output import count_noun, print_json, print_line, warn
from ctxfs.daemon.session import StoreSession
from ctxfs.daemon.session import session as opened_session
from ctxfs.model.errors import EXIT_FAILURE, EXIT_NOTHING_FOUND, EXIT_USAGE, CommandError
from ctxfs.transcripts.archive import ExportFile, list_exports
from ctxfs.transcripts.importer import Choice, Importer, Report, SessionState
from ctxfs.transcripts.json_lines import parse_map
from ctxfs.transcripts.message import parse_said_at
from ctxfs.transcripts.sources import Source, default_folder, list_transcripts

_PROGRAMS = ("claude-code", "codex", "gemini")
_EXPORTS = ("chatgpt", "claude")
_LINES = "jsonl"
_BUNDLE = "bundle"
_MAX_LISTED = 10
_EXIT_INTERRUPTED = 130  # as shells report SIGINT


class _StoreTarget:
    """The event log of a store, through its methods."""

    def __init__(self, store: StoreSession) -> None:
        self._store = store

    def state(
        self, session: str, ids: Sequence[bytes], *, with_captured: bool = False, with_inputs: bool = False
    ) -> SessionState:
        """Return the state of a session."""
        state = self._store.call(
            "import_state", session=session, ids=list(ids), with_captured=with_captured, with_inputs=with_inputs
        )
        captured = [(str(kind), str(text)) for kind, text in state["captured"]]
        return SessionState(frozenset(state["known"]), str(state["erased_at"]), captured)

    def append(self, session: str, records: Sequence[Mapping[str, Any]]) -> int:
        """Append records that the log does not have yet; return their number."""
        return len(self._store.call("import_messages", session=session, messages=[*records]))


@click.command(name="import")
@click.argument("client", type=click.Choice((*_PROGRAMS, *_EXPORTS, _LINES, _BUNDLE)))
@click.argument("source", required=False, default="", type=click.Path())
@click.option("--since", default="", metavar="TIME", help="Oldest time: an age such as 7d, or a date")
@click.option("--project", default="", metavar="DIR", type=click.Path(), help="Limit to a folder that was worked in")
@click.option(
    "--map",
    "pairs",
    multiple=True,
    metavar="MEMBER=PATH",
    shell_complete=completion_values.transcript_members,
    help="Member of JSON lines, such as text=content",
)
@principal_option("Principal of the records, such as agent:ada [default: you]", default="")
@click.option("--to", default="", metavar="PATH", help="Directory of a bundle [default: as exported]")
@click.option("--dry-run", is_flag=True, help="Count, and add nothing")
@json_option()
@click.pass_obj
def import_transcripts(
    store: str | None, client: str, source: str, since: str, project: str, pairs: tuple[str, ...], principal: str,
    to: str, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Import transcripts, or a bundle

    "import bundle FILE" adds the files of a bundle to the tree as one version (ctxfs export). They are untrusted,
    unless a key in allowed_signers of the store has signed it.

    Otherwise SOURCE is the folder of claude-code, codex or gemini [default: the client's own], the export (a zip file) of
    chatgpt or claude, or a file of JSON lines. A second import adds only new messages. The source is never changed.
    """
    if client == _BUNDLE:
        _import_bundle(store, source, to, (since, project, *pairs, principal), dry_run=dry_run, as_json=as_json)
        return
    if to:
        raise click.UsageError("--to is the directory of a bundle")
    choice = Choice(_parse_since(since), os.path.abspath(os.path.expanduser(project)) if project else "", dry_run)
    sources, links, faults = _list_sources(client, source, pairs)
    if not sources and not faults:
        raise CommandError(
            f"'{source or default_folder(client)}' has no transcript of {client}",
            f"name its folder or file: ctxfs import {client} PATH",
            EXIT_NOTHING_FOUND,
        )
    report, is_complete = _import_all(store, principal, choice, sources)
    report.faults[:0] = faults
    if as_json:
        print_json(_as_plain(report, links, dry_run))
    else:
        _print_report(report, links, dry_run)
    if not is_complete:
        warn("interrupted: the same command continues the import")
        raise click.exceptions.Exit(_EXIT_INTERRUPTED)
    if report.faults or report.refused:
        raise click.exceptions.Exit(EXIT_FAILURE)


def _import_bundle(
    store: str | None, source: str, to: str, others: Sequence[str], *, dry_run: bool, as_json: bool
) -> None:
    from pathlib import Path as HostPath

    from ctxfs.cli.bundles import import_bundle

    if any(others) or dry_run:
        raise click.UsageError("a bundle takes --to and --json only")
    if not source:
        raise click.UsageError("name the file or the directory of the bundle")
    import_bundle(store, HostPath(source), to, as_json)


def _import_all(store: str | None, principal: str, choice: Choice, sources: Sequence[Source]) -> tuple[Report, bool]:
    """Import the transcripts; return the report, and False if the user interrupted the import."""
    from ctxfs.cli.progress import byte_bar

    with opened_session(store) as opened:
        if principal:
            opened.call("join", principal=principal, tool="import")
        importer = Importer(_StoreTarget(opened), choice)
        with byte_bar(sum(source.size for source in sources), "import") as progress:
            try:
                for transcript in sources:
                    importer.read(transcript, progress)
            except KeyboardInterrupt:
                return importer.report, False
    return importer.report, True


def _parse_since(text: str) -> str:
    from ctxfs.index.query import parse_time

    if not text:
        return ""
    nanoseconds = parse_time(text, datetime.now(UTC))
    if nanoseconds is None:
        raise CommandError(f"'{text}' is no time", "give an age such as 7d, or a date such as 2026-11-01", EXIT_USAGE)
    return parse_said_at(nanoseconds / 1e9)


def _list_sources(
    client: str, source: str, pairs: tuple[str, ...]
) -> tuple[Sequence[Source], list[str], list[tuple[str, str]]]:
    """Return the transcripts, the links that are not followed, and the (name, reason) of files that are not read."""
    if pairs and client != _LINES:
        raise CommandError(f"the format of {client} is fixed", "leave out --map", EXIT_USAGE)
    if client in _PROGRAMS:
        folder = os.path.expanduser(source) if source else default_folder(client)
        if not os.path.exists(folder):
            raise CommandError(
                f"'{folder}' does not exist", f"name the folder: ctxfs import {client} DIR", EXIT_NOTHING_FOUND
            )
        listed = list_transcripts(client, folder)
        return listed.files, listed.links, listed.faults
    if not source:
        raise CommandError(f"the file of {client} is missing", f"ctxfs import {client} FILE", EXIT_USAGE)
    path = os.path.expanduser(source)
    try:
        if client == _LINES:
            status = os.stat(path)
            return [ExportFile(path, client, status.st_size, status.st_mtime, map_names=parse_map(pairs))], [], []
        exports, faults = list_exports(client, path)
    except OSError as error:
        raise CommandError(f"'{source}' cannot be read: {error.strerror}", "check the file and its name") from error
    return exports, [], faults


def _as_plain(report: Report, links: Sequence[str], dry_run: bool) -> dict[str, Any]:
    pairs = {"faults": report.faults, "damaged": report.damaged}
    return {
        "dry_run": dry_run,
        "files": report.files,
        "sessions": len(report.sessions),
        "messages": report.messages,
        "added": report.added,
        "already_there": report.already_there,
        "captured": report.captured,
        "not_chosen": report.not_chosen,
        "erased": report.erased,
        "withheld": dict(report.cleaned.secrets),
        "private": report.cleaned.private,
        "cut": report.cleaned.cut,
        "binary": report.cleaned.binary,
        "left_out": dict(report.left_out.numbers.most_common()),
        **{name: [{"file": file, "reason": reason} for file, reason in items] for name, items in pairs.items()},
        "unfinished": report.unfinished,
        "links": list(links),
        "refused": sorted(report.refused),
    }


def _print_report(report: Report, links: Sequence[str], dry_run: bool) -> None:
    _warn_listed([f"{file}: {reason}" for file, reason in report.faults], "files that cannot be read")
    _warn_listed([f"{file}: {reason}" for file, reason in report.damaged], "damaged lines")
    _warn_listed([f"{name}: a link, which is not followed" for name in links], "links")
    _warn_listed([f"{name}: the session belongs to another principal" for name in sorted(report.refused)], "sessions")
    for name in report.unfinished[:_MAX_LISTED]:
        print_line(f"{name}: the last line is not complete yet, and is imported next time")
    verb = "would be added" if dry_run else "added"
    print_line(
        f"{count_noun(report.added, 'message')} {verb} of {report.messages}, from "
        f"{count_noun(report.files, 'file')} and {count_noun(len(report.sessions), 'session')}"
    )
    cleaned = report.cleaned
    numbers = (
        (report.already_there, "already in the history"),
        (report.captured, "recorded by hooks"),
        (report.not_chosen, "outside of --since and --project"),
        (report.erased, "older than an erasure in their session"),
        (cleaned.private, "with private parts removed"),
        (cleaned.secrets.total(), f"with secrets withheld ({', '.join(cleaned.secrets)})"),
        (cleaned.cut, "cut"),
        (cleaned.binary, "with binary content replaced"),
    )
    for number, text in numbers:
        if number:
            print_line(f"  {number} {text}")
    if left_out := report.left_out.numbers:
        items = [f"{number} {name}" for name, number in left_out.most_common(_MAX_LISTED)]
        more = ", …" if len(left_out) > _MAX_LISTED else ""
        print_line(f"  left out: {', '.join(items)}{more}")


def _warn_listed(lines: Sequence[str], noun: str) -> None:
    for line in lines[:_MAX_LISTED]:
        warn(line)
    if len(lines) > _MAX_LISTED:
        warn(f"{len(lines) - _MAX_LISTED} more {noun}")
