"""A copy of the columns on disk, so that a large index is opened without a query of every chunk.

The file `columns.npz` in the folder of the index is derived. It is valid for one catalog, and until the machine starts
again: after a power cut the catalog may lack its last commits, and gives their numbers to others. Changes since then are
in the catalog's list of changes. A file that cannot be read is the same as none.
"""

import contextlib
import json
import logging
import os
import zipfile
from pathlib import Path as HostPath
from typing import Any, NamedTuple

import numpy as np

from ctxfs.index.engines.catalog_schema import COLUMNS_FILE
from ctxfs.index.search.chunk_columns import ChunkColumns, ColumnState
from ctxfs.store import rooted_fs

log = logging.getLogger(__name__)

_FORMAT = 1
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MIN_ROWS = 20_000  # fewer are loaded from the catalog in some hundredths of a second
_MIN_SHARE = 0.05  # of the rows, which have changed since the last checkpoint
_HEADER, _ALIVE, _COLUMN_PREFIX = "header", "alive", "column."


class _Header(NamedTuple):
    format: int
    boot: str
    catalog: str
    last_change: int
    texts: list[list[str]]


class ColumnCheckpoint:
    """The checkpoint of one index. One thread at a time uses it."""

    def __init__(self, folder: HostPath) -> None:
        self._file = folder / COLUMNS_FILE
        self._saved_rows = 0  # rows that had been loaded from the catalog at the last checkpoint
        self._boot = _read_boot_id()

    def restore(self, catalog: str) -> ChunkColumns:
        """Return the columns of a valid checkpoint of a catalog, else empty ones."""
        columns = ChunkColumns()
        if (state := self.load(catalog)) is not None:
            try:
                columns.restore(state)
            except ValueError:
                return ChunkColumns()
        return columns

    def load(self, catalog: str) -> ColumnState | None:
        """Return the columns of a catalog with this identifier; None if there is no valid checkpoint of it."""
        try:
            with open(rooted_fs.open_regular(self._file), "rb") as file, np.load(file, allow_pickle=False) as arrays:
                header = _Header(*json.loads(arrays[_HEADER].tobytes()))
                if header[:3] != (_FORMAT, self._boot, catalog) or not self._boot:
                    return None
                names = [name for name in arrays.files if name.startswith(_COLUMN_PREFIX)]
                columns = {name.removeprefix(_COLUMN_PREFIX): arrays[name] for name in names}
                return ColumnState(header.last_change, columns, arrays[_ALIVE], header.texts)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.warning("the copy of the columns cannot be read, and is made again: %s", error)
            return None

    def save_if_due(self, loaded_rows: int, state: ColumnState, catalog: str) -> None:
        """Write the columns if many rows have been loaded since the last checkpoint. A failure is logged only."""
        due = max(_MIN_ROWS, int(_MIN_SHARE * len(state.alive)))
        if loaded_rows - self._saved_rows < due or not self._boot:
            return
        self._saved_rows = loaded_rows
        header = _Header(_FORMAT, self._boot, catalog, state.last_change, state.texts)
        arrays: dict[str, Any] = {f"{_COLUMN_PREFIX}{name}": column for name, column in state.columns.items()}
        arrays[_HEADER] = np.frombuffer(json.dumps(header).encode("utf-8", "surrogatepass"), dtype=np.uint8)
        arrays[_ALIVE] = state.alive
        temporary = self._file.with_name(f".{COLUMNS_FILE}.{os.getpid()}")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "wb") as file:
                np.savez(file, **arrays)
            os.replace(temporary, self._file)
        except OSError as error:
            log.warning("the copy of the columns cannot be written: %s", error.strerror)
            with contextlib.suppress(OSError):
                temporary.unlink()


def _read_boot_id() -> str:
    """Return the identifier of this start of the machine; empty if it is unknown."""
    try:
        return rooted_fs.read_path(_BOOT_ID).decode("ascii", "replace").strip()
    except OSError:
        return ""
