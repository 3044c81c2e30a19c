"""Commits of the changes in the work tree: one for each principal and session that made changes."""

import logging
import os
import stat as st
import time
from collections.abc import Collection, Iterable, Mapping

from ctxfs.memory.states import ACTIVE, state_of
from ctxfs.versions.marks import MARK_OP
from ctxfs.versions.objects.commits import Actor, Commit, describe_paths
from ctxfs.versions.objects.name_encoding import MAX_PATH_NAMES, display_path, split_path
from ctxfs.versions.objects.trees import MODE_DIR, MODE_LINK, Parts
from ctxfs.versions.recording.capture import Capture
from ctxfs.versions.recording.journal import Record
from ctxfs.versions.recording.ledger import Ledger, State
from ctxfs.versions.recording.worktree import git_mode

log = logging.getLogger(__name__)

NO_TIME_LIMIT = 1 << 62
_MAX_TRANSITIONS = 3  # in the subject of a version


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
            if record.op in ("sync", "end") or (old and self._has_changed_since(record)):
                continue
            order.pop(record.actor, None)
            order[record.actor] = None
            if record.op == "move":
                last[record.path], last[record.to] = (record.actor, False), (record.actor, True)
                moves[record.to] = moves.pop(record.path, record.path)
            else:
                is_whole = record.op == "tree" or (record.path in last and last[record.path][1])
                last[record.path] = (record.actor, is_whole)
        marked = {record.path for record in records if record.op == MARK_OP and record.actor.is_person}
        commits = []
        for actor in order:
            paths = {path: is_whole for path, (writer, is_whole) in last.items() if writer == actor}
            own_moves = {target: source for target, source in moves.items() if target in paths}
            commit = self.commit_paths(actor, "write", paths, own_moves, marked & paths.keys())
            if commit is not None:
                commits.append(commit)
        return commits

    def _leave_out_recent(self, states: dict[Parts, State], before_ns: int) -> None:
        """Remove the states of paths that changed at or after `before_ns`; directories stay above those that are kept."""
        kept: set[Parts] = set()
        now_ns = time.time_ns()  # a later time is that of a clock which was set back
        for parts in sorted(states, reverse=True):  # the contents of a directory come before it
            try:
                stat = self._ledger.work.stat(parts)
            except OSError:
                stat = None
            is_recent = before_ns <= stat.st_ctime_ns <= now_ns if stat else self._may_be_recent(parts, before_ns)
            if is_recent and parts not in kept:
                del states[parts]
            else:
                kept.update(parts[:depth] for depth in range(1, len(parts)))

    def _may_be_recent(self, parts: Parts, before_ns: int) -> bool:
        """Return True if a path may have been removed after `before_ns`: its directory has changed since."""
        for depth in range(len(parts) - 1, -1, -1):
            stat = self._ledger.work.stat(parts[:depth])
            if stat is not None:
                return stat.st_ctime_ns >= before_ns
        return False

    def _has_changed_since(self, record: Record) -> bool:
        path = record.to or record.path
        try:
            stat = self._ledger.work.stat(split_path(path)) if path else None
        except OSError:
            return True  # unknown; the scan that follows reads every path
        return stat is not None and not st.S_ISDIR(stat.st_mode) and stat.st_ctime_ns > record.time_ns

    def commit_paths(
        self,
        actor: Actor,
        op: str,
        paths: Mapping[bytes, bool],
        moves: Mapping[bytes, bytes] | None = None,
        marked: Collection[bytes] = (),
        before_ns: int = NO_TIME_LIMIT,
    ) -> Commit | None:
        """Commit the current state of paths (value True: with everything below); None if it equals the last version.

        Those that changed at or after `before_ns` are left out: a session may be about to journal them.
        `marked` are those whose marks a person has set or lifted: of all hard links of a file, because it is one file.
        """
        comparison = _Comparison(self._ledger, _with_hard_links(self._ledger, marked))
        comparison.capture.prefetch(list(paths))
        with self._ledger.work.keep_directory_open(only_looks=True):
            for path, is_whole in sorted(paths.items()):
                comparison.compare(split_path(path), is_whole)
        if before_ns != NO_TIME_LIMIT:
            self._leave_out_recent(comparison.states, before_ns)
        if actor.is_person and op == "write":
            for parts, state in comparison.states.items():
                if state.entry is None:
                    self._ledger.marks.drop_path(b"/".join(parts))
        self._carry_postponed_moves(comparison, moves or {})
        self._request_postponed(comparison.capture, actor)
        return self._commit_states(comparison.capture, actor, op, comparison.states, moves or {})

    def commit_everything(self, actor: Actor, op: str, before_ns: int = NO_TIME_LIMIT) -> Commit | None:
        """Commit the whole work tree. Files with unchanged attributes are not read.

        Paths that changed at or after `before_ns` are omitted: their writers record them in the journal.
        """
        ledger, capture = self._ledger, Capture(self._ledger)
        states: dict[Parts, State] = {}
        missing = dict(ledger.walk(ledger.tree, ()))
        for parts, stat in ledger.work.walk():
            head = missing.pop(parts, State(None))
            if stat.st_ctime_ns >= before_ns and not st.S_ISDIR(stat.st_mode):
                continue
            state = capture.capture_path(parts, stat, head)
            if state != head:
                states[parts] = state
        removed: set[Parts] = set()
        for parts in missing:  # parents first
            if parts[:-1] in removed:
                removed.add(parts)
                continue
            if ledger.work.is_gone(parts) and not self._may_be_recent(parts, before_ns):
                states[parts] = capture.capture_path(parts, None, missing[parts])
                removed.add(parts)
        self._request_postponed(capture, actor)
        return self._commit_states(capture, actor, op, states, _detect_moves(missing, states))

    def _carry_postponed_moves(self, comparison: "_Comparison", moves: Mapping[bytes, bytes]) -> None:
        """Keep the old state of large files that were moved and are read later, under their new names.

        Otherwise this version would remove the old name and the next one add the new name, and no version would record
        the move. Erasing a file reaches its earlier names through the recorded moves.
        """
        ledger, tree = self._ledger, self._ledger.tree
        for path in comparison.capture.postponed:
            for target, source in moves.items():
                if path == target or path.startswith(target + b"/"):
                    old = ledger.state(tree, split_path(source + path[len(target) :]))
                    is_file = old.entry is not None and old.entry.mode not in (MODE_DIR, MODE_LINK)
                    if is_file and ledger.state(tree, split_path(path)).entry is None:
                        comparison.states[split_path(path)] = old

    def _request_postponed(self, capture: Capture, actor: Actor) -> None:
        for path in capture.postponed:
            self._ledger.large_capture.request(path, actor)

    def _commit_states(
        self, capture: Capture, actor: Actor, op: str, states: dict[Parts, State], moves: Mapping[bytes, bytes]
    ) -> Commit | None:
        ledger = self._ledger
        # Parents first: a directory's own entry must not come after its children.
        ordered = {parts: states[parts] for parts in sorted(states)}
        tree = ledger.edit_tree(ledger.tree, ordered)
        commit = None
        if tree != ledger.tree:
            before = ledger.tree
            valid_moves = [
                move
                for move in ((source, target) for target, source in moves.items())
                if ledger.is_move(before, tree, *move)
            ]
            subject = self._describe(op, ordered, valid_moves, self._transitions(ordered))
            commit = ledger.advance(
                tree, actor, op, subject, moves=valid_moves, sizes=capture.sizes, mtimes=capture.mtimes
            )
        capture.settle()
        return commit

    def _transitions(self, states: Mapping[Parts, State]) -> Mapping[bytes, str]:
        """Return the files whose state (`user.ctx.state`) has changed, with the change as text."""
        ledger, transitions = self._ledger, {}
        for parts, state in states.items():
            head = ledger.state(ledger.tree, parts)
            if state.entry is None or head.entry is None or state.side == head.side:
                continue
            before, after = (
                state_of(ledger.read_sidecar(side).xattrs) if side else ACTIVE for side in (head.side, state.side)
            )
            if before != after:
                transitions[b"/".join(parts)] = f"{before} → {after}"
        return transitions

    @staticmethod
    def _describe(
        op: str, states: Mapping[Parts, State], moves: list[tuple[bytes, bytes]], transitions: Mapping[bytes, str]
    ) -> str:
        others = {parts: state for parts, state in states.items() if b"/".join(parts) not in transitions}
        parts_of_subject = [Committer._describe_changes(op, others, moves)] if others else []
        for change in list(dict.fromkeys(transitions.values()))[:_MAX_TRANSITIONS]:
            paths = [path for path, name in transitions.items() if name == change]
            parts_of_subject.append(describe_paths(f"state {change}", paths))
        return "; ".join(parts_of_subject)

    @staticmethod
    def _describe_changes(op: str, states: Mapping[Parts, State], moves: list[tuple[bytes, bytes]]) -> str:
        if len(moves) == 1 and all(b"/".join(parts).startswith(moves[0]) for parts in states):
            source, target = moves[0]
            return describe_paths("move", [source]) + describe_paths(" to", [target])
        removed = [b"/".join(parts) for parts, state in states.items() if state.entry is None]
        if len(removed) == len(states):
            return describe_paths("remove" if op == "write" else f"{op}: remove", removed)
        files = [b"/".join(p) for p, state in states.items() if state.entry and state.entry.mode != MODE_DIR]
        return describe_paths(op, files or [b"/".join(parts) for parts in states])


