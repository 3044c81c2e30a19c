"""Test that a store of a newer format is left alone."""

from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.store.layout import create_store, find_store
from ctxfs.store.store_format import FORMAT, FORMAT_NAME


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return create_store(tmp_path / "store").root


def test_new_store_has_the_present_format(store: Path) -> None:
    assert (store / FORMAT_NAME).read_text() == f"{FORMAT}\n"
    assert find_store(str(store)).root == store


def test_store_without_a_number_is_used_and_completed(store: Path) -> None:
    (store / FORMAT_NAME).unlink()
    find_store(str(store))
    create_store(store)
    assert (store / FORMAT_NAME).read_text() == f"{FORMAT}\n"


def test_store_of_a_newer_format_is_refused_and_unchanged(store: Path) -> None:
    (store / FORMAT_NAME).write_text(f"{FORMAT + 1}\n")
    before = sorted((path, path.lstat().st_mtime_ns) for path in store.rglob("*"))
    for use in (lambda: find_store(str(store)), lambda: create_store(store)):
        with pytest.raises(CommandError, match=f"has format {FORMAT + 1}") as refused:
            use()
        assert "upgrade" in refused.value.remedy
    assert sorted((path, path.lstat().st_mtime_ns) for path in store.rglob("*")) == before


@pytest.mark.parametrize("text", ["", "one", "-1", "\x00", "²"])
def test_damaged_number_is_an_error(store: Path, text: str) -> None:
    (store / FORMAT_NAME).write_text(text)
    for use in (lambda: find_store(str(store)), lambda: create_store(store)):
        with pytest.raises(CommandError, match="no number of a format"):
            use()
