"""Rollbacks obey the rules on states of memory.toml, as writes of `user.ctx.state` do."""

import errno
import os
from collections.abc import Callable

import pytest

from ctxfs.memory.rules import parse_memory_rules
from ctxfs.model.toml import parse_toml
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.recording.pathindex import ALL_COMMITS, CommitFilter
from ctxfs.versions.rollback import Outcome
from tests.live import code_of
from tests.versions.conftest import ALICE, Past, check_sound

PATH, OTHER, MOVED = "memory/a/x.md", "memory/a/y.md", "memory/a/z.md"
OWNER = Actor("human:owner", "s-owner", "test", "")
STATE = "user.ctx.state"
PEOPLE_ACTIVATE = "[[state.transition]]\nfrom = 'archived'\nto = '*'\nwho = 'people'"
Rollback = Callable[[Past, Actor], tuple[Outcome, bytes]]

ROLLBACKS: dict[str, Rollback] = {
    "restore of the file": lambda past, actor: past.archive.rollbacks.restore(PATH, "prev", actor),
    "restore of a directory": lambda past, actor: past.archive.rollbacks.restore("memory/a", "prev", actor),
    "undo": lambda past, actor: past.archive.rollbacks.undo(PATH, actor),
    "undo of a principal": lambda past, actor: past.archive.rollbacks.undo(
        "memory", actor, CommitFilter(principal="human:owner")
    ),
    "redo": lambda past, actor: past.archive.rollbacks.redo(PATH, actor),
}


def allow(past: Past, text: str) -> None:
    past.transitions = parse_memory_rules(parse_toml(text)).transitions


def change_state(past: Past, state: str, path: str = PATH) -> None:
    os.setxattr(past.tree / path, STATE, state.encode())
    past.note("mark", path, who=OWNER)
    past.archive.commit()


def state_of(past: Past, path: str = PATH) -> str:
    file = past.tree / path
    return os.getxattr(file, STATE).decode() if STATE in os.listxattr(file) else "active"


def version_of(past: Past, path: str, number: int) -> str:
    """Return the commit of a version of a path, 0 for the oldest."""
    return past.archive.reader.log(path, ALL_COMMITS, 100)[::-1][number].commit.oid


def archived(past: Past, rollback: str) -> None:
    """Make a file that is archived now, and that the rollback would make active."""
    past.version(PATH, "first")
    change_state(past, "archived")
    if rollback == "redo":
        change_state(past, "active")
        past.archive.rollbacks.undo(PATH, OWNER)


@pytest.mark.parametrize("rollback", ROLLBACKS)
def test_rollback_makes_no_transition_that_the_principal_may_not_make(past: Past, rollback: str) -> None:
    archived(past, rollback)
    assert state_of(past) == "archived"
    allow(past, PEOPLE_ACTIVATE)
    before = past.subjects(PATH)
    assert code_of(lambda: ROLLBACKS[rollback](past, ALICE)) == errno.EPERM
    assert state_of(past) == "archived"
    assert past.subjects(PATH) == before
    ROLLBACKS[rollback](past, OWNER)
    assert state_of(past) == "active"
    check_sound(past)


@pytest.mark.parametrize("rollback", ROLLBACKS)
def test_rollback_makes_a_transition_that_writers_may_make(past: Past, rollback: str) -> None:
    archived(past, rollback)
    ROLLBACKS[rollback](past, ALICE)
    assert state_of(past) == "active"


def test_transition_of_no_principal_is_refused_to_people_too(past: Past) -> None:
    archived(past, "undo")
    allow(past, PEOPLE_ACTIVATE.replace("people", "nobody"))
    assert code_of(lambda: ROLLBACKS["undo"](past, OWNER)) == errno.EPERM


@pytest.mark.parametrize("state", ["generated", "merged", "archived"])
@pytest.mark.parametrize("target", ["generated", "active", "merged", "archived"])
def test_writer_takes_back_any_change_between_the_other_states(past: Past, state: str, target: str) -> None:
    past.version(PATH, "first")
    change_state(past, state)
    if target != state:
        change_state(past, target)
        past.archive.rollbacks.undo(PATH, ALICE)
    assert state_of(past) == state


def test_rollback_of_a_directory_leaves_refused_files_and_names_them(past: Past) -> None:
    past.version(PATH, "first")
    past.version(OTHER, "first")
    change_state(past, "archived")
    past.version(OTHER, "second")
    allow(past, PEOPLE_ACTIVATE)
    to = version_of(past, OTHER, 0)
    preview, diff = past.archive.rollbacks.restore("memory/a", to, ALICE, dry_run=True)
    outcome, _ = past.archive.rollbacks.restore("memory/a", to, ALICE)
    for result in (preview, outcome):
        assert {path.decode(): reason.value for path, reason in result.left.items()} == {
            PATH: "memory.toml refuses this change of its state"
        }
    assert PATH.encode() not in diff
    assert (state_of(past), (past.tree / OTHER).read_text()) == ("archived", "first")
    check_sound(past)


def test_removed_file_comes_back_in_its_state(past: Past) -> None:
    """Also where the principal could not give that state to a new file: nothing of a memory may stay lost."""
    archived(past, "undo")
    past.remove(PATH)
    past.archive.commit()
    allow(past, "[[state.transition]]\nfrom = 'active'\nto = 'archived'\nwho = 'nobody'\n" + PEOPLE_ACTIVATE)
    past.archive.rollbacks.undo(PATH, ALICE)
    assert state_of(past) == "archived"


def test_refused_half_of_a_move_loses_no_file(past: Past) -> None:
    past.version(PATH, "first")
    past.move(PATH, MOVED)
    past.archive.commit()
    change_state(past, "archived", MOVED)
    past.version(OTHER, "second")
    to = version_of(past, PATH, 0)
    allow(past, PEOPLE_ACTIVATE)
    before = {path.name: path.read_text() for path in (past.tree / "memory/a").iterdir()}
    past.archive.rollbacks.restore("memory/a", to, ALICE)
    assert "first" in [path.read_text() for path in (past.tree / "memory/a").iterdir()], before
    check_sound(past)


def test_agent_that_restores_a_frozen_version_needs_the_right_to_activate(past: Past) -> None:
    """The version of a time when the file was frozen becomes active for an agent, which is a transition as well."""
    past.version(PATH, "first")
    change_state(past, "frozen")
    to = version_of(past, PATH, -1)
    change_state(past, "archived")
    allow(past, PEOPLE_ACTIVATE)
    assert code_of(lambda: past.archive.rollbacks.restore(PATH, to, ALICE)) == errno.EPERM
    assert state_of(past) == "archived"
    past.archive.rollbacks.restore(PATH, to, OWNER)
    assert state_of(past) == "frozen"
