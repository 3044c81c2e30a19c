"""Test that rules are reloaded from their files as these change, whole files only."""

import errno
from pathlib import Path

import pytest

from ctxfs.model.path import Path as TreePath
from ctxfs.model.principal import Principal
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import Verb

ALICE = Principal("agent", "alice")
PLACE = TreePath.parse("knowledge/handbook/secret/x.md")
DENIAL = '[[rule]]\nprincipal = "agent:*"\npath = "knowledge/*/secret"\nverbs = "lrwxa"\neffect = "deny"\n'


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Return the settings file, which exists, and a file with rules alone, which is optional."""
    (tmp_path / "ctxfs.toml").write_text('[groups]\nteam = ["agent:alice"]\n')
    return tmp_path / "ctxfs.toml", tmp_path / "policy.toml"


def may(book: PolicyEngine) -> bool:
    return book.is_allowed(ALICE, Verb.READ, PLACE)


def test_rules_of_both_files_hold_and_share_their_groups(files: tuple[Path, Path]) -> None:
    book = PolicyEngine(files)
    assert may(book)
    files[1].write_text(DENIAL.replace("agent:*", "group:team"))
    assert book.reload()
    assert not may(book)
    assert book.fault == ""


def test_denial_applies_at_once_and_ends_only_after_the_file_is_stable(files: tuple[Path, Path]) -> None:
    clock = [0.0]
    book = PolicyEngine(files, now=lambda: clock[0])
    files[1].write_text(DENIAL)
    assert book.reload()
    files[1].write_text("")  # an editor empties the file before it writes
    assert not book.reload()
    assert not may(book)
    files[1].write_text("# again\n" + DENIAL)
    book.reload()
    assert not may(book)
    files[1].write_text("# done\n")
    assert not book.reload()
    clock[0] += 0.4
    assert not book.reload(), "a writer on a busy machine is still at it"
    clock[0] += 0.2
    assert book.reload()
    assert may(book)


def test_member_that_leaves_a_denied_group_waits_too(files: tuple[Path, Path]) -> None:
    clock = [0.0]
    book = PolicyEngine(files, now=lambda: clock[0])
    files[1].write_text(DENIAL.replace("agent:*", "group:team"))
    book.reload()
    files[0].write_text("[groups]\nteam = []\n")
    assert not book.reload()
    assert not may(book)
    clock[0] += 0.6
    assert book.reload()
    assert may(book)


@pytest.mark.parametrize("text", ["[[rule]\n", "[mount]\nloop = 'trio'\n", "[groups]\nteam = []\n", "\x00"])
def test_last_good_rules_stay_while_a_file_has_an_error(files: tuple[Path, Path], text: str) -> None:
    book = PolicyEngine(files)
    files[1].write_text(DENIAL)
    book.reload()
    files[1].write_text(text)
    book.reload()
    assert "policy.toml" in book.fault
    assert not may(book)


def test_agents_have_no_access_while_the_denials_are_unreadable(files: tuple[Path, Path]) -> None:
    files[1].write_text("[[rule]\n")
    book = PolicyEngine(files)
    assert not may(book)
    assert book.is_unrestricted(Principal("human", "ada"))
    files[1].write_text("")
    book.reload()
    assert may(book)


def test_agents_are_refused_with_the_reason_while_people_alone_are_served(files: tuple[Path, Path]) -> None:
    reason = ""
    files[0].write_text('[[rule]]\nprincipal = "agent:admin"\npath = "**"\nverbs = "lrwxa"\n')
    book = PolicyEngine(files, refuses_agents=lambda: reason)
    other = PolicyEngine()
    admin, ada = Principal("agent", "admin"), Principal("human", "ada")
    assert may(book) and book.is_unrestricted(admin) and not book.reload()
    reason = "the engine is silent"
    assert book.reload() and not book.reload()
    other.use_wire(book.wire)
    for engine in (book, other):
        for agent in (ALICE, admin):
            assert not engine.is_unrestricted(agent)
            with pytest.raises(OSError, match=reason) as caught:
                engine.rights(agent, PLACE)
            assert caught.value.errno == errno.EHOSTUNREACH
        assert engine.rights(ada, PLACE).allows(Verb.READ) and engine.rights(None, PLACE).allows(Verb.READ)
        assert engine.rights_by_rules(ALICE, PLACE).allows(Verb.READ), "the rules are shown as they are"
    reason = ""
    assert book.reload()
    other.use_wire(book.wire)
    assert may(book) and may(other) and book.is_unrestricted(admin)
