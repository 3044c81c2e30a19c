"""The states of memories in a rollback: its transitions obey the rules of memory.toml, as those of a write do."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ctxfs.memory.states import (
    ACTIVE,
    GENERATED,
    RETIRED,
    Transition,
    check_states,
    is_frozen,
    state_of,
    without_frozen,
)
from ctxfs.store.atomic_replace import UnchangedReason
from ctxfs.versions.archive_core import ArchiveCore
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.objects.name_encoding import display_path, split_path
from ctxfs.versions.objects.trees import MODE_DIR, MODE_LINK, Parts
from ctxfs.versions.recording.ledger import State
from ctxfs.versions.recording.pathindex import PathChange
from ctxfs.versions.rollback_plan import Plan


def refuse_transitions(
    core: ArchiveCore, plan: Plan, actor: Actor, transitions: Sequence[Transition]
) -> tuple[Plan, Mapping[bytes, UnchangedReason]]:
    """Return the plan without the files whose state the rules do not let the actor change, and these files.

    Raise OSError EPERM if the plan changes no other file. Frozen files are left to `Rollback`, which changes none.
    """
    ledger = core.ledger
    files = [
        (change, before)
        for change in ledger.compare_trees(ledger.tree, plan.tree)
        if not _is_directory(change, before := ledger.state(ledger.tree, split_path(change.path)))
    ]
    refused, contents = dict[bytes, State](), set[str]()
    first: OSError | None = None
    for change, before in files:
        try:
            _check(core, change, before, actor, transitions)
        except OSError as error:
            first = first or error
            refused[change.path] = before
            contents.add(change.oid)
    if first is None:
        return plan, {}
    for change, before in files:  # without its other half, a move would lose the file
        if change.op == "remove" and before.entry is not None and before.entry.oid in contents:
            refused[change.path] = before
    if len(refused) == len(files):
        raise first
    states: dict[Parts, State] = {split_path(path): state for path, state in sorted(refused.items())}
    return replace(plan, tree=ledger.edit_tree(plan.tree, states)), dict.fromkeys(refused, UnchangedReason.STATE)


def _is_directory(change: PathChange, before: State) -> bool:
    mode = before.entry.mode if change.op == "remove" and before.entry is not None else change.mode
    return mode == MODE_DIR


def _check(
    core: ArchiveCore, change: PathChange, before: State, actor: Actor, transitions: Sequence[Transition]
) -> None:
    if change.op == "remove" or change.mode == MODE_LINK or change.side == before.side:
        return
    old, new = _attributes(core, before.side), _attributes(core, change.side)
    if is_frozen(old):
        return
    target = state_of(new if actor.is_person else without_frozen(new))
    source = state_of(old)
    if before.entry is None and target == _last_state(core, change.path):
        return  # a removed file comes back as it was
    # A memory that was generated becomes unconfirmed again, as by two writes.
    steps = (ACTIVE, GENERATED) if target == GENERATED and source in RETIRED else (target,)
    for step in steps:
        check_states(display_path(change.path), source, step, transitions, is_person=actor.is_person)
        source = step


def _attributes(core: ArchiveCore, side: str) -> Mapping[str, bytes]:
    return core.ledger.read_sidecar(side).xattrs if side else {}


def _last_state(core: ArchiveCore, path: bytes) -> str:
    """Return the state of a removed file when it was removed; empty for a path without a version."""
    versions = core.ledger.index.versions(path)
    last = next((version.change for version in reversed(versions) if version.change.op != "remove"), None)
    return state_of(_attributes(core, last.side)) if last is not None else ""
