"""The past of one store, as one object: what the daemon, or a command without one, asks of it.

Methods block and may be called from any thread; one is carried out at a time. Paths are those of the tree
(`memory/a/x.md`), texts with surrogateescape, and lie in the areas that are versioned.
"""

import contextlib
import errno
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path as HostPath

from ctxfs.model.entry import Entry, directory
from ctxfs.model.errors import CommandError, path_error
from ctxfs.model.path import printable
from ctxfs.store.config import MIN_LARGE_BYTES
from ctxfs.store.layout import AREAS, Layout
from ctxfs.store.lock import StoreLock
from ctxfs.versions import recover, upkeep
from ctxfs.versions.commits import Actor, Commit, decode_commit
from ctxfs.versions.committer import Committer
from ctxfs.versions.erase import Erased, Eraser
from ctxfs.versions.git import Repository, create_repository
from ctxfs.versions.history import History, Step, parse_moment
from ctxfs.versions.journal import JournalReader, JournalWriter, new_session
from ctxfs.versions.large import LargeStore
from ctxfs.versions.ledger import Ledger, State
from ctxfs.versions.names import stored_path
from ctxfs.versions.pathindex import EVERYTHING, Filter, PathChange, PathIndex
from ctxfs.versions.remote import Pulled, Remotes
from ctxfs.versions.rollback import Outcome, Plan, Rollback
from ctxfs.versions.sidecar import usual_mode
from ctxfs.versions.trees import EMPTY_TREE, MODE_DIR, MODE_FILE, MODE_LINK, MODE_PROGRAM, TreeEntry
from ctxfs.versions.worktree import WorkTree

log = logging.getLogger(__name__)

_SNAPSHOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TEMPORARY_SECONDS = 60.0
_GLANCE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Shown:
    """A change of a path: its number in the path's history, the commit, and what the path is since."""

    number: int
    commit: Commit
    change: PathChange

    @property
    def is_file(self) -> bool:
        """True if there is content to show."""
        return self.change.mode in (MODE_FILE, MODE_PROGRAM, MODE_LINK)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file and the version that it came with."""

    commit: str
    principal: str
    time_ns: int
    number: int
    text: bytes


class Archive:
    """History has one writer: `open` takes the store's lock, unless the owner says that he `holds_lock`, and recovers."""

    def __init__(self, layout: Layout, principal: str, large_from: int) -> None:
        self.holds_lock = False
        # How long ago a change must have been to be taken for nobody's at the start: a daemon has mount processes that
        # may be about to note whose it is.
        self.patience_ns = 0
        self._store_lock = StoreLock(layout.run)
        self._layout = layout
        self._principal = principal
        self._large_from = large_from
        self._lock = threading.RLock()
        self._upkeep = threading.Lock()  # taken before the other one
        self._journal = JournalReader(layout.journal)
        self._opened = False
        self.session = new_session("d")

    # life

    def open(self) -> list[Commit]:
        """Recover, and commit what happened while nobody looked. Safe to call again. The commits that this made."""
        with self._lock:
            if self._opened:
                return []
            if not self.holds_lock:
                self._store_lock.acquire()
            try:
                made = self._open()
            except BaseException:
                self._store_lock.release()
                raise
            self._opened = True
            return made

    def _open(self) -> list[Commit]:
        started = time.time_ns()
        layout = self._layout
        layout.journal.mkdir(mode=0o700, exist_ok=True)
        create_repository(layout.repo)
        large = LargeStore(layout.large)
        large.clear_temporaries()
        repo = Repository(layout.repo)
        try:
            repo.write("tree", b"")  # the empty directory
            self.index = PathIndex(layout.index)
            self.ledger = Ledger(repo, self.index, WorkTree(str(layout.tree)), large, self._large_from)
            if recover.repair(self.ledger, recover.read_checkpoint(self._checkpoint_file)):
                self.index.clear_seen()
            self.ledger.open_head()
            self.history = History(self.ledger)
            self._committer = Committer(self.ledger)
            self._rollback = Rollback(self.ledger, self.history, self._committer, layout.journal / "rollback.json")
            self._remotes = Remotes(self.ledger, self._rollback)
            self._eraser = Eraser(self.ledger, self._committer, layout.journal / "forget.json")
            if self._eraser.finish() is not None:
                log.warning("an erasure that was interrupted has been finished")
            finished = self._rollback.finish()
            self.ledger.work.clear_temporaries(time.time() - _TEMPORARY_SECONDS)
            made = [finished] if finished else []
            if self.ledger.head is None:
                areas = {area.encode(): False for area in (*AREAS, "memory/shared")}
                first = self._committer.commit_paths(self._actor("ctxfs"), "begin", areas)
                made += [first] if first else []
            made += self._commit_journal(old=True)
            before = started - self.patience_ns if self.patience_ns else 1 << 62
            rest = self._committer.commit_everything(self._actor("recovered"), "recovered", before)
            made += [rest] if rest else []
        except BaseException:
            repo.close()
            raise
        return made

    def is_urgent(self) -> bool:
        """True if somebody does not want to wait for the commit window: an fsync, or a session's end."""
        with self._ready():
            return self._journal.is_urgent()

    def close(self) -> None:
        """Commit what is left and say that everything is on the disk."""
        with self._lock:
            if not self._opened:
                return
            try:
                self.commit()
                self.checkpoint(clean=True)
            except OSError as error:
                log.error("the last versions could not be made durable: %s", error)
            self._opened = False
            self.index.close()
            self.ledger.repo.close()
            self._store_lock.release()

    def checkpoint(self, *, clean: bool = False) -> bool:
        """Make the newest version survive a power cut; False if it does already."""
        with self._lock:
            head = self.ledger.head
            last = recover.read_checkpoint(self._checkpoint_file)
        if head is None or (last is not None and last.commit == head.oid and last.clean == clean):
            return False
        recover.write_checkpoint(self._checkpoint_file, head.oid, time.time(), clean=clean)
        return True

    def mark_unclean(self) -> None:
        """Before the first write after a clean end: from now on a power cut may lose something."""
        last = recover.read_checkpoint(self._checkpoint_file)
        if last is not None and last.clean:
            recover.write_checkpoint(self._checkpoint_file, last.commit, last.time, clean=False)

    @property
    def _checkpoint_file(self) -> HostPath:
        return self._layout.repo / "ctxfs-checkpoint"

    def _actor(self, tool: str, reason: str = "") -> Actor:
        return Actor(self._principal, self.session, tool, reason)

    def writer(self, actor: Actor) -> JournalWriter:
        """A journal for a session whose changes are made in this process."""
        return JournalWriter(self._layout.journal, actor)

    # committing

    def commit(self, also: Iterable[bytes] = ()) -> list[Commit]:
        """Commit what the journal says, then what changed at the paths `also` without a word in it."""
        with self._ready():
            made = self._commit_journal()
            outside = dict.fromkeys(also, True)
            if outside:
                rest = self._committer.commit_paths(self._actor("outside"), "outside", outside)
                made += [rest] if rest else []
            return made

    def _commit_journal(self, *, old: bool = False) -> list[Commit]:
        records = self._journal.take()
        try:
            made = self._committer.commit_records(records, old=old) if records else []
        except OSError:
            self._journal.give_back(records)
            raise
        self._journal.settle()
        return made

    def upkeep(self, *, full: bool = False, always: bool = False) -> bool:
        """Pack the repository if it is time to; True if it was. Commits go on meanwhile."""
        with self._ready():
            repo = self.ledger.repo
        full = full or (upkeep.is_needed(repo) and upkeep.is_full_due(repo.folder))
        if not (full or always or upkeep.is_needed(repo)):
            return False
        with self._upkeep:
            (upkeep.pack_fully if full else upkeep.pack)(repo)
        with self._lock:
            repo.forget_helpers()
            if full:
                self._collect_large()
        return True

    def _collect_large(self) -> None:
        """Drop large contents that no version names any more."""
        self.ledger.large.remove(set(self.ledger.large.names()) - self._large_named())

    def _large_named(self) -> set[str]:
        """Large contents that some version names."""
        sides = map(self.ledger.side, self.index.sides_of(MIN_LARGE_BYTES))
        return {side.large.sha256 for side in sides if side.large is not None}

    def status(self) -> dict[str, object]:
        """Totals for `ctxfs status`."""
        if not self._lock.acquire(timeout=_GLANCE_SECONDS):
            return {"state": "busy"}
        try:
            if not self._opened:
                return {"state": "closed"}  # looking at the status is no reason to open it
            head = self.ledger.head
            return {
                "state": "ok",
                "commits": self.index.count(),
                "newest": head.oid if head else "",
                "at": head.when if head else "",
                "snapshots": len(self.ledger.tags),
            }
        finally:
            self._lock.release()

    # questions

    @property
    def head(self) -> Commit | None:
        """The newest version."""
        with self._ready():
            return self.ledger.head

    def resolve(self, text: str) -> Step:
        """The version that a revision, a snapshot's name or a time names; OSError ENOENT or EINVAL."""
        with self._ready():
            return self.history.resolve(text)

    def log(self, path: str, wanted: Filter, limit: int) -> list[Step]:
        """The newest `limit` commits that changed a path."""
        with self._ready():
            found = self.history.log(_bytes(path), wanted, limit)
            if not found and wanted == EVERYTHING:
                self._check_known(path)
            return found

    def changes_of(self, numbers: Iterable[int], path: str) -> list[list[PathChange]]:
        """What each of these commits changed at a path and below it."""
        with self._ready():
            return [self.index.changes_of(number, _bytes(path)) for number in numbers]

    def versions(self, path: str) -> list["Shown"]:
        """Every change of exactly this path, oldest first, numbered from 1, removals included."""
        with self._ready():
            return [
                Shown(number, step.commit, version.change)
                for number, step, version in self.history.versions(_bytes(path))
            ]

    def names_below(self, path: str) -> list[tuple[str, bool]]:
        """(name, is a directory) of everything that was ever in a directory."""
        with self._ready():
            return [(_text(name), inside) for name, inside in self.index.names_below(_bytes(path))]

    def was_directory(self, path: str) -> bool:
        """True if a path ever was a directory."""
        with self._ready():
            return self.index.was_directory(_bytes(path))

    def last_change(self, path: str) -> Commit | None:
        """The newest commit that changed exactly this path (of a directory: anything below it)."""
        with self._ready():
            found = self.index.below(_bytes(path), EVERYTHING, 1 << 62, 1)
            return found[0][1] if found else None

    def first_change(self, path: str) -> Commit | None:
        """The commit that made this path, through renames."""
        with self._ready():
            found = self.index.versions(_bytes(path))
            return self.index.commit(found[0].seq) if found else None

    def content_of(self, shown: "Shown") -> bytes:
        """The bytes of a file as a change left it."""
        with self._ready():
            return self.ledger.content(_state(shown.change))

    def attributes(self, shown: "Shown") -> tuple[int, dict[str, bytes]]:
        """(permission bits, extended attributes) of a file as a change left it."""
        with self._ready():
            return self._attributes(_state(shown.change))

    def _attributes(self, state: State) -> tuple[int, dict[str, bytes]]:
        assert state.entry is not None
        side = self.ledger.side(state.side)
        return side.mode if side.mode is not None else usual_mode(state.entry.mode), dict(side.xattrs)

    # the tree as it was

    def entry_then(self, commit: Commit, path: str, name: str, *, sized: bool) -> Entry:
        """A path in a version, read-only; without `sized` the size of a file is left open."""
        with self._ready():
            return self._entry_then(self._there(commit, path), commit, name, sized)

    def list_then(self, commit: Commit, path: str) -> list[Entry]:
        """A directory in a version, sorted. OSError ENOENT, ENOTDIR."""
        with self._ready():
            state = self._there(commit, path)
            assert state.entry is not None
            if state.entry.mode != MODE_DIR:
                raise path_error(errno.ENOTDIR, path)
            children = sorted(self.ledger.children(state.entry.oid).items())
            return [self._entry_then(inner, commit, _text(name), False) for name, inner in children]

    def read_then(self, commit: Commit, path: str) -> bytes:
        """A file in a version. OSError ENOENT, EISDIR."""
        with self._ready():
            state = self._there(commit, path)
            assert state.entry is not None
            if state.entry.mode == MODE_DIR:
                raise path_error(errno.EISDIR, path)
            return self.ledger.content(state)

    def attributes_then(self, commit: Commit, path: str) -> dict[str, bytes]:
        """The extended attributes of a path in a version."""
        with self._ready():
            return self._attributes(self._there(commit, path))[1]

    def _there(self, commit: Commit, path: str) -> State:
        state = self.ledger.state(commit.tree, _parts(path))
        if state.entry is None:
            raise path_error(errno.ENOENT, path)
        return state

    def _entry_then(self, state: State, commit: Commit, name: str, sized: bool) -> Entry:
        assert state.entry is not None
        mode, oid = state.entry
        bits = self._attributes(state)[0] if state.side else usual_mode(mode)
        if mode == MODE_DIR:
            return directory(name, mode=bits | 0o555, mtime_ns=commit.time_ns, version=oid)
        if mode == MODE_LINK:
            target = self.ledger.repo.read(oid)
            return Entry(name, "link", oid, len(target), commit.time_ns, 0o777, _text(target))
        size = self.ledger.size(state) if sized else None
        return Entry(name, "file", version=oid + state.side, size=size, mtime_ns=commit.time_ns, mode=bits)

    def show(self, path: str, at: str) -> bytes:
        """A file's content in a version, under the name it had then. OSError ENOENT, EISDIR."""
        with self._ready():
            step = self.history.resolve(at)
            then = self.history.name_at(_bytes(path), step.seq)
            state = self.ledger.state(step.commit.tree, tuple(then.split(b"/")) if then else ())
            if state.entry is None:
                raise path_error(errno.ENOENT, path, f"it did not exist in {step.commit.oid[:8]}")
            if state.entry.mode == MODE_DIR:
                raise path_error(errno.EISDIR, path)
            return self.ledger.content(state)

    def snapshots(self) -> dict[str, str]:
        """Names of snapshots and the commits that they name."""
        with self._ready():
            return dict(self.ledger.tags)

    def diff(self, path: str, old: str, new: str) -> bytes:
        """A unified diff of a path between two versions, attributes included."""
        with self._ready():
            trees = [self._tree_at(name) for name in (old, new)]
            return self._diff_trees(trees[0], trees[1], _bytes(path))

    def _tree_at(self, name: str) -> str:
        """The tree of a version; a time before the first one had an empty tree."""
        try:
            return self.history.resolve(name).commit.tree
        except FileNotFoundError:
            if parse_moment(name, datetime.now(UTC)) is None:
                raise
            return EMPTY_TREE

    def blame(self, path: str, at: str) -> list[Line]:
        """Every line of a file with the version it came with."""
        with self._ready():
            step = self.history.resolve(at)
            then = self.history.name_at(_bytes(path), step.seq)
            self.show(_text(then), step.commit.oid)  # its errors say more than git's
            out = self.ledger.repo.run("blame", "--line-porcelain", step.commit.oid, "--", stored_path(then))
            return list(self._lines(out))

    def _lines(self, out: bytes) -> Iterable[Line]:
        oid, number = "", 0
        known: dict[str, Commit] = {}
        for line in out.split(b"\n"):
            if line.startswith(b"\t"):
                if oid not in known:
                    known[oid] = decode_commit(oid, self.ledger.repo.read(oid))
                commit = known[oid]
                yield Line(oid, commit.actor.principal, commit.time_ns, number, line[1:])
            elif header := re.match(rb"([0-9a-f]{40}) \d+ (\d+)", line):
                oid, number = header[1].decode(), int(header[2])

    # going back

    def restore(self, path: str, to: str, actor: Actor, *, dry_run: bool = False) -> tuple[Outcome, bytes]:
        """Bring a path back to a version; the outcome and its diff."""
        with self._ready():
            self.commit()
            return self._carry_out(self._rollback.plan_restore(_bytes(path), self._target(path, to)), actor, dry_run)

    def undo(
        self, path: str, actor: Actor, wanted: Filter = EVERYTHING, *, dry_run: bool = False
    ) -> tuple[Outcome, bytes]:
        """Undo the newest change of a path, or everything that a principal or session did there."""
        with self._ready():
            self.commit()
            if wanted == EVERYTHING:
                self._check_known(path)
                plan = self._rollback.plan_undo(_bytes(path))
            else:
                plan = self._rollback.plan_undo_of(_bytes(path), wanted)
            return self._carry_out(plan, actor, dry_run)

    def redo(self, path: str, actor: Actor, *, dry_run: bool = False) -> tuple[Outcome, bytes]:
        """Take back the last undo of a path."""
        with self._ready():
            self.commit()
            self._check_known(path)
            return self._carry_out(self._rollback.plan_redo(_bytes(path)), actor, dry_run)

    def snapshot(self, name: str) -> Commit:
        """Name the newest version."""
        if not _SNAPSHOT.fullmatch(name) or name.endswith((".lock", ".")) or ".." in name:
            raise CommandError(
                f"'{printable(name)}' cannot name a snapshot", "use letters, digits, '.', '_' and '-'", 2
            )
        if re.fullmatch(r"[0-9a-f]{4,40}", name) or name in ("latest", "HEAD") or parse_moment(name, datetime.now(UTC)):
            raise CommandError(f"'{name}' reads as a revision or a time", "choose another name", 2)
        with self._ready():
            self.commit()
            head = self.ledger.head
            assert head is not None
            known = self.ledger.tags.get(name)
            if known is not None and known != head.oid:
                raise CommandError(f"a snapshot '{name}' exists already", f"remove it: ctxfs snapshot --delete {name}")
            if known is None:
                self.ledger.repo.update(f"refs/tags/{name}", head.oid, None)
                self.ledger.read_tags()
            return head

    def delete_snapshot(self, name: str) -> None:
        """Forget a name; the version itself stays."""
        with self._ready():
            known = self.ledger.repo.ref(f"refs/tags/{name}") if _SNAPSHOT.fullmatch(name) else None
            if known is None:
                raise CommandError(f"no snapshot is called '{printable(name)}'", "see: ctxfs snapshot")
            self.ledger.repo.delete(f"refs/tags/{name}", known)
            self.ledger.read_tags()

    def forget(self, path: str | None, principal: str, actor: Actor, *, dry_run: bool = False) -> Erased:
        """Erase a path, or everything that a principal wrote, from every version."""
        with self._upkeep, self._ready():
            self.commit()
            doomed = self._eraser.of_path(_bytes(path)) if path is not None else self._eraser.of_principal(principal)
            if dry_run:
                places = sorted(doomed.places | doomed.contents.keys())
                return Erased(0, len(doomed.blobs), tuple(places), ())
            erased = self._eraser.erase(doomed, actor)
            self._journal.settle()
        self.checkpoint()
        return erased

    # elsewhere

    def remotes(self) -> dict[str, str]:
        """Names of remotes and where they are."""
        with self._ready():
            return self._remotes.places()

    def add_remote(self, name: str, url: str) -> None:
        """Remember a place to push to and pull from."""
        with self._ready():
            self._remotes.add(name, url)

    def remove_remote(self, name: str) -> None:
        """Forget a place."""
        with self._ready():
            self._remotes.remove(name)

    def push(self, name: str) -> str:
        """Send every version to a remote; the revision that it has now."""
        with self._ready():
            self.commit()
            return self._remotes.push(name)

    def pull(self, name: str, actor: Actor) -> tuple[Pulled, list[PathChange]]:
        """Take in what a remote has; what came of it, and what changed here."""
        with self._upkeep, self._ready():
            self.commit()
            before = self.ledger.tree
            pulled = self._remotes.pull(name, actor)
            return pulled, self.ledger.changes(before, self.ledger.tree)

    def _target(self, path: str, to: str) -> Step:
        if to != "prev":
            return self.history.resolve(to)
        steps = self.history.log(_bytes(path), limit=2)
        if len(steps) < 2:
            raise CommandError(f"'{printable(path)}' has no earlier version", f"see: ctxfs log '{printable(path)}'")
        return steps[1]

    def _carry_out(self, plan: Plan, actor: Actor, dry_run: bool) -> tuple[Outcome, bytes]:
        base = self.ledger.tree
        if dry_run:
            return Outcome(None, self.ledger.changes(base, plan.tree)), self._diff_trees(base, plan.tree, b"")
        return self._rollback.carry_out(plan, actor), b""

    def _diff_trees(self, old: str, new: str, path: bytes) -> bytes:
        """What git says of the contents, and a line for each attribute that differs."""
        where = b":(top,literal)" + stored_path(path) if path else b"."
        out = self.ledger.repo.run(
            "diff-tree",
            "-p",
            "-r",
            "--no-ext-diff",
            "--no-textconv",
            "-M",
            old,
            new,
            "--",
            where,
            ":(top,exclude,glob)**/.x~*",
        )
        lines = []
        for change in self.ledger.changes(old, new):
            if path and change.path != path and not change.path.startswith(path + b"/"):
                continue
            parts = tuple(change.path.split(b"/"))
            before, after = (self.ledger.side(self.ledger.state(tree, parts).side) for tree in (old, new))
            for name in sorted(before.xattrs.keys() | after.xattrs.keys()):
                one, two = before.xattrs.get(name), after.xattrs.get(name)
                if one != two:
                    lines.append(f"{_text(change.path)}: {name}: {_value(one)} → {_value(two)}")
            if before.mode != after.mode:
                lines.append(f"{_text(change.path)}: mode: {_octal(before.mode)} → {_octal(after.mode)}")
        return out + "".join(f"{printable(line)}\n" for line in lines).encode()

    def _check_known(self, path: str) -> None:
        """ENOENT for a path that never was: otherwise a misspelt one would look like one without changes."""
        if path and not self.index.below(_bytes(path), EVERYTHING, 1 << 62, 1):
            raise path_error(errno.ENOENT, path, "no version knows this path")

    @contextlib.contextmanager
    def _ready(self) -> Iterator[None]:
        """The lock, with the archive open behind it."""
        with self._lock:
            self.open()
            yield


def _bytes(path: str) -> bytes:
    return os.fsencode(path.strip("/"))


def _parts(path: str) -> tuple[bytes, ...]:
    return tuple(_bytes(path).split(b"/")) if path.strip("/") else ()


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _state(change: PathChange) -> State:
    return State(TreeEntry(change.mode, change.oid), change.side)


def _value(value: bytes | None) -> str:
    return "(none)" if value is None else value.decode("utf-8", "replace")


def _octal(mode: int | None) -> str:
    return "usual" if mode is None else f"{mode:04o}"
