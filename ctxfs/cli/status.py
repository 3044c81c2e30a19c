"""The commands status, doctor and version: the state of a store, and remedies for its faults."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from ctxfs import __version__
from ctxfs.cli.options import json_option
from ctxfs.cli.output import count_noun, print_json, print_line
from ctxfs.daemon.session import session
from ctxfs.index.indexer_status import format_remaining, parse_indexer_status
from ctxfs.mcp_client.server_status import CONNECTING, READY, server_status_from_wire
from ctxfs.model.errors import EXIT_UNHEALTHY, CommandError
from ctxfs.store.layout import find_store
from ctxfs.store.lost_and_found import list_stray_files
from ctxfs.versions.objects.git_process import run_git

_MAX_SHOWN = 5


@click.command()
@json_option()
@click.option(
    "--wait",
    is_flag=False,
    flag_value="words",
    type=click.Choice(["words", "meaning"]),
    help="Wait until all is searchable [default: words]",
)
@click.option(
    "--timeout", default=600.0, show_default=True, type=click.FloatRange(min=0), help="Maximum wait in seconds"
)
@click.pass_obj
def status(store: str | None, as_json: bool, wait: str | None, timeout: float) -> None:
    """Show mounts, index, versions and faults

    Exit code 6 when the index is down, 7 when --wait ends before it has caught up.
    """
    if wait:
        from ctxfs.cli.progress import follow_index

        follow_index(find_store(store), wait, timeout)
    with session(store) as opened:
        report = opened.call("status")
    if as_json:
        print_json(report)
    else:
        _print_status(report)
    if _index_fault(report["index"]):
        sys.exit(EXIT_UNHEALTHY)


def _index_fault(index: dict[str, Any]) -> str:
    """Return the reason why the index does not follow the files; empty if it does, or soon will."""
    text = str(index.get("state", ""))
    status = parse_indexer_status(text)
    return text if status is not None and status.has_failed else str(index["damaged"])


def _print_status(report: dict[str, Any]) -> None:
    index = report["index"]
    print_line(f"store      {report['store']}")
    print_line(f"you are    {report['principal']}")
    _print_mounts(report)
    for source in report["sources"]:
        is_ok = source["state"] == "ok"
        print_line(
            f"source     {source['at']:<24} {source['path']}  {'' if is_ok else source['state']}",
            fg=None if is_ok else "red",
        )
    _print_index(index)
    _print_versions(report["versions"])
    _print_rules(report)
    _print_capture(report["capture"])
    if report["review"]["waiting"]:
        print_line(f"review     {report['review']['waiting']} doubts wait for you: ctxfs review", fg="yellow")
    if report["citations"]["broken"]:
        print_line(_describe_broken(report["citations"]), fg="yellow")
    for name, value in report["tools"]["servers"].items():
        status = server_status_from_wire(value)
        print_line(f"server     tools/{name}: {status.text}", fg=None if status in (READY, CONNECTING) else "red")
    if not report["tools"]["shut_in"]:
        print_line(
            "tools      they see this machine as you do: bubblewrap is not there, does not work here, or walls are off",
            fg="yellow",
        )
    for path, lines in report["secrets"].items():
        print_line(f"secret?    {path}, {'; '.join(lines[:3])}", fg="yellow")


def _print_versions(versions: dict[str, Any]) -> None:
    if versions["state"] == "ok":
        print_line(
            f"versions   {versions['commits']}, the newest {versions['newest'][:8]} of {versions['at']}; "
            f"{count_noun(versions['snapshots'], 'snapshot')}"
        )
    elif versions["state"] != "closed":
        print_line(f"versions   {versions['state']}", fg="yellow")
    if versions.get("unrecorded"):
        print_line(f"           the newest changes have no version yet: {versions['unrecorded']}", fg="yellow")
    for reason, count in versions.get("scratch", {}).items():
        print_line(f"           {count} without versions: {reason}")
    for path, reason in versions.get("unversioned", {}).items():
        print_line(f"unversioned {path}: {reason}", fg="yellow")


def _describe_broken(citations: dict[str, Any]) -> str:
    count, example = citations["broken"], citations["examples"][0]
    return f"cites      the sources of {count_noun(count, 'file')} no longer hold, as of {example}: ctxfs check"


def _print_rules(report: dict[str, Any]) -> None:
    """Print the faults of the files of rules, and the memories that do not fit these."""
    _print_kinds(report["memory"])
    for name in ("policy", "memory"):
        if fault := report[name]["fault"]:
            stays = "" if name == "memory" else "the last good rules stay: "
            print_line(f"{name}     {stays}{fault}", fg="red")


def _print_kinds(memory: dict[str, Any]) -> None:
    """Print the memories that do not fit the rules of their kind. They are stored and searched all the same."""
    for path, remark in list(memory["remarks"].items())[:_MAX_SHOWN]:
        print_line(f"kind?      {path}, {remark}", fg="yellow")
    if memory["remarked"] > _MAX_SHOWN:
        print_line(f"           and {memory['remarked'] - _MAX_SHOWN} more: ctxfs status --json")


def _print_capture(capture: dict[str, int]) -> None:
    """Print the numbers of captured events that are not in the history; nothing if there are none."""
    if capture["waiting"]:
        print_line(
            f"capture    {count_noun(capture['waiting'], 'event')} of clients waiting: the daemon, or ctxfs history, records them"
        )
    if capture["dropped"]:
        print_line(
            f"capture    {count_noun(capture['dropped'], 'event')} lost: the spool or the disk was full", fg="red"
        )


def _print_mounts(report: dict[str, Any]) -> None:
    for mount in report["mounts"]:
        print_line(
            f"mounted    {mount['at']}  as {mount['principal']}{', read only' if mount['read_only'] else ''}",
            fg="green",
        )
        if mount.get("fault"):
            print_line(f"           {mount['fault']}", fg="red")
    for stray in report["found"]:
        print_line(f"found      {stray}", fg="yellow")


def _print_index(index: dict[str, Any]) -> None:
    print_line(
        f"index      {index.get('state', 'no daemon: as of the last run')}", fg="red" if _index_fault(index) else None
    )
    if index.get("behind") and not _index_fault(index):
        print_line(f"           {index['behind']}", fg="yellow")
    embedded = index["embeddable"] - index["waiting_for_meaning"]
    print_line(
        f"words      {index['searchable']} of {count_noun(index['files'], 'file')}, {count_noun(index['chunks'], 'chunk')}"
    )
    remaining = format_remaining(index["waiting_for_meaning"], index.get("chunks_per_second", 0.0))
    print_line(
        f"meaning    {count_noun(embedded, 'chunk')} embedded, {index['waiting_for_meaning']} waiting{remaining}"
    )
    if index.get("model"):
        device = f", on {index['device']}" if index.get("device") else ""
        print_line(f"           by {index['model']}{device}")
    if index.get("anew"):
        print_line(
            f"           {index['anew']} chunks embedded anew, by the model of ctxfs.toml; until then that one answers"
        )
    for fault in dict.fromkeys((index["meaning"], index.get("waits", ""))):
        if fault not in ("ok", ""):
            print_line(f"           {fault}", fg="yellow")
    if index["damaged"]:
        print_line(f"damaged    {index['damaged']}", fg="red")
    _print_left_out(index)
    for root, fault in index.get("watch", {}).items():
        print_line(f"watch      {root}: {fault}", fg="yellow")


def _print_left_out(index: dict[str, Any]) -> None:
    """Print the numbers of files and folders that are not searched, or in part, or by words only."""
    for name, count in index["ignored_folders"].items():
        print_line(f"ignored    {count} {'folder' if count == 1 else 'folders'}: {name}")
    for reason, count in index["noise"].items():
        print_line(f"by words   {count} {'file' if count == 1 else 'files'}, never embedded: {reason}")
    for note, count in index["skipped"].items():
        print_line(f"skipped    {count} {'file' if count == 1 else 'files'}: {note}")
    if index.get("partial"):
        print_line(f"in part    {count_noun(index['partial'], 'file')}: larger than index.max_file_bytes")
    if index["skipped_files"]:
        print_line("           which: ctxfs cat .ctxfs/skipped.jsonl")


@dataclass(frozen=True, slots=True)
class Check:
    """One result of doctor; `remedy` is the repair if it is not `ok`."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


