"""Drive a store's versions without a daemon: change the work tree and write a journal, as the mount does."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.memory.states import BUILT_IN_TRANSITIONS
from ctxfs.store.layout import Layout, create_store
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.recording.journal import JournalWriter
from ctxfs.versions.recording.pathindex import ALL_COMMITS

ALICE = Actor("agent:alice", "s-alice", "test", "")
BOB = Actor("agent:bob", "s-bob", "test", "")
LARGE = 100_000


class Past:
    """One store and its archive; `reopen` stands for a restart."""

    def __init__(self, folder: Path, large_from: int = LARGE) -> None:
        self.layout: Layout = create_store(folder)
        self._large_from = large_from
        self.transitions = BUILT_IN_TRANSITIONS
        self.tree = self.layout.tree
        self.archive, _ = self._recovered()
        self._writers: dict[Actor, JournalWriter] = {}

    def _recovered(self) -> tuple[Archive, list[Commit]]:
        """Return an archive and the commits of its recovery.

        As in the daemon, large files are read afterwards, for the commit that follows.
        """
        archive = Archive(self.layout, "human:owner", self._large_from, transitions=lambda: self.transitions)
        return archive, [*archive.open(), *archive.commit()]

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self.archive.close()

    def crash(self) -> None:
        """Release all resources without a clean shutdown."""
        self.archive.core.close()
        self.archive._store_lock.release()

    def reopen(self) -> list[Commit]:
        """Open a new archive and return the commits of its recovery."""
        self.archive, made = self._recovered()
        return made

    def note(self, op: str, path: str, to: str | None = None, who: Actor = ALICE) -> None:
        if who not in self._writers:
            self._writers[who] = self.archive.writer(who)
        self._writers[who].record(op, path, to)

    def write(self, path: str, data: str | bytes, who: Actor = ALICE) -> None:
        file = self.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data if isinstance(data, bytes) else data.encode())
        self.note("write", path, who=who)

    def version(self, path: str, data: str | bytes, who: Actor = ALICE) -> Commit:
        """Write a file and commit it."""
        self.write(path, data, who)
        (made,) = self.archive.commit()
        return made

    def move(self, path: str, to: str, who: Actor = ALICE) -> None:
        (self.tree / to).parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.tree / path, self.tree / to)
        self.note("move", path, to, who)

    def remove(self, path: str, who: Actor = ALICE) -> None:
        host_path = self.tree / path
        host_path.rmdir() if host_path.is_dir() and not host_path.is_symlink() else host_path.unlink()
        self.note("remove", path, who=who)

    def label(self, path: str, name: str, value: str, who: Actor = ALICE) -> None:
        os.setxattr(self.tree / path, f"user.ctx.{name}", value.encode())
        self.note("write", path, who=who)

    def subjects(self, path: str = "") -> list[str]:
        """Return the subjects of the commits, oldest first."""
        return [step.commit.subject for step in reversed(self.archive.reader.log(path, ALL_COMMITS, 1000))]

    def git(self, *arguments: str) -> str:
        command = ["git", f"--git-dir={self.layout.repo}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, errors="surrogateescape").stdout

    def picture(self) -> dict[str, object]:
        """Return the state of the work tree that versions record."""
        state: dict[str, object] = {}
        for folder, names, files in os.walk(self.tree):
            for name in names + files:
                path = os.path.join(folder, name)
                stat = os.lstat(path)
                shown = os.path.relpath(path, self.tree)
                if os.path.islink(path):
                    state[shown] = ("link", os.readlink(path))
                    continue
                xattrs = {key: os.getxattr(path, key) for key in sorted(os.listxattr(path)) if key.startswith("user.")}
                data = None if os.path.isdir(path) else Path(path).read_bytes()
                state[shown] = (stat.st_mode, data, xattrs)
        return state


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    made = Past(tmp_path / "store")
    yield made
    made.close()


def check_sound(past: Past, *, rebuild: bool = True) -> None:
    """Check that git finds no fault, and that the newest version equals the work tree.

    With `rebuild`, the path index must equal one that is rebuilt from git.
    """
    assert past.git("fsck", "--full", "--no-dangling") == ""
    archive = past.archive
    made = archive.core.committer.commit_everything(BOB, "check")
    assert made is None, f"the newest version is not the work tree: {past.git('show', '--stat', made.oid)}"
    if not rebuild:
        return
    rows = {
        (step.commit.oid, change.path, change.op, change.oid, change.side)
        for step in archive.reader.log("", ALL_COMMITS, 10**6)
        for (changes,) in [archive.reader.changes_of([step.seq], "")]
        for change in changes
    }
    with archive.core.index.transaction():
        archive.core.index.clear()
    archive.core.ledger.open_head()
    again = {
        (step.commit.oid, change.path, change.op, change.oid, change.side)
        for step in archive.reader.log("", ALL_COMMITS, 10**6)
        for (changes,) in [archive.reader.changes_of([step.seq], "")]
        for change in changes
    }
    assert again == rows, "the path index differs from git"
