"""Rollback plans: the trees to which restore, undo and redo lead.

A plan is computed from the history and the newest version alone; `rollback.py` carries it out.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path as HostPath

from ctxfs.model.errors import CommandError, path_error
from ctxfs.model.metadata import PREFIX
from ctxfs.store.record_names import is_old_record
from ctxfs.versions.history import History, Step
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.objects.name_encoding import display_path, path_text, split_path
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, Parts, TreeEntry
from ctxfs.versions.recording.ledger import ABSENT, Ledger, State, state_of
from ctxfs.versions.recording.pathindex import CommitFilter

_PAGE_COMMITS = 100
_MAX_NUMBER = 1 << 62
_MAX_LISTED_PATHS = 20
ROLLBACKS = frozenset(("undo", "redo", "restore"))


@dataclass(frozen=True, slots=True)
class Plan:
    """The tree to which a rollback leads, and the members of its commit.

    `source` is the source whose files it takes back, if any. `merged` is the commit that a merge adds as second parent:
    a merge is carried out as a whole, or not at all.
    """

    tree: str
    op: str
    subject: str
    scope: bytes
    undoes: str = ""
    source: str = ""
    merged: str = ""


class RollbackPlanner:
    """The plans of rollbacks in one store.

    Used under the archive's lock, after all journalled changes have been committed.
    """

    def __init__(self, ledger: Ledger, history: History) -> None:
        self._ledger = ledger
        self._history = history

    def plan_restore(self, path: bytes, to: Step) -> Plan:
        """Return the plan to restore `path`, under its current name, to the version `to`.

        Raise `OSError` ENOENT if it did not exist in that version.
        """
        ledger = self._ledger
        old_name = self._history.name_at(path, to.seq)
        state = ledger.state(to.commit.tree, split_path(old_name))
        if state.entry is None:
            raise path_error(
                errno.ENOENT, display_path(path), f"it did not exist in {to.commit.oid[:8]}: remove it with rm"
            )
        tree = self._tree_with({split_path(path): state}, to.commit.tree)
        return Plan(tree, "restore", f"restore {display_path(path)} to {to.commit.oid[:8]}", path)

    def plan_restore_from(self, path: bytes, source: str) -> Plan:
        """Return the plan to restore each file from `source` to its last version from elsewhere, or to remove it.

        Raise `CommandError` if no file came from `source`.
        """
        ledger, states = self._ledger, dict[Parts, State]()
        for parts, state in ledger.walk(ledger.tree, split_path(path)):
            if self._is_from(state, source):
                states[parts] = self._state_before(b"/".join(parts), source)
        if not states:
            raise CommandError(f"nothing at '{display_path(path)}' came from '{source}'", "see: getfattr -d FILE", 3)
        tree = self._tree_with(states, ledger.tree)
        return Plan(tree, "restore", f"take back what came from {source} at {display_path(path)}", path, source=source)

    def _state_before(self, path: bytes, source: str) -> State:
        for _, step, version in reversed(self._history.versions(path)):
            state = state_of(version.change)
            if f"remote:{self._ledger.origins.remote_of(step.commit.oid)}" == source:
                continue  # the pull added the mark later, so the version itself lacks it
            if version.change.op == "remove":
                break
            if not self._is_from(state, source):
                return state
        return ABSENT

    def _is_from(self, state: State, source: str) -> bool:
        origin = self._ledger.read_sidecar(state.side).xattrs.get(f"{PREFIX}source", b"") if state.side else b""
        return origin.decode("utf-8", "replace") == source

    def plan_states(self, states: dict[Parts, State], op: str, subject: str, scope: bytes) -> Plan:
        """Return the plan to bring paths to given states, with the directories above them. Other paths stay."""
        return Plan(self._tree_with(states, self._ledger.tree), op, subject, scope)

    def plan_undo(self, path: bytes) -> Plan:
        """Return the plan to undo the newest change of `path` that is not undone. Raise `CommandError` without one."""
        step = self._find_undoable(path)
        if step is None:
            raise CommandError(
                f"nothing is left to undo at '{display_path(path)}'", f"see: ctxfs log '{display_path(path)}'"
            )
        tree = self._tree_with_path(path, self._history.before(step), step)
        return Plan(tree, "undo", f"undo {step.commit.oid[:8]} at {display_path(path)}", path, step.commit.oid)

    def plan_redo(self, path: bytes) -> Plan:
        """Return the plan to redo the last undo at `path`. Raise `CommandError` without one."""
        step = self._find_redoable(path)
        if step is None:
            raise CommandError(
                f"nothing is left to redo at '{display_path(path)}'", "redo follows undo, before other changes"
            )
        tree = self._tree_with_path(path, step.commit.tree, step)
        return Plan(tree, "redo", f"redo {step.commit.oid[:8]} at {display_path(path)}", path, step.commit.oid)

    def plan_undo_of(self, path: bytes, criteria: CommitFilter) -> Plan:
        """Return the plan to undo all changes below `path` by a principal or session.

        Raise `CommandError` if there are none, or if later edits by others overlap.
        """
        ledger = self._ledger
        steps = {step.seq: step for step in self._history.log(path, criteria)}
        author = " ".join(part for part in (criteria.principal, criteria.session) if part)
        if not steps:
            raise CommandError(f"{author} has changed nothing at '{display_path(path)}'", "see: ctxfs log", 3)
        touched: dict[bytes, int] = {}
        for seq in sorted(steps, reverse=True):
            for change in ledger.index.changes_of(seq, path):
                touched[change.path] = seq
        overlapping, states = [], dict[Parts, State]()
        for changed, first in sorted(touched.items()):
            parts = split_path(changed)
            if is_old_record(parts):
                continue
            before, current = ledger.state(self._history.before(steps[first]), parts), ledger.state(ledger.tree, parts)
            other = self._find_other_author(changed, steps, first, before)
            if are_alike(before, current):
                continue  # taken back already
            if other is not None:
                overlapping.append((changed, other))
                continue
            states[parts] = before
        if overlapping:
            raise CommandError(
                _describe_overlap(author, overlapping), "undo those first, or restore single files: ctxfs restore"
            )
        self._add_old_records(states)
        # A directory that they created stays if other principals have added entries since.
        for parts, state in list(states.items()):
            if state.entry is None and any(
                inner not in states for inner, _ in ledger.walk(ledger.tree, parts) if inner != parts
            ):
                del states[parts]
            elif state.entry is not None and state.entry.mode == MODE_DIR:
                states[parts] = State(self._current_directory(parts), state.side)
        return Plan(
            self._tree_with(states, ledger.tree), "undo", f"undo what {author} did at {display_path(path)}", path
        )

    def _find_other_author(self, path: bytes, steps: Mapping[int, Step], first: int, before: State) -> Commit | None:
        """Return the last commit by others since the step `first` whose change is in the current state of a path.

        A rollback by others that leads to a state that the steps had, or to the state `before` them, adds nothing.
        """
        ledger, parts = self._ledger, split_path(path)
        history: list[tuple[State, Commit | None]] = [(before, None)]  # states, with the last author besides the steps
        for seq in (first, *ledger.index.commits_since(path, first)):
            commit = steps[seq].commit if seq in steps else ledger.index.commit(seq)
            state, other = ledger.state(commit.tree, parts), history[-1][1]
            if seq not in steps:
                equal_pairs = (pair for pair in reversed(history) if are_alike(pair[0], state))
                earlier = next(equal_pairs, None) if commit.op in ROLLBACKS else None
                other = earlier[1] if earlier is not None else commit
            history.append((state, other))
        if history[-1][1] is None and not are_alike(history[-1][0], ledger.state(ledger.tree, parts)):
            return ledger.head
        return history[-1][1]

    def _add_old_records(self, states: dict[Parts, State]) -> None:
        """Add the removal of old stores' delivery records, where their task is removed."""
        for task in [parts for parts, state in states.items() if state.entry is None and len(parts) == 2]:
            for parts, _ in self._ledger.walk(self._ledger.tree, task):
                if is_old_record(parts):
                    states[parts] = ABSENT

    def _tree_with(self, states: dict[Parts, State], source: str) -> str:
        """Return the newest tree with `states`; parent directories that it lacks come from the tree `source`."""
        ledger = self._ledger
        needed: dict[Parts, State] = {}
        for parts, state in states.items():
            for depth in range(1, len(parts)):
                parent = parts[:depth]
                current = ledger.state(ledger.tree, parent).entry
                if state.entry is not None and (current is None or current.mode != MODE_DIR) and parent not in states:
                    needed[parent] = State(TreeEntry(MODE_DIR, EMPTY_TREE), ledger.state(source, parent).side)
            needed[parts] = state
        tree = ledger.edit_tree(ledger.tree, dict(sorted(needed.items())))
        # The mounts need the top-level areas: they may become empty, but stay.
        tops = ledger.children(ledger.tree)
        missing: dict[Parts, State] = {
            (name,): State(TreeEntry(MODE_DIR, EMPTY_TREE), state.side)
            for name, state in tops.items()
            if ledger.state(tree, (name,)).entry is None and state.entry is not None and state.entry.mode == MODE_DIR
        }
        return ledger.edit_tree(tree, missing) if missing else tree

    def _tree_with_path(self, path: bytes, source: str, step: Step) -> str:
        """Return the newest tree with `path`, and its partners in renames of the step, as in the tree `source`."""
        ledger = self._ledger
        paths = {path}.union(*(pair for pair in ledger.index.moves_of(step.seq) if path in pair))
        states = {split_path(changed): ledger.state(source, split_path(changed)) for changed in paths}
        return self._tree_with(states, source)

    def _current_directory(self, parts: Parts) -> TreeEntry:
        current = self._ledger.state(self._ledger.tree, parts).entry
        return current if current is not None and current.mode == MODE_DIR else TreeEntry(MODE_DIR, EMPTY_TREE)

    def _mainline_steps(self, path: bytes) -> Iterator[Step]:
        """Yield the steps that changed a path under its present name, newest first.

        A merge is one step, because its commits one by one were never the state of this work tree.
        """
        before, parts = _MAX_NUMBER, split_path(path)
        while page := self._ledger.index.mainline_commits(path, before, _PAGE_COMMITS):
            for seq, commit in page:
                step = Step(seq, commit)
                state = self._ledger.state
                if commit.op != "merge" or state(self._history.before(step), parts) != state(commit.tree, parts):
                    yield step
            before = page[-1][0]

    def _find_undoable(self, path: bytes) -> Step | None:
        undone: dict[str, int] = {}  # commit id → undos minus redos among the newer steps
        for step in self._mainline_steps(path):
            commit = step.commit
            if commit.scope == path and commit.undoes and commit.op in ("undo", "redo"):
                undone[commit.undoes] = undone.get(commit.undoes, 0) + (1 if commit.op == "undo" else -1)
            elif undone.get(commit.oid, 0) <= 0:
                return step if commit.parents else None
        return None

    def _find_redoable(self, path: bytes) -> Step | None:
        recent = []
        for step in self._mainline_steps(path):
            if step.commit.scope != path or not step.commit.undoes or step.commit.op not in ("undo", "redo"):
                break
            recent.append(step.commit)
        stack: list[str] = []
        for commit in reversed(recent):
            if commit.op == "undo":
                stack.append(commit.undoes)
            elif commit.undoes in stack:
                stack.remove(commit.undoes)
        row = self._ledger.index.by_oid(stack[-1]) if stack else None
        return Step(*row) if row else None


