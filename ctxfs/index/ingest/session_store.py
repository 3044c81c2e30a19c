"""Store of the parts of sessions' files in the catalog: only new and changed parts are read, split and stored."""

import errno
from collections.abc import Collection, Iterable, Sequence

from ctxfs.eventlog.session_files import ContentState, open_content, stat_content
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.catalog_schema import FileRow, tree_path
from ctxfs.index.extract.session_parts import (
    KIND,
    PARTS_FORMAT,
    Parts,
    PartText,
    is_current,
    list_sessions,
    path_of,
    read_changes,
    split_part,
    stat_of,
)
from ctxfs.index.options import IndexedRoot

_NO_STAT = (0, 0, 0, 0)
_FORMAT_FACT = "parts"


class SessionStore:
    """The sessions' files of an event log in the catalog. Only the thread of the ingester may use it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def drop_old_parts(self, roots: Iterable[IndexedRoot]) -> None:
        """Mark the parts of event logs as gone if they have another format, so that they are read again."""
        if self._catalog.fact(_FORMAT_FACT) != PARTS_FORMAT:
            for root in roots:
                self._catalog.mark_source_gone(root.prefix)
            self._catalog.set_fact(_FORMAT_FACT, PARTS_FORMAT)

    def find_changes(self, root: IndexedRoot, below: Parts) -> tuple[Collection[str], Sequence[Parts]]:
        """Return (paths in the catalog whose file is gone, sessions' files to store) of a log or of a day. Reads stats only."""
        start = "/".join((root.prefix, *below))
        rows: dict[str, list[FileRow]] = {}
        for row in self._catalog.files_below(start):
            rows.setdefault(tree_path(row.path), []).append(row)
        changed = []
        for parts in list_sessions(root.root, below):
            known = rows.pop("/".join((root.prefix, *parts)), [])
            if not _has_stat(root, parts, known):
                changed.append(parts)
        return [row.path for of_file in rows.values() for row in of_file], changed

    def store(self, root: IndexedRoot, parts: Parts) -> None:
        """Store the parts of a session's file that the catalog lacks, as `pending`, and mark its other rows as gone."""
        path = "/".join((root.prefix, *parts))
        old_rows = {row.path: row for row in self._catalog.files_below(path)}
        kept: set[str] = set()
        fault = ""
        try:
            with open_content(root.root, *parts) as (file, stat):
                for item in read_changes(file, stat, list(old_rows.values())):
                    if isinstance(item, str):
                        kept.add(item)
                    else:
                        kept.add(self._store_part(root.prefix, path, item, stat, old_rows))
        except FileNotFoundError:
            kept.clear()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            fault = error.strerror or ""
        for gone in old_rows.keys() - kept:
            self._catalog.mark_gone(gone)
        if fault:
            number = self._catalog.put_file(path, root.prefix, _NO_STAT, None, KIND, "skipped", f"unreadable: {fault}")
            self._catalog.replace_chunks(number, ())
        else:
            self._catalog.mark_gone(path)

    def _store_part(
        self, prefix: str, path: str, text: PartText, stat: ContentState, old_rows: dict[str, FileRow]
    ) -> str:
        """Store one part and return its path; a part that only moved to another file gets its new stat."""
        name = path_of(path, text)
        row = old_rows.get(name)
        if row is not None and row.sha256 == text.sha256 and row.state in ("words", "pending"):
            self._catalog.update_stat(row.id, stat_of(text, stat.inode, row.stat[1]), "")
            return name
        split = split_part(path.rpartition("/")[2], text)
        values = stat_of(text, stat.inode, split.mtime_ns)
        number = self._catalog.put_file(name, prefix, values, text.sha256, KIND, "pending", "")
        self._catalog.set_attributes(number, split.labels)
        self._catalog.replace_chunks(number, split.chunks)
        return name


def _has_stat(root: IndexedRoot, parts: Parts, rows: Sequence[FileRow]) -> bool:
    """Return True if the rows are those of the file in its current state."""
    try:
        return is_current(stat_content(root.root, *parts), rows)
    except FileNotFoundError:
        return False
