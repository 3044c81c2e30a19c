"""memory.toml on disk: the last good rules stay in force while it is damaged or being written."""

import os
from pathlib import Path

import pytest

from ctxfs.memory.states import BUILT_IN_TRANSITIONS
from ctxfs.store.memory_file import LAST_GOOD_NAME, MEMORY_EXAMPLE, MemoryFile

GOOD = b'[pad]\nexpire = "30d"\n'
SECOND = 1_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.toml"


def put(path: Path, data: bytes, at: int) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(at, at))


def test_absent_file_has_the_built_in_rules_and_reads_as_an_example(path: Path) -> None:
    file = MemoryFile(path)
    assert file.rules.pad.expire_seconds == 0
    assert file.fault == ""
    assert file.read() == MEMORY_EXAMPLE
    assert not any(line and not line.startswith(b"#") for line in MEMORY_EXAMPLE.splitlines())


def test_example_without_its_comment_signs_is_good(path: Path) -> None:
    lines = MEMORY_EXAMPLE.splitlines()[3:]
    path.write_bytes(b"\n".join(line.removeprefix(b"# ").removeprefix(b"#") for line in lines))
    file = MemoryFile(path)
    assert file.fault == ""
    assert "decision" in file.rules.kinds


bad_contents = pytest.mark.parametrize(
    "bad",
    [b'[pad]\nexpire = "30', b"[pads]\n", b"\xff\xfe", b"[pad]\n" * 2, b"#" * 2_000_000 + b"\n["],
    ids=lambda bad: str(bad[:9]),
)


@bad_contents
def test_last_good_rules_stay(path: Path, bad: bytes) -> None:
    now = 100 * SECOND
    file = MemoryFile(path, lambda: now)
    put(path, GOOD, SECOND)
    assert file.rules.pad.expire_seconds == 30 * 86_400
    put(path, bad, 2 * SECOND)
    assert file.rules.pad.expire_seconds == 30 * 86_400
    assert "memory.toml" in file.fault
    put(path, b"", 3 * SECOND)
    assert file.rules.pad.expire_seconds == 0
    assert file.fault == ""


def test_bad_file_at_the_start_leaves_the_built_in_rules(path: Path) -> None:
    path.write_bytes(b"[")
    file = MemoryFile(path)
    assert "fact" in file.rules.kinds
    assert file.fault


def test_changed_file_waits_until_it_is_stable(path: Path) -> None:
    now = 100 * SECOND
    file = MemoryFile(path, lambda: now)
    put(path, GOOD, SECOND)
    assert file.rules.pad.expire_seconds
    put(path, b"", now - SECOND // 4)  # an editor has truncated it, and is about to write
    assert file.rules.pad.expire_seconds
    now += SECOND
    assert not file.rules.pad.expire_seconds


def test_write_is_in_force_at_once(path: Path) -> None:
    file = MemoryFile(path)
    assert not file.rules.pad.expire_seconds
    file.write(GOOD)
    assert file.rules.pad.expire_seconds
    assert file.read() == GOOD
    with pytest.raises(OSError, match="at most"):
        file.write(b"#" * 1_000_001)


STRICT = b"[kind.decision]\nmust = ['reason']\n[[state.transition]]\nfrom = 'archived'\nto = '*'\nwho = 'people'\n"


@bad_contents
def test_last_good_rules_outlive_a_restart(path: Path, bad: bytes) -> None:
    put(path, STRICT, SECOND)
    rules = MemoryFile(path).rules
    put(path, bad, 2 * SECOND)
    for _ in range(2):
        file = MemoryFile(path)
        assert file.rules == rules
        assert "memory.toml" in file.fault
        assert file.fault.endswith("the last good rules are in force")
    put(path, GOOD, 3 * SECOND)
    assert file.rules.pad.expire_seconds
    put(path, bad, 4 * SECOND)
    assert MemoryFile(path).rules == file.rules


def test_file_that_is_being_written_at_the_start_waits_until_it_is_stable(path: Path) -> None:
    """Half a file may be well-formed: here the transitions are missing."""
    now = 100 * SECOND
    put(path, STRICT, SECOND)
    rules = MemoryFile(path, lambda: now).rules
    put(path, STRICT[: STRICT.index(b"[[")], now - SECOND // 4)
    file = MemoryFile(path, lambda: now)
    assert file.rules == rules
    now += SECOND
    assert file.rules.transitions == BUILT_IN_TRANSITIONS
    assert "decision" in file.rules.kinds


def test_rules_that_were_removed_do_not_come_back(path: Path) -> None:
    put(path, STRICT, SECOND)
    assert MemoryFile(path).rules.transitions != BUILT_IN_TRANSITIONS
    path.unlink()
    assert MemoryFile(path).rules.transitions == BUILT_IN_TRANSITIONS
    put(path, b"[", SECOND)
    file = MemoryFile(path)
    assert file.rules.transitions == BUILT_IN_TRANSITIONS
    assert file.fault.endswith("the built-in rules are in force")


def test_damaged_copy_of_the_last_good_rules_costs_only_these(path: Path) -> None:
    put(path, STRICT, SECOND)
    assert MemoryFile(path).fault == ""
    put(path, b"[", SECOND)
    (path.parent / LAST_GOOD_NAME).write_bytes(b"\xff[")
    assert "built-in" in MemoryFile(path).fault
    (path.parent / LAST_GOOD_NAME).unlink()
    (path.parent / LAST_GOOD_NAME).mkdir()
    put(path, STRICT, 2 * SECOND)
    file = MemoryFile(path)
    assert file.fault == ""
    assert "decision" in file.rules.kinds