def are_alike(first: State, second: State) -> bool:
    """Return True for equal states; of directories, only the side-cars are compared."""
    if first.entry is not None and second.entry is not None and first.entry.mode == second.entry.mode == MODE_DIR:
        return first.side == second.side
    return first == second


def _describe_overlap(author: str, overlapping: Sequence[tuple[bytes, Commit]]) -> str:
    lines = [
        f"{display_path(path)} (then {commit.actor.principal}, {commit.oid[:8]})"
        for path, commit in overlapping[:_MAX_LISTED_PATHS]
    ]
    more = f"\n  and {len(overlapping) - _MAX_LISTED_PATHS} more" if len(overlapping) > _MAX_LISTED_PATHS else ""
    return f"others have changed since what {author} did:\n  " + "\n  ".join(lines) + more


def replaced_paths(ledger: Ledger, tree: str) -> list[Parts]:
    """Return the paths of the files that a change from the newest version to `tree` replaces or removes."""
    changes = ledger.compare_trees(ledger.tree, tree) if tree != ledger.tree else []
    return [split_path(change.path) for change in changes if change.op != "add" and change.mode != MODE_DIR]


def write_intent(file: HostPath, plan: Plan, actor: Actor, base: str) -> None:
    """Record a rollback that is about to change the work tree from `base`."""
    value = {
        "base": base,
        "tree": plan.tree,
        "op": plan.op,
        "subject": plan.subject,
        "scope": path_text(plan.scope),
        "undoes": plan.undoes,
        "merged": plan.merged,
        "actor": asdict(actor),
    }
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, file)