class _Comparison:
    """A comparison of work tree paths with the last version: `states` are those that differ."""

    def __init__(self, ledger: Ledger, marked: Collection[bytes]) -> None:
        self._ledger = ledger
        self.capture = Capture(ledger, marked=marked)
        self.states: dict[Parts, State] = {}
        self._directories: dict[Parts, bool] = {}

    def compare(self, parts: Parts, is_whole: bool) -> None:
        """Compare a path, and directories above it that the last version lacks or that are removed."""
        if len(parts) > MAX_PATH_NAMES:
            self._stat_and_compare(parts)  # adds it to the unversioned files
            return
        if not self._compare_directories(parts[:-1]):
            return
        stat = self._stat_and_compare(parts, may_be_moved=is_whole) if parts else self._ledger.work.stat(())
        if stat is None:
            return
        if is_whole and git_mode(stat) == MODE_DIR:
            self._compare_below(parts)
        elif stat.st_nlink > 1 and git_mode(stat) != MODE_DIR:
            self._compare_hard_links(parts, stat)

    def _compare_directories(self, above: Parts) -> bool:
        """Compare a directory and those above it, once each. Return False if one of them is gone or not a directory."""
        missing = []
        while above and above not in self._directories:
            missing.append(above)
            above = above[:-1]
        is_directory = not above or self._directories[above]
        for parts in reversed(missing):
            if is_directory:
                stat = self._ledger.work.stat(parts)
                is_directory = stat is not None and git_mode(stat) == MODE_DIR
                if not is_directory or self._head_state(parts).entry is None:
                    self._stat_and_compare(parts)
            self._directories[parts] = is_directory
        return is_directory

    def _head_state(self, parts: Parts) -> State:
        return self._ledger.state(self._ledger.tree, parts)

    def _stat_and_compare(self, parts: Parts, *, may_be_moved: bool = False) -> os.stat_result | None:
        try:
            stat = self._ledger.work.stat(parts)
        except OSError as error:
            log.error(
                "'%s' cannot be accessed; it keeps its last version: %s", display_path(b"/".join(parts)), error.strerror
            )
            return None
        self._compare_state(parts, stat, may_be_moved=may_be_moved)
        return stat

    def _compare_state(self, parts: Parts, stat: os.stat_result | None, *, may_be_moved: bool = True) -> None:
        head = self._head_state(parts)
        state = self.capture.capture_path(parts, stat, head, moved=may_be_moved)
        if state != head:
            self.states[parts] = state

    def _compare_below(self, parts: Parts) -> None:
        missing = {inner for inner, _ in self._ledger.walk(self._ledger.tree, parts) if inner != parts}
        for inner, stat in self._ledger.work.walk(parts):
            missing.discard(inner)
            self._compare_state(inner, stat)
        for inner in missing:
            if self._ledger.work.is_gone(inner):
                self._compare_state(inner, None)

    def _compare_hard_links(self, parts: Parts, stat: os.stat_result) -> None:
        """Compare the other names of a hard-linked file, whose content changed with this one."""
        for path in self._ledger.index.paths_of_inode(stat.st_ino):
            other = split_path(path)
            if other != parts and other not in self.states:
                self._stat_and_compare(other)