@click.command()
@json_option()
@click.pass_obj
def doctor(store: str | None, as_json: bool) -> None:
    """Check all that ctxfs needs

    Each fault comes with the command that repairs it. Exit code 6 if there is any.
    """
    checks = [_run_check(name, check, store) for name, check in _CHECKS.items()]
    if as_json:
        print_json([{"name": c.name, "ok": c.ok, "detail": c.detail, "remedy": c.remedy} for c in checks])
    else:
        for check in checks:
            print_line(
                f"{'ok ' if check.ok else 'BAD'} {check.name:<12} {check.detail}", fg="green" if check.ok else "red"
            )
            if not check.ok and check.remedy:
                print_line(f"    → {check.remedy}")
    if not all(check.ok for check in checks):
        sys.exit(EXIT_UNHEALTHY)


def _run_check(name: str, check: Callable[[str | None], str], store: str | None) -> Check:
    try:
        return Check(name, True, check(store))
    except CommandError as error:
        return Check(name, False, error.message, error.remedy)
    except OSError as error:
        return Check(name, False, f"{error.filename or ''}: {error.strerror}", "check permissions and free space")


def _check_python(store: str | None) -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _check_fuse(store: str | None) -> str:
    from ctxfs.fuse.mounting import check_fuse

    check_fuse()
    return "fusermount3 and /dev/fuse are usable"


