"""The columns on disk are those of the catalog, or they are not used."""

from pathlib import Path

import numpy as np
import pytest

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.catalog_schema import COLUMNS_FILE, drop_columns
from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.search import column_checkpoint
from ctxfs.index.search.chunk_columns import ChunkColumns
from ctxfs.index.search.column_checkpoint import ColumnCheckpoint


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_checkpoint, "_MIN_ROWS", 5)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog(tmp_path)
    made.identifier()
    for number in range(20):
        put(made, f"knowledge/f{number % 3}/{number}.md", 3)
    return made


def put(catalog: Catalog, path: str, chunks: int) -> None:
    with catalog.transaction():
        file = catalog.put_file(path, "knowledge", (1, 1, 1, 1), b"", "markdown", "words", "")
        catalog.replace_chunks(file, [Chunk(f"{path} {n}", n, n, author=f"author {n}") for n in range(chunks)])


def load(catalog: Catalog, folder: Path) -> tuple[ChunkColumns, int]:
    """Return the columns of the checkpoint and of the changes since, and the number of rows read from the catalog."""
    columns = ColumnCheckpoint(folder).restore(catalog.identifier())
    columns.load(catalog)
    return columns, columns.loaded_rows


def save(catalog: Catalog, folder: Path) -> None:
    columns = ChunkColumns()
    columns.load(catalog)
    ColumnCheckpoint(folder).save_if_due(columns.loaded_rows, columns.state(), catalog.identifier())


def assert_equal(first: ChunkColumns, second: ChunkColumns) -> None:
    one, other = first.candidates(range(1, 200)), second.candidates(range(1, 200))
    for name in ("chunks", "files", "kinds", "authors", "days", "traits", "words", "vectors", "roles"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert first.corpus_counts() == second.corpus_counts()


def test_restored_columns_are_those_of_the_catalog_with_all_changes(tmp_path: Path, catalog: Catalog) -> None:
    save(catalog, tmp_path)
    put(catalog, "knowledge/f9/new.md", 2)
    put(catalog, "knowledge/f0/0.md", 1)
    catalog.mark_gone("knowledge/f1/1.md")
    restored, rows = load(catalog, tmp_path)
    assert rows == 3, "only the changed files are read"
    fresh = ChunkColumns()
    fresh.load(catalog)
    assert_equal(restored, fresh)
    put(catalog, "knowledge/f9/later.md", 2)
    restored.load(catalog)
    fresh.load(catalog)
    assert_equal(restored, fresh)


def test_checkpoint_is_written_after_many_rows_only(tmp_path: Path, catalog: Catalog) -> None:
    columns, checkpoint = ChunkColumns(), ColumnCheckpoint(tmp_path)
    for number in range(4):
        put(catalog, f"knowledge/later/{number}", 1)
        columns.load(catalog)
        (tmp_path / COLUMNS_FILE).unlink(missing_ok=True)
        checkpoint.save_if_due(columns.loaded_rows, columns.state(), catalog.identifier())
        assert (tmp_path / COLUMNS_FILE).exists() == (number == 0)


@pytest.mark.parametrize("damage", ["empty", "cut", "other bytes", "a list"])
def test_damaged_checkpoint_is_none(
    tmp_path: Path, catalog: Catalog, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(catalog, tmp_path)
    file = tmp_path / COLUMNS_FILE
    data = file.read_bytes()
    contents = {"empty": b"", "cut": data[: len(data) // 2], "other bytes": data.replace(b"author", b"\xff\xfe{}[]")}
    file.write_bytes(contents.get(damage, b"[1]"))
    columns, rows = load(catalog, tmp_path)
    assert rows == 60
    assert len(columns) == 60
    caplog.clear()


def test_checkpoint_of_another_catalog_or_start_of_the_machine_is_none(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(catalog, tmp_path)
    assert ColumnCheckpoint(tmp_path).load(catalog.identifier()) is not None
    assert ColumnCheckpoint(tmp_path).load("another") is None
    monkeypatch.setattr(column_checkpoint, "_read_boot_id", lambda: "after a power cut")
    assert ColumnCheckpoint(tmp_path).load(catalog.identifier()) is None


def test_checkpoint_of_lost_commits_is_read_as_none(tmp_path: Path, catalog: Catalog) -> None:
    save(catalog, tmp_path)
    with catalog.transaction():
        catalog._db.execute("DELETE FROM changes WHERE id > 10")
    _, rows = load(catalog, tmp_path)
    assert rows == 60


def test_erasure_removes_the_checkpoint(tmp_path: Path, catalog: Catalog) -> None:
    save(catalog, tmp_path)
    assert b"author 1" in (tmp_path / COLUMNS_FILE).read_bytes()
    drop_columns(tmp_path)
    drop_columns(tmp_path)
    assert not (tmp_path / COLUMNS_FILE).exists()
