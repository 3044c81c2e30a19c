"""The memories that the calling principal may read, as a table: filtered, in parts, with citations and deliveries.

Files are read from the work tree, so that the table has each change at once. Rows are cached by the stat values of their
files: ten thousand memories cost a request one `lstat` each.
"""

import os
import threading
from collections.abc import Callable, Container, Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from pathlib import Path as HostPath
from typing import Any

from ctxfs.context.build.token_bound import upper_bound
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.memory.citations import BROKEN, NO_CITATIONS, State
from ctxfs.memory.kinds import kind_of
from ctxfs.memory.table import FolderSum, MemoryFilter, MemoryRow, count_values, row_of, sum_folders
from ctxfs.model.path import Path, encode_name, printable
from ctxfs.services.caller_scope import CallerScope
from ctxfs.services.citations import Citations
from ctxfs.services.use import Use
from ctxfs.store import rooted_fs
from ctxfs.threads import blocking

MAX_ROWS = 200
_AREA = "memory"
_MAX_FILES = 50_000
_HEAD_BYTES = 16_384
_MAX_WITHHELD_BYTES = 4 << 20
_BINARY_BYTES_PER_TOKEN = 4
_ORDER = attrgetter("agent", "kind", "path")  # as `MemoryRow.order`, without a call in Python for each

_ANY = MemoryFilter()

_Stamp = tuple[int, int, int, int]  # mtime, ctime, size and inode of a file


@dataclass(frozen=True, slots=True)
class MemoryPage:
    """A part of the table: rows as plain values, the number of all that match, and the counts of values before filters.

    `is_complete` is False if the store has more memories than are read.
    """

    rows: Sequence[dict[str, Any]]
    total: int
    counts: dict[str, dict[str, int]]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class _Cached:
    stamp: _Stamp
    row: MemoryRow