def _check_pyfuse3(store: str | None) -> str:
    from ctxfs.fuse.mounting import check_library

    return f"pyfuse3 {check_library()}"


def _check_loop(store: str | None) -> str:
    from ctxfs.fuse.transports import load_fastpath

    module, reason = load_fastpath()
    return "compiled" if module is not None else f"in Python: {reason}; files open slower"


def _check_model(store: str | None) -> str:
    from ctxfs.index.engines.embedders import open_embedder
    from ctxfs.services.sources import embedder_of
    from ctxfs.store.config import read_settings
    from ctxfs.store.settings import Settings

    try:
        settings = read_settings(find_store(store).config)
    except CommandError:
        settings = Settings()
    spec = embedder_of(settings)
    if spec is None:
        return "search by meaning is switched off (index.meaning = false)"
    embedder = open_embedder(spec, 1)
    embedder.embed_query("does it answer?")
    return f"{spec.url or spec.folder} gives vectors of {embedder.dimensions} numbers"


def _check_store(store: str | None) -> str:
    from ctxfs.store.config import read_settings

    layout = find_store(store)
    settings = read_settings(layout.config)
    for source in settings.sources:
        if not os.path.isdir(source.path):
            raise CommandError(
                f"the folder of knowledge/{source.name} is gone: {source.path}",
                f"bring it back, or: ctxfs remove {source.name}",
            )
    return f"{layout.root}, {count_noun(len(settings.sources), 'source')}"


def _check_index(store: str | None) -> str:
    with session(store) as opened:
        index = opened.call("status")["index"]
    if fault := _index_fault(index):
        raise CommandError(
            f"search does not follow the files: {fault}",
            "mend the cause (a full disk, permissions below <store>/index); it goes on by itself. See <store>/run/daemon.log",
        )
    behind = f"; {index['behind']}" if index.get("behind") else ""
    return f"{index['searchable']} of {count_noun(index['files'], 'file')} found by words{behind}"


def _check_disk(store: str | None) -> str:
    free = shutil.disk_usage(find_store(store).root).free
    if free < 200_000_000:
        raise CommandError(f"only {free // 1_000_000} MB are free under the store", "make room on that disk")
    return f"{free // 1_000_000_000} GB free"


def _check_mounts(store: str | None) -> str:
    from ctxfs.fuse.mounting import dead_mounts

    if dead := dead_mounts():
        raise CommandError(
            f"a dead mount is left at {dead[0]}", f"serve it again: ctxfs mount {dead[0]}; or: ctxfs unmount {dead[0]}"
        )
    return "no dead mounts"


