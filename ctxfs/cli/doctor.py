"""The command doctor: checks of everything that ctxfs needs, each with the command that repairs a fault."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

import click

from ctxfs.cli.options import json_option
from ctxfs.cli.output import count_noun, print_json, print_line
from ctxfs.daemon.session import session
from ctxfs.index.indexer_status import index_fault
from ctxfs.model.errors import EXIT_UNHEALTHY, CommandError
from ctxfs.model.installation import find_installer, install_command, missing_modules
from ctxfs.store.layout import find_store
from ctxfs.store.lost_and_found import list_stray_files
from ctxfs.store.settings import Settings
from ctxfs.versions.objects.git_process import run_git

_MAX_SHOWN = 5


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
    checks += _check_shared(store)
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


def _read_settings(store: str | None) -> Settings:
    """Return the settings of the store; the defaults if there is none."""
    from ctxfs.store.config import read_settings

    try:
        return read_settings(find_store(store).config)
    except CommandError:
        return Settings()


def _check_python(store: str | None) -> str:
    return f"{sys.version.split()[0]} at {sys.executable}; ctxfs was installed by {find_installer().value}"


def _check_fuse(store: str | None) -> str:
    from ctxfs.fuse.mounting import check_fuse

    check_fuse()
    return "fusermount3 and /dev/fuse are usable"


def _check_pyfuse3(store: str | None) -> str:
    from ctxfs.fuse.mounting import check_library

    if missing_modules("fuse") and _read_settings(store).mount.loop == "direct":
        return f'not installed: only mount.loop = "trio" needs it ({install_command("fuse")})'
    return f"pyfuse3 {check_library()}"


def _check_graph(store: str | None) -> str:
    if missing_modules("graph"):
        limit = _read_settings(store).index.exact_below
        return (
            f"hnswlib is not installed: search is exact, and slower above {limit} vectors ({install_command('graph')})"
        )
    return "hnswlib is installed"


def _check_loop(store: str | None) -> str:
    from ctxfs.fuse.transports import load_fastpath

    module, reason = load_fastpath()
    return "compiled" if module is not None else f"in Python: {reason}; files open slower"


def _check_model(store: str | None) -> str:
    from ctxfs.index.engines.embedders import open_embedder
    from ctxfs.services.sources import embedder_of

    spec = embedder_of(_read_settings(store))
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
    if fault := index_fault(index):
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


def _check_shared(store: str | None) -> list[Check]:
    """Return the checks of a node of a shared store; none for a store that is not shared."""
    try:
        with session(store) as opened:
            rows = opened.call("shared_health")
    except (OSError, CommandError):
        return []  # the check `store` or `index` names the fault
    return [Check(f"shared {row['name']}", row["is_ok"], row["detail"], row["remedy"]) for row in rows]


_CHECKS: dict[str, Callable[[str | None], str]] = {
    "python": _check_python,
    "fuse": _check_fuse,
    "pyfuse3": _check_pyfuse3,
    "request loop": _check_loop,
    "model": _check_model,
    "graph": _check_graph,
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
