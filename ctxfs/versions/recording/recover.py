"""Recovery after a kill or a power cut: clear leftovers, select the newest intact version, continue from it.

A checkpoint names a commit that was durable, with all its objects, when the checkpoint was written. Everything newer is
verified first.
"""

import contextlib
import ctypes
import hashlib
import json
import logging
import os
import threading
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path as HostPath

from ctxfs.store.durable_file import replace_text
from ctxfs.versions.objects.git import BRANCH, Repository, is_oid
from ctxfs.versions.recording.ledger import Ledger
from ctxfs.versions.recording.pathindex import ALL_COMMITS

log = logging.getLogger(__name__)

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLOCK_SLACK_SECONDS = 60.0
_MAX_CANDIDATES = 200


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A durable commit, which was the newest one at `time` (seconds since the epoch)."""

    commit: str
    time: float


def read_checkpoint(file: HostPath) -> Checkpoint | None:
    """Return the last checkpoint; None if there is none or it is damaged."""
    try:
        members = json.loads(file.read_text())
        return Checkpoint(members["commit"], float(members["time"])) if is_oid(members["commit"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_checkpoint(file: HostPath, checkpoint: Checkpoint) -> None:
    """Make everything on the store's file system durable, then write the checkpoint."""
    sync_file_system(file.parent)
    replace_text(file, json.dumps(asdict(checkpoint)))


class CheckpointFile:
    """The checkpoint file of one store, which any thread may write."""

    def __init__(self, file: HostPath) -> None:
        self.seq = 0  # the number of the checkpoint's commit
        self._file = file
        self._lock = threading.Lock()  # lock order: after the archive's lock

    def read(self) -> Checkpoint | None:
        """Return the last checkpoint; None if there is none or it is damaged."""
        return read_checkpoint(self._file)

    def write(self, oid: str, seq: int, time: float) -> bool:
        """Make a commit durable, which was the newest one at `time`; return False if it already is."""
        with self._lock:
            last = self.read()
            if last is not None and last.commit == oid:
                return False
            write_checkpoint(self._file, Checkpoint(oid, time))
            self.seq = seq
            return True


def sync_file_system(folder: HostPath) -> None:
    """Call syncfs(2) on the file system of `folder`. Raise OSError if the disk fails."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(fd)


def repair(ledger: Ledger, checkpoint: Checkpoint | None) -> bool:
    """Repair the repository for use. Return True if the branch had to be reset to an older version."""
    repo = ledger.repo
    clear_leftovers(repo.folder)
    head = repo.read_ref(BRANCH)
    since = checkpoint.time - _CLOCK_SLACK_SECONDS if checkpoint else 0.0
    dropped = drop_damaged(repo, since)
    if head is None and checkpoint is None and ledger.index.last() is None and not (repo.folder / BRANCH).exists():
        return False  # there are no commits yet
    if head is not None and _is_intact(repo, head, checkpoint.commit if checkpoint else None):
        return False
    for candidate in _list_candidates(ledger, checkpoint):
        if candidate != head and _is_intact(repo, candidate, None):
            log.error(
                "versions after %s were damaged and are dropped (%d objects); the files are kept",
                candidate[:12],
                dropped,
            )
            _force_branch(repo, candidate)
            return True
    log.error("no version in the repository is whole; history starts anew with the files as they are")
    with contextlib.suppress(FileNotFoundError):
        (repo.folder / BRANCH).rename(repo.folder / "ctxfs-damaged-head")
    return True


def clear_leftovers(folder: HostPath) -> None:
    """Delete locks and temporary files of ended processes. The caller must own the store."""
    for path in (*folder.glob("*.lock"), *(folder / "refs").rglob("*.lock"), *(folder / "objects").rglob("*.lock")):
        path.unlink(missing_ok=True)
    (folder / "packed-refs.new").unlink(missing_ok=True)
    for pattern in (
        "tmp_*",
        "obj*",
        "??/tmp_obj*",
        "pack/tmp_*",
        "pack/.tmp-*",
        "info/tmp_*",
        "info/commit-graphs/tmp_*",
    ):
        for path in (folder / "objects").glob(pattern):
            if path.is_file():
                path.unlink(missing_ok=True)


def drop_damaged(repo: Repository, since: float) -> int:
    """Delete loose objects written after `since` (seconds) whose content has another id. Return their number."""
    count = 0
    for entry in list(repo.loose_objects()):
        path = HostPath(entry.path)
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime < since:
                continue
            if not is_sound(path):
                path.unlink()
                count += 1
    if count:
        repo.close_readers()
    return count


def is_sound(path: HostPath) -> bool:
    """Return True if a loose object's content has the id in its path."""
    try:
        data = zlib.decompress(path.read_bytes())
    except zlib.error:
        return False
    return hashlib.sha1(data, usedforsecurity=False).hexdigest() == path.parent.name + path.name


def _is_intact(repo: Repository, commit: str, base: str | None) -> bool:
    """Return True if a commit and all its objects can be read.

    Objects that `base` needs are assumed to be intact.
    """
    try:
        if base is None:
            repo.run("cat-file", "-e", f"{commit}^{{commit}}")
            repo.run("fsck", "--connectivity-only", "--no-dangling", "--no-reflogs", "--no-progress", commit)
        else:
            repo.run("rev-list", "--quiet", "--verify-objects", commit, "--not", base)
    except OSError:
        return False
    return True


def _list_candidates(ledger: Ledger, checkpoint: Checkpoint | None) -> list[str]:
    candidates = [checkpoint.commit] if checkpoint else []
    candidates += [commit.oid for _, commit in ledger.index.list_commits(ALL_COMMITS, 1 << 62, _MAX_CANDIDATES)]
    return list(dict.fromkeys(candidates))


def _force_branch(repo: Repository, commit: str) -> None:
    """Point the branch at a commit, without reading its file, which may be damaged."""
    file = repo.folder / BRANCH
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_text(file, f"{commit}\n")