def _check_found(store: str | None) -> str:
    """Raise CommandError for stray files, which wait for the decision of a person."""
    for stray in list_stray_files(find_store(store).root):
        raise CommandError(stray.text, stray.remedy)
    return "nothing was written below a mount"


def _check_watches(store: str | None) -> str:
    with open("/proc/sys/fs/inotify/max_user_watches", encoding="ascii") as file:
        allowed = int(file.read())
    if allowed < 8192:
        raise CommandError(
            f"only {allowed} folders can be watched for changes", "as root: sysctl fs.inotify.max_user_watches=524288"
        )
    return f"{allowed} folders can be watched"


def _check_versions(store: str | None) -> str:
    """Check that git is installed, and that the newest version is complete."""
    if shutil.which("git") is None:
        raise CommandError("git is not installed: it keeps the versions", "apt-get install git")
    repo = find_store(store).repo
    if not repo.is_dir():
        return "none yet"
    try:
        run_git(["fsck", "--connectivity-only", "--no-dangling", "--no-progress"], repo=repo)
    except OSError as error:
        raise CommandError(
            f"the repository is damaged: {(error.strerror or '').splitlines()[0]}",
            "restart the daemon: it goes back to the last whole version and keeps the files",
        ) from error
    return f"{repo} is whole"


def _check_unversioned(store: str | None) -> str:
    with session(store) as opened:
        reasons = opened.call("status")["versions"].get("unversioned", {})
    if reasons:
        path, reason = next(iter(reasons.items()))
        raise CommandError(
            f"{len(reasons)} files have no version as they are now, as '{path}': {reason}",
            "see: ctxfs status; make them readable or smaller, or raise versions.max_file_bytes",
        )
    return "every file that was looked at has its version"


def _check_citations(store: str | None) -> str:
    with session(store) as opened:
        citations = opened.call("status")["citations"]
    if citations["broken"]:
        raise CommandError(
            f"the sources of {count_noun(citations['broken'], 'file')} no longer hold, as of '{citations['examples'][0]}'",
            "see: ctxfs check; then correct the file, or cite again: ctxfs cite FILE SOURCE:LINES",
        )
    return f"{count_noun(citations['checked'], 'file')} with citations agree with their sources"


def _check_policy(store: str | None) -> str:
    with session(store) as opened:
        policy = opened.call("policy")
    if policy["fault"]:
        raise CommandError(
            policy["fault"], "mend it: ctxfs policy edit, or ctxfs.toml; until then the last good rules hold"
        )
    return f"{count_noun(len(policy['rules']), 'rule')}"


def _check_memory(store: str | None) -> str:
    with session(store) as opened:
        memory = opened.call("status")["memory"]
    if memory["fault"]:
        raise CommandError(memory["fault"], "mend it: .ctxfs/memory.toml")
    more = "" if memory["complete"] else " so far"
    checked = f"{count_noun(memory['kinds'], 'kind')}; memories checked{more}: {memory['checked']}"
    if not memory["remarked"]:
        return checked
    shown = "; ".join(f"{path} ({remark})" for path, remark in list(memory["remarks"].items())[:_MAX_SHOWN])
    return f"{checked}, of which {memory['remarked']} do not fit their kind: {shown}"


_CHECKS: dict[str, Callable[[str | None], str]] = {
    "python": _check_python,
    "fuse": _check_fuse,
    "pyfuse3": _check_pyfuse3,
    "request loop": _check_loop,
    "model": _check_model,
    "store": _check_store,
    "versions": _check_versions,
    "unversioned": _check_unversioned,
    "policy": _check_policy,
    "memory": _check_memory,
    "citations": _check_citations,
    "index": _check_index,
    "disk": _check_disk,
    "mounts": _check_mounts,
    "found": _check_found,
    "watches": _check_watches,
}


@click.command()
def version() -> None:
    """Print the version"""
    print_line(f"ctxfs {__version__}")