class MemoryTable:
    """The table of one store, for the calling principal."""

    def __init__(
        self,
        tree: HostPath,
        kinds: Callable[[], Container[str]],
        citations: Citations,
        use: Use,
        scope: CallerScope,
    ) -> None:
        """Take the work tree of the store, and the kinds that a folder may imply."""
        self._root = str(tree)
        self._kinds = kinds
        self._citations = citations
        self._use = use
        self._scope = scope
        self._lock = threading.Lock()  # protects the cache
        self._cached: dict[str, _Cached] = {}
        self._sorted: Sequence[MemoryRow] = []  # the rows of the cache, in the order of the table
        self._counted: tuple[Sequence[MemoryRow], dict[str, dict[str, int]]] = ((), {})
        self._cached_kinds: Container[str] = ()

    async def rows(self, below: Path, wanted: MemoryFilter, holds: str, offset: int, limit: int) -> MemoryPage:
        """Return `limit` rows from `offset`, of the memories at and below a path. `holds` is one of `citations.HOLDS`, or empty."""
        visible, is_complete = await blocking(self._visible, below)
        matching = await blocking(self._match, visible, wanted)
        states = dict[str, str]()
        if holds:
            states = await self._states(matching)
            matching = [row for row in matching if _has_state(states.get(row.path, NO_CITATIONS), holds)]
        part = await blocking(self._withhold, matching[offset : offset + max(1, min(limit, MAX_ROWS))])
        states = states or await self._states(part)
        deliveries = await self._use.last_deliveries({row.path for row in part})
        rows = [_record(row, states.get(row.path, ""), deliveries.get(row.path, ("", ""))) for row in part]
        return MemoryPage(rows, len(matching), self._count(visible), is_complete)

    def _count(self, rows: Sequence[MemoryRow]) -> dict[str, dict[str, int]]:
        """Return the counts of values; those of all memories are computed only after a change."""
        if rows is not self._sorted:
            return count_values(rows)
        if self._counted[0] is not rows:
            self._counted = rows, count_values(rows)
        return self._counted[1]

    def prepare(self) -> None:
        """Read all memories, so that the first request does not wait for that. Blocks."""
        self._count(self._scan()[0])

    async def sums(self, below: Path, wanted: MemoryFilter) -> Sequence[FolderSum]:
        """Return the sums of the matching memories by agent, kind and folder, the most tokens first."""
        visible, _ = await blocking(self._visible, below)
        return sum_folders(await blocking(self._match, visible, wanted))

    async def _states(self, rows: Sequence[MemoryRow]) -> dict[str, str]:
        values = [(row.path, row.cites) for row in rows if row.cites]
        return {file.path: file.state.value for file in await self._citations.check_values(values)}

    def _match(self, rows: Sequence[MemoryRow], wanted: MemoryFilter) -> list[MemoryRow]:
        matching = list(rows) if wanted == _ANY else [row for row in rows if wanted.matches(row)]
        if wanted.words:  # a text that is withheld must not show by the words in it
            matching = [row for row in matching if not self._is_withheld(row)]
        return matching

    def _withhold(self, rows: Sequence[MemoryRow]) -> list[MemoryRow]:
        """Return rows without the texts that quarantine hides from the calling agent."""
        return [replace(row, excerpt="") if self._is_withheld(row) else row for row in rows]

    def _is_withheld(self, row: MemoryRow) -> bool:
        reader = self._scope.reader()
        if reader is None or reader.sees_quarantined or not self._scope.has_quarantine():
            return False
        path = Path(tuple(row.path.split("/")))
        try:
            data = rooted_fs.read_head(self._root, path.parts, _MAX_WITHHELD_BYTES)
        except OSError:
            return True
        return self._scope.is_withheld(path, data)

    def _visible(self, below: Path) -> tuple[Sequence[MemoryRow], bool]:
        """Return the rows at and below a path that the calling principal may read, and True if no file was left out."""
        reader, prefix = self._scope.reader(), f"{below}/"
        rows, is_complete = self._scan()
        if str(below) != _AREA:
            rows = [row for row in rows if row.path == str(below) or row.path.startswith(prefix)]
        return [row for row in rows if reader.may_read(row.path)] if reader is not None else rows, is_complete

    def _scan(self) -> tuple[Sequence[MemoryRow], bool]:
        """Return the rows of all memories, in the order of the table, and True if no file was left out.

        The rows are sorted only after a change.
        """
        with self._lock:
            kinds, cached, is_complete, is_changed = self._kinds(), dict[str, _Cached](), True, False
            if kinds != self._cached_kinds:
                self._cached, self._cached_kinds = {}, kinds
            for relative, stat in rooted_fs.walk_files(os.path.join(self._root, _AREA)):
                path, stamp = f"{_AREA}/{relative}", _stamp_of(stat)
                known = self._cached.get(path)
                if known is None or known.stamp != stamp:
                    is_changed = True
                    if (row := self._read(path, stamp, kinds)) is None:
                        continue
                    known = _Cached(stamp, row)
                cached[path] = known
                if len(cached) >= _MAX_FILES:
                    is_complete = False
                    break
            if is_changed or len(cached) != len(self._cached) or len(cached) != len(self._sorted):
                self._sorted = sorted((known.row for known in cached.values()), key=_ORDER)
            self._cached = cached
            return self._sorted, is_complete

    def _read(self, path: str, stamp: _Stamp, kinds: Container[str]) -> MemoryRow | None:
        parts = tuple(path.split("/"))
        try:
            descriptor = rooted_fs.open_file(self._root, parts)
            try:
                attributes = rooted_fs.read_xattrs(descriptor)
                head = os.read(descriptor, _HEAD_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            return None
        changed_ns, _, size, _ = stamp
        kind, text = kind_of(parts, attributes, kinds), read_text(head)
        tokens = size // _BINARY_BYTES_PER_TOKEN
        if text is not None:
            tokens = round(upper_bound(text) * size / len(head)) if size > len(head) else upper_bound(text)
        return row_of(parts, attributes, kind, text or "", tokens, changed_ns)

    def forget(self) -> None:
        """Drop all cached rows, after an erasure."""
        with self._lock:
            self._cached, self._sorted = {}, []


def _stamp_of(stat: os.stat_result) -> _Stamp:
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino


def _has_state(state: str, wanted: str) -> bool:
    return state == wanted or (wanted == BROKEN and state != NO_CITATIONS and State(state).is_broken)


def _record(row: MemoryRow, holds: str, delivery: tuple[str, str]) -> dict[str, Any]:
    """Return a row as plain values; `raw` has the bytes of a path that is not UTF-8."""
    record = asdict(row)
    del record["cites"]
    path = printable(row.path)
    raw = {"raw": encode_name(row.path).hex()} if path != row.path else {}
    text = record.pop("excerpt")
    times = {"delivered": delivery[0], "delivered_to": delivery[1]}
    pinned = record.pop("is_pinned")
    return {**record, "path": path, **raw, "text": text, "pinned": pinned, "holds": holds, **times}
