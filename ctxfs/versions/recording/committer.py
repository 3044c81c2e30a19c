"""Commits of the changes in the work tree: one for each principal and session that made changes."""

import logging
import os
import stat
from collections.abc import Collection, Iterable, Mapping

from ctxfs.versions.marks import MARK_OP
from ctxfs.versions.objects.commits import Actor, Commit, describe_paths
from ctxfs.versions.objects.name_encoding import MAX_DEPTH, shown_path, split_path
from ctxfs.versions.objects.trees import MODE_DIR, MODE_LINK, Parts
from ctxfs.versions.recording.capture import Capture
from ctxfs.versions.recording.journal import Record
from ctxfs.versions.recording.ledger import Ledger, State
from ctxfs.versions.recording.worktree import git_mode

log = logging.getLogger(__name__)


class Committer:
    """Turns records, or a whole scan, into commits. Used under the archive's lock."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def commit_records(self, records: Iterable[Record], *, old: bool = False) -> list[Commit]:
        """Commit the recorded paths, once for each actor, in the order of the actors' last records.

        A path belongs to the actor that touched it last. Records that are `old` may have been committed before, and do
        not cover later changes.
        """
        last: dict[bytes, tuple[Actor, bool]] = {}
        order: dict[Actor, None] = {}
        moves: dict[bytes, bytes] = {}  # current path → path before this batch
        records = list(records)
        for record in records:
            if record.op in ("sync", "end") or (old and self._changed_after(record)):
                continue
            order.pop(record.actor, None)
            order[record.actor] = None
            if record.op == "move":
                last[record.path], last[record.to] = (record.actor, False), (record.actor, True)
                moves[record.to] = moves.pop(record.path, record.path)
            else:
                whole = record.op == "tree" or (record.path in last and last[record.path][1])
                last[record.path] = (record.actor, whole)
        marked = {record.path for record in records if record.op == MARK_OP and record.actor.is_person}
        made = []
        for actor in order:
            paths = {path: whole for path, (who, whole) in last.items() if who == actor}
            mine = {target: source for target, source in moves.items() if target in paths}
            commit = self.commit_paths(actor, "write", paths, mine, marked & paths.keys())
            if commit is not None:
                made.append(commit)
        return made

    def _is_recent(self, parts: Parts, before_ns: int) -> bool:
        """Return True if a path may have been removed after `before_ns`: its directory has changed since."""
        for depth in range(len(parts) - 1, -1, -1):
            found = self._ledger.work.look(parts[:depth])
            if found is not None:
                return found.st_ctime_ns >= before_ns
        return False

    def _changed_after(self, record: Record) -> bool:
        path = record.to or record.path
        try:
            found = self._ledger.work.look(split_path(path)) if path else None
        except OSError:
            return True  # unknown; the scan that follows reads every path
        return found is not None and not stat.S_ISDIR(found.st_mode) and found.st_ctime_ns > record.time_ns

    def commit_paths(
        self,
        actor: Actor,
        op: str,
        paths: Mapping[bytes, bool],
        moves: Mapping[bytes, bytes] | None = None,
        marked: Collection[bytes] = (),
    ) -> Commit | None:
        """Commit the current state of paths (value True: with everything below); None if it equals the last version.

        `marked` are those whose marks a person has set or lifted.
        """
        look = _Look(self._ledger, marked)
        look.capture.expect(list(paths))
        with self._ledger.work.keeping(only_looks=True):
            for path, whole in sorted(paths.items()):
                look.at(split_path(path), whole)
        if actor.is_person and op == "write":
            for parts, state in look.states.items():
                if state.entry is None:
                    self._ledger.marks.removed_by_person(b"/".join(parts))
        self._move_postponed(look, moves or {})
        self._postpone(look.capture, actor)
        return self._make(look.capture, actor, op, look.states, moves or {})

    def commit_everything(self, actor: Actor, op: str, before_ns: int = 1 << 62) -> Commit | None:
        """Commit the whole work tree. Files with unchanged attributes are not read.

        Paths that changed at or after `before_ns` are omitted: their writers record them in the journal.
        """
        ledger, capture = self._ledger, Capture(self._ledger)
        states: dict[Parts, State] = {}
        known = dict(ledger.walk(ledger.tree, ()))
        for parts, found in ledger.work.walk():
            head = known.pop(parts, State(None))
            if found.st_ctime_ns >= before_ns and not stat.S_ISDIR(found.st_mode):
                continue
            state = capture.state(parts, found, head)
            if state != head:
                states[parts] = state
        gone: set[Parts] = set()
        for parts in known:  # parents first
            if parts[:-1] in gone:
                gone.add(parts)
                continue
            if ledger.work.is_gone(parts) and not self._is_recent(parts, before_ns):
                states[parts] = capture.state(parts, None, known[parts])
                gone.add(parts)
        self._postpone(capture, actor)
        return self._make(capture, actor, op, states, _moved_whole(known, states))

    def _move_postponed(self, look: "_Look", moves: Mapping[bytes, bytes]) -> None:
        """Keep the old state of large files that were moved and are read later, under their new names.

        Otherwise this version would remove the old name and the next one add the new name, and no version would record
        the move. Erasing a file reaches its earlier names through the recorded moves.
        """
        ledger, tree = self._ledger, self._ledger.tree
        for path in look.capture.postponed:
            for target, source in moves.items():
                if path == target or path.startswith(target + b"/"):
                    old = ledger.state(tree, split_path(source + path[len(target) :]))
                    is_file = old.entry is not None and old.entry.mode not in (MODE_DIR, MODE_LINK)
                    if is_file and ledger.state(tree, split_path(path)).entry is None:
                        look.states[split_path(path)] = old

    def _postpone(self, capture: Capture, actor: Actor) -> None:
        for path in capture.postponed:
            self._ledger.large_capture.want(path, actor)

    def _make(
        self, capture: Capture, actor: Actor, op: str, states: dict[Parts, State], moves: Mapping[bytes, bytes]
    ) -> Commit | None:
        ledger = self._ledger
        # Parents first: a directory's own entry must not come after its children.
        ordered = {parts: states[parts] for parts in sorted(states)}
        tree = ledger.edited(ledger.tree, ordered)
        commit = None
        if tree != ledger.tree:
            before = ledger.tree
            kept = [
                move
                for move in ((source, target) for target, source in moves.items())
                if ledger.is_move(before, tree, *move)
            ]
            subject = self._subject(op, ordered, kept)
            commit = ledger.advance(tree, actor, op, subject, moves=kept, sizes=capture.sizes)
        capture.settle()
        return commit

    @staticmethod
    def _subject(op: str, states: Mapping[Parts, State], moves: list[tuple[bytes, bytes]]) -> str:
        if len(moves) == 1 and all(b"/".join(parts).startswith(moves[0]) for parts in states):
            source, target = moves[0]
            return describe_paths("move", [source]) + describe_paths(" to", [target])
        removed = [b"/".join(parts) for parts, state in states.items() if state.entry is None]
        if len(removed) == len(states):
            return describe_paths("remove" if op == "write" else f"{op}: remove", removed)
        files = [b"/".join(p) for p, state in states.items() if state.entry and state.entry.mode != MODE_DIR]
        return describe_paths(op, files or [b"/".join(parts) for parts in states])


class _Look:
    """A comparison of work tree paths with the last version: `states` are those that differ."""

    def __init__(self, ledger: Ledger, marked: Collection[bytes]) -> None:
        self._ledger = ledger
        self.capture = Capture(ledger, marked=marked)
        self.states: dict[Parts, State] = {}
        self._directories: dict[Parts, bool] = {}

    def at(self, parts: Parts, whole: bool) -> None:
        """Compare a path, and directories above it that the last version lacks or that are removed."""
        if len(parts) > MAX_DEPTH:
            self._take(parts)  # adds it to the unversioned files
            return
        if not self._look_above(parts[:-1]):
            return
        found = self._take(parts, moved=whole) if parts else self._ledger.work.look(())
        if found is None:
            return
        if whole and git_mode(found) == MODE_DIR:
            self._below(parts)
        elif found.st_nlink > 1 and git_mode(found) != MODE_DIR:
            self._other_names(parts, found)

    def _look_above(self, above: Parts) -> bool:
        """Compare a directory and those above it, once each. Return False if one of them is gone or not a directory."""
        missing = []
        while above and above not in self._directories:
            missing.append(above)
            above = above[:-1]
        is_directory = not above or self._directories[above]
        for parts in reversed(missing):
            if is_directory:
                found = self._ledger.work.look(parts)
                is_directory = found is not None and git_mode(found) == MODE_DIR
                if not is_directory or self._head(parts).entry is None:
                    self._take(parts)
            self._directories[parts] = is_directory
        return is_directory

    def _head(self, parts: Parts) -> State:
        return self._ledger.state(self._ledger.tree, parts)

    def _take(self, parts: Parts, *, moved: bool = False) -> os.stat_result | None:
        try:
            found = self._ledger.work.look(parts)
        except OSError as error:
            log.error("'%s' cannot be looked at; it stays as it was: %s", shown_path(b"/".join(parts)), error.strerror)
            return None
        self._compare(parts, found, moved=moved)
        return found

    def _compare(self, parts: Parts, found: os.stat_result | None, *, moved: bool = True) -> None:
        head = self._head(parts)
        state = self.capture.state(parts, found, head, moved=moved)
        if state != head:
            self.states[parts] = state

    def _below(self, parts: Parts) -> None:
        missing = {inner for inner, _ in self._ledger.walk(self._ledger.tree, parts) if inner != parts}
        for inner, found in self._ledger.work.walk(parts):
            missing.discard(inner)
            self._compare(inner, found)
        for inner in missing:
            if self._ledger.work.is_gone(inner):
                self._compare(inner, None)

    def _other_names(self, parts: Parts, found: os.stat_result) -> None:
        """Compare the other names of a hard-linked file, whose content changed with this one."""
        for path in self._ledger.index.paths_of_inode(found.st_ino):
            other = split_path(path)
            if other != parts and other not in self.states:
                self._take(other)


def _moved_whole(gone: Mapping[Parts, State], states: Mapping[Parts, State]) -> dict[bytes, bytes]:
    """Return the moves (new path → old path) that equal states of removed and added files show, without a record."""
    by_content: dict[State, list[Parts]] = {}
    for parts, state in gone.items():
        if state.entry is not None and state.entry.mode != MODE_DIR:
            by_content.setdefault(state, []).append(parts)
    moves = {}
    for parts, state in states.items():
        if by_content.get(state):
            moves[b"/".join(parts)] = b"/".join(by_content[state].pop())
    return moves
