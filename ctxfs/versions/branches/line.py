"""The line of a branch: its versions since its start, and the newest version that changed each path."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ctxfs.model.errors import not_found
from ctxfs.versions.branches.refs import HEADS, STARTS, list_heads, read_head
from ctxfs.versions.objects.commits import Commit
from ctxfs.versions.objects.name_encoding import display_path
from ctxfs.versions.recording.ledger import Ledger
from ctxfs.versions.recording.pathindex import PathChange

_STRUCTURE_OPS = ("add", "remove")


@dataclass(slots=True)
class Line:
    """The versions of one branch. `commits` are those after `start`, oldest first; `changed` is by path."""

    start: Commit
    commits: list[Commit] = field(default_factory=list)
    changed: dict[bytes, Commit] = field(default_factory=dict)

    @property
    def head(self) -> Commit:
        """The newest version."""
        return self.commits[-1] if self.commits else self.start

    def changed_ns(self, path: bytes) -> int:
        """Return the time of the newest change of a path in the branch, else that of the start, in nanoseconds."""
        return self.changed.get(path, self.start).time_ns

    def append(self, commit: Commit, changes: Sequence[PathChange]) -> None:
        """Add the next version, with its changes."""
        self.commits.append(commit)
        for change in changes:
            self.changed[change.path] = commit
            if change.op in _STRUCTURE_OPS:
                self.changed[change.path.rpartition(b"/")[0]] = commit

    def replace_head(self, commit: Commit, changes: Sequence[PathChange]) -> None:
        """Replace the newest version by one that has its changes and others."""
        old = self.commits.pop()
        for path, changed_by in self.changed.items():
            if changed_by.oid == old.oid:
                self.changed[path] = commit
        self.append(commit, changes)

    def drop_head(self) -> None:
        """Remove the newest version, whose changes were taken back in it."""
        old = self.commits.pop()
        self.changed = {path: commit for path, commit in self.changed.items() if commit.oid != old.oid}


class Lines:
    """The lines of all branches, read when they are first needed. Used under the archive's lock."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def clear(self) -> None:
        """Drop all lines, because history has been rewritten."""
        self._lines.clear()

    def drop(self, name: str) -> None:
        """Drop the line of one branch."""
        self._lines.pop(name, None)

    def put(self, name: str, line: Line) -> None:
        """Add the line of a new branch."""
        self._lines[name] = line

    def get(self, ledger: Ledger, name: str) -> Line:
        """Return the line of a branch. Raise OSError ENOENT if there is no such branch."""
        head = read_head(ledger.repo, name)
        if head is None:
            self.drop(name)
            raise not_found(f".branches/{display_path(name.encode('utf-8', 'surrogateescape'))}")
        line = self._lines.get(name)
        if line is None or line.head.oid != head:
            line = self._lines[name] = read_line(ledger, name, head)
        return line


def read_line(ledger: Ledger, name: str, head: str) -> Line:
    """Return the line of a branch from its commits."""
    start = ledger.repo.read_ref(f"{STARTS}{name}")
    if start is None:  # a kill has left a head without its start
        start = head
    line = Line(ledger.read_commit(start))
    before = line.start
    for oid in _oids_after(ledger, start, head):
        commit = ledger.read_commit(oid)
        line.append(commit, ledger.compare_trees(before.tree, commit.tree))
        before = commit
    return line


def branch_changes(ledger: Ledger) -> Iterator[tuple[Commit, PathChange]]:
    """Yield every change that a version of a branch has made, with its commit; of merged branches, too."""
    for name, head in list_heads(ledger.repo).items():
        start = ledger.repo.read_ref(f"{STARTS}{name}") or head
        before = ledger.read_commit(start)
        for oid in _oids_after(ledger, start, head):
            commit = ledger.read_commit(oid)
            for change in ledger.compare_trees(before.tree, commit.tree):
                yield commit, change
            before = commit


def all_refs(ledger: Ledger) -> Iterator[tuple[str, str]]:
    """Yield (full name, revision) of the refs of all branches."""
    for name, head in list_heads(ledger.repo).items():
        yield f"{HEADS}{name}", head
        if (start := ledger.repo.read_ref(f"{STARTS}{name}")) is not None:
            yield f"{STARTS}{name}", start


def _oids_after(ledger: Ledger, start: str, head: str) -> list[str]:
    if start == head:
        return []
    return ledger.repo.run("rev-list", "--first-parent", "--reverse", f"{start}..{head}").decode().split()