def _with_hard_links(ledger: Ledger, paths: Collection[bytes]) -> set[bytes]:
    """Return paths, and the other names of the files there."""
    names = set(paths)
    for path in paths:
        stat = _file_status(ledger, path)
        if stat is not None and stat.st_nlink > 1:
            others = ledger.index.paths_of_inode(stat.st_ino)
            names.update(other for other in others if _is_same_file(stat, _file_status(ledger, other)))
    return names


def _file_status(ledger: Ledger, path: bytes) -> os.stat_result | None:
    """Return the status of a file; None for a directory, and for a path without a file."""
    try:
        stat = ledger.work.stat(split_path(path))
    except OSError:
        return None
    return stat if stat is not None and git_mode(stat) != MODE_DIR else None


def _is_same_file(one: os.stat_result, other: os.stat_result | None) -> bool:
    return other is not None and (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _detect_moves(removed: Mapping[Parts, State], states: Mapping[Parts, State]) -> dict[bytes, bytes]:
    """Return the moves (new path → old path) that equal states of removed and added files show, without a record."""
    by_content: dict[State, list[Parts]] = {}
    for parts, state in removed.items():
        if state.entry is not None and state.entry.mode != MODE_DIR:
            by_content.setdefault(state, []).append(parts)
    moves = {}
    for parts, state in states.items():
        if by_content.get(state):
            moves[b"/".join(parts)] = b"/".join(by_content[state].pop())
    return moves
