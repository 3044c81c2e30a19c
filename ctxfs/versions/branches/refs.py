"""The refs of branches: their names, their heads and starts, and their recovery after a power cut.

`refs/heads/branch/NAME` is the newest version of a branch. `refs/ctxfs/branch/NAME` is its first one, which has the tree
of the version that the branch began with; its author has created the branch. `ctxfs-branches` in the folder of the
repository has one line a branch, `<head> <name>`, of heads that were durable when it was written.
"""

import contextlib
import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path as HostPath

from ctxfs.model.errors import CommandError
from ctxfs.model.path import printable
from ctxfs.store.durable_file import replace_text
from ctxfs.versions.objects.git import Repository, is_oid
from ctxfs.versions.recording.ledger import Ledger
from ctxfs.versions.recording.recover import sync_file_system

log = logging.getLogger(__name__)

HEADS = "refs/heads/branch/"
STARTS = "refs/ctxfs/branch/"
START_OP = "branch"
_CHECKPOINT = "ctxfs-branches"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_branch_name(name: str) -> bool:
    """Return True for a text that can name a branch."""
    return bool(_NAME.fullmatch(name)) and not name.endswith((".lock", ".")) and ".." not in name


def check_branch_name(name: str) -> str:
    """Return a name of a branch. Raise `CommandError` for a text that cannot name one."""
    if not is_branch_name(name):
        raise CommandError(
            f"'{printable(name[:80])}' cannot name a branch",
            "use at most 64 letters, digits, '.', '_' and '-', and begin with a letter or digit",
            2,
        )
    return name


def own_branch_name(agent: str) -> str:
    """Return the name of the branch of an agent's own."""
    name = f"agent-{agent}"
    return name if is_branch_name(name) else f"agent-{hashlib.sha256(agent.encode()).hexdigest()[:16]}"


def list_heads(repo: Repository) -> dict[str, str]:
    """Return the newest revision of each branch, by its name. It starts no process: each checkpoint calls it."""
    packed = re.findall(rf"^([0-9a-f]{{40}}) {HEADS}(\S+)$", _read(repo.folder / "packed-refs"), re.MULTILINE)
    heads = {name: oid for oid, name in packed}
    for file in (repo.folder / HEADS).glob("*"):
        text = _read(file).strip()
        if is_oid(text):
            heads[file.name] = text
    return {name: oid for name, oid in heads.items() if is_branch_name(name)}


def _read(file: HostPath) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def read_head(repo: Repository, name: str) -> str | None:
    """Return the newest revision of a branch; None if there is no such branch."""
    return repo.read_ref(f"{HEADS}{name}") if is_branch_name(name) else None


def author_of(ledger: Ledger, name: str) -> str:
    """Return the principal that has created a branch; empty if that is not known."""
    start = ledger.repo.read_ref(f"{STARTS}{name}")
    return ledger.read_commit(start).actor.principal if start is not None else ""


def delete_refs(repo: Repository, name: str) -> None:
    """Delete the refs of a branch, if there are any. A kill in between leaves no branch, and a start to be replaced."""
    for prefix in (HEADS, STARTS):
        oid = repo.read_ref(f"{prefix}{name}")
        if oid is not None:
            repo.delete_ref(f"{prefix}{name}", oid)


def make_durable(repo: Repository, heads: Mapping[str, str], *, is_synced: bool) -> None:
    """Record heads of branches as durable, after they are on disk. `is_synced`: they were written before a syncfs(2)."""
    if heads == read_checkpoint(repo.folder):
        return
    if not is_synced:
        sync_file_system(repo.folder)
    replace_text(repo.folder / _CHECKPOINT, "".join(f"{oid} {name}\n" for name, oid in sorted(heads.items())))


def read_checkpoint(folder: HostPath) -> dict[str, str]:
    """Return the heads of the last checkpoint; empty if there is none."""
    try:
        lines = [line.partition(" ") for line in (folder / _CHECKPOINT).read_text(errors="replace").splitlines()]
    except OSError:
        return {}
    return {name: oid for oid, _, name in lines if is_oid(oid) and is_branch_name(name)}


def drop_checkpoint(repo: Repository) -> None:
    """Delete the checkpoint: its heads are no longer valid."""
    with contextlib.suppress(FileNotFoundError):
        (repo.folder / _CHECKPOINT).unlink()


def repair(ledger: Ledger) -> None:
    """Reset each branch whose newest objects a power cut has destroyed to its last durable version."""
    repo = ledger.repo
    durable, heads = read_checkpoint(repo.folder), list_heads(repo)
    unreadable = {name for name in durable if name not in heads and (repo.folder / HEADS / name).exists()}
    for name in sorted(heads.keys() | unreadable):
        head = heads.get(name, "")
        if head == durable.get(name) or (head and _is_intact(ledger, head)):
            continue
        _reset(ledger, name, [durable.get(name), repo.read_ref(f"{STARTS}{name}")])


def _reset(ledger: Ledger, name: str, candidates: list[str | None]) -> None:
    repo = ledger.repo
    for oid in candidates:
        if oid is not None and _is_intact(ledger, oid):
            log.error("the newest versions of the branch %s were damaged and are dropped, after %s", name, oid[:12])
            replace_text(repo.folder / HEADS / name, f"{oid}\n")
            return
    log.error("no version of the branch %s is whole: it is dropped", name)
    for prefix in (HEADS, STARTS):
        (repo.folder / prefix / name).unlink(missing_ok=True)


def _is_intact(ledger: Ledger, oid: str) -> bool:
    """Return True if a version of a branch and all objects that main lacks can be read."""
    exclusion = ["--not", ledger.head.oid] if ledger.head is not None else []
    try:
        ledger.repo.run("rev-list", "--quiet", "--verify-objects", oid, *exclusion)
    except OSError:
        return False
    return True
