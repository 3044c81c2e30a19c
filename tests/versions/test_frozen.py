"""Frozen files in versions: pulls keep both contents, rollbacks skip them, erasure names them, logs show transitions."""

import errno
import os

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.versions.objects.commits import Actor
from tests.live import code_of
from tests.versions.conftest import ALICE, Past, check_sound
from tests.versions.test_forget_and_remotes import pair as pair
from tests.versions.test_forget_and_remotes import share

PATH = "memory/a/x.md"
OWNER = Actor("human:owner", "s-owner", "test", "")


def freeze(past: Past, state: str = "frozen") -> None:
    os.setxattr(past.tree / PATH, "user.ctx.state", state.encode())
    past.note("mark", PATH, who=OWNER)
    past.archive.commit()


def conflicts(past: Past) -> list[str]:
    return [path.read_text() for path in (past.tree / "memory/a").glob("x.conflict-*")]


def test_pull_from_a_trusted_remote_keeps_a_frozen_file_and_stores_theirs_beside(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.version(PATH, "first")
    share(one, two)
    freeze(two)
    one.version(PATH, "second")
    share(one, two)
    assert (two.tree / PATH).read_text() == "first"
    assert conflicts(two) == ["second"]
    check_sound(two)


def test_fast_forward_over_a_frozen_file_keeps_both_contents(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.version(PATH, "first")
    freeze(one)
    share(one, two)
    (one.tree / PATH).write_text("changed beside the tree")
    one.note("write", PATH)
    one.archive.commit()
    share(one, two)
    assert (two.tree / PATH).read_text() == "first"
    assert conflicts(two) == ["changed beside the tree"]
    check_sound(two)


def test_pull_does_not_remove_a_frozen_file(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.version(PATH, "first")
    share(one, two)
    freeze(two)
    one.remove(PATH)
    one.archive.commit()
    share(one, two)
    assert (two.tree / PATH).read_text() == "first"
    assert conflicts(two) == []


def test_state_that_was_lifted_at_a_trusted_remote_is_taken(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.version(PATH, "first")
    freeze(one)
    share(one, two)
    freeze(one, "active")
    one.version(PATH, "second")
    share(one, two)
    assert (two.tree / PATH).read_text() == "second"
    assert conflicts(two) == []


def test_rollbacks_of_other_files_skip_a_frozen_one(past: Past) -> None:
    past.version("memory/a/z.md", "first")
    start = past.archive.newest
    past.version(PATH, "first")
    past.version("memory/a/y.md", "first")
    freeze(past)
    outcome, _ = past.archive.rollbacks.restore("memory/a", start, ALICE)
    assert (past.tree / PATH).read_text() == "first"
    assert not (past.tree / "memory/a/y.md").exists()
    assert PATH.encode() in outcome.left
    for act in (
        lambda: past.archive.rollbacks.undo(PATH, ALICE),
        lambda: past.archive.rollbacks.restore(PATH, "prev", OWNER),
    ):
        assert code_of(act) == errno.EPERM
    check_sound(past)


def test_person_restores_a_frozen_state_and_an_agent_does_not(past: Past) -> None:
    past.version(PATH, "first")
    freeze(past)
    frozen = past.archive.newest
    freeze(past, "active")
    past.version(PATH, "second")
    past.archive.rollbacks.restore(PATH, frozen, ALICE)
    assert (past.tree / PATH).read_text() == "first"
    assert "user.ctx.state" not in os.listxattr(past.tree / PATH)
    past.archive.rollbacks.restore(PATH, frozen, OWNER)
    assert os.getxattr(past.tree / PATH, "user.ctx.state") == b"frozen"


def test_frozen_content_is_erased_only_after_its_state_is_lifted(past: Past) -> None:
    past.version(PATH, "secret")
    freeze(past)
    for path, principal in ((PATH, ""), ("memory/a", ""), (None, "agent:alice")):
        with pytest.raises(CommandError, match="frozen"):
            past.archive.erasure.erase(path, principal, OWNER)
    freeze(past, "active")
    past.archive.erasure.erase(PATH, "", OWNER)
    assert not (past.tree / PATH).exists() or (past.tree / PATH).is_symlink()


def test_log_shows_each_transition(past: Past) -> None:
    past.version(PATH, "first")
    for state in ("archived", "frozen", "active"):
        freeze(past, state)
    past.write("memory/a/y.md", "new", OWNER)
    freeze(past, "merged")
    assert past.subjects(PATH)[1:] == [
        f"state active → archived {PATH}",
        f"state archived → frozen {PATH}",
        f"state frozen → active {PATH}",
        f"write memory/a/y.md; state active → merged {PATH}",
    ]
