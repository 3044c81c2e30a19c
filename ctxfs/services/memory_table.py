"""The memories that the calling principal may read, as a table: filtered, in parts, with citations and deliveries.

Files are read from the work tree, so that the table has each change at once. Rows are cached by the stat values of their
files: ten thousand memories cost a request one `lstat` each.
"""

import os
import stat as st
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
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
    stamp: tuple[int, int, int, int]
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
        return MemoryPage(rows, len(matching), count_values(visible), is_complete)

    async def sums(self, below: Path, wanted: MemoryFilter) -> Sequence[FolderSum]:
        """Return the sums of the matching memories by agent, kind and folder, the most tokens first."""
        visible, _ = await blocking(self._visible, below)
        return sum_folders(await blocking(self._match, visible, wanted))

    async def _states(self, rows: Sequence[MemoryRow]) -> dict[str, str]:
        values = [(row.path, row.cites) for row in rows if row.cites]
        return {file.path: file.state.value for file in await self._citations.check_values(values)}

    def _match(self, rows: Sequence[MemoryRow], wanted: MemoryFilter) -> list[MemoryRow]:
        matching = [row for row in rows if wanted.matches(row)]
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

    def _visible(self, below: Path) -> tuple[list[MemoryRow], bool]:
        """Return the rows at and below a path that the calling principal may read, and True if no file was left out."""
        reader, prefix = self._scope.reader(), f"{below}/"
        rows, is_complete = self._scan()
        inside = (row for row in rows if row.path == str(below) or row.path.startswith(prefix))
        return [row for row in inside if reader is None or reader.may_read(row.path)], is_complete

    def _scan(self) -> tuple[list[MemoryRow], bool]:
        """Return the rows of all memories, in the order of the table, and True if no file was left out."""
        with self._lock:
            kinds, cached, is_complete = self._kinds(), dict[str, _Cached](), True
            if kinds != self._cached_kinds:
                self._cached, self._cached_kinds = {}, kinds
            for parts, stamp in self._walk():
                path = "/".join(parts)
                known = self._cached.get(path)
                if known is None or known.stamp != stamp:
                    if (row := self._read(parts, stamp, kinds)) is None:
                        continue
                    known = _Cached(stamp, row)
                cached[path] = known
                if len(cached) >= _MAX_FILES:
                    is_complete = False
                    break
            self._cached = cached
        return sorted((known.row for known in cached.values()), key=lambda row: row.order), is_complete

    def _walk(self) -> Iterator[tuple[tuple[str, ...], tuple[int, int, int, int]]]:
        """Yield (path, stat values) of the regular files below memory/."""
        top = os.path.join(self._root, _AREA)
        for folder, _, names in rooted_fs.walk(top):
            above = (_AREA, *(os.path.relpath(folder, top).split(os.sep) if folder != top else ()))
            for name in names:
                if rooted_fs.is_temporary(encode_name(name)):
                    continue
                try:
                    stat = os.lstat(os.path.join(folder, name))
                except OSError:
                    continue
                if st.S_ISREG(stat.st_mode):
                    yield (*above, name), (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)

    def _read(
        self, parts: tuple[str, ...], stamp: tuple[int, int, int, int], kinds: Container[str]
    ) -> MemoryRow | None:
        try:
            with rooted_fs.directory_of(self._root, parts) as (parent, name):
                attributes = rooted_fs.read_xattrs(rooted_fs.magic_path(parent, name))
            head = rooted_fs.read_head(self._root, parts, _HEAD_BYTES)
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
            self._cached = {}


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
