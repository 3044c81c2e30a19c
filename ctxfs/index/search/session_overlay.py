"""Update of the overlay for sessions' files of the event log: only the parts that the index lacks are read."""

from collections.abc import Sequence
from itertools import groupby

from ctxfs.eventlog.session_files import ContentState, open_content, stat_content
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.catalog_schema import FileRow, tree_path
from ctxfs.index.extract.session_parts import (
    Parts,
    list_sessions,
    path_of,
    read_changes,
    session_parts,
    split_part,
    stat_of,
)
from ctxfs.index.options import IndexedRoot
from ctxfs.index.search.overlay import Overlay

_MAX_SESSION_BYTES = 524_288  # of new parts of one file; more are found with the index
_MAX_SESSIONS = 50
# Of parts that the index lacks. While there are more, as during an import, only small changes are taken: the analysis
# of the others would take as long as their indexing, a moment before it.
_MAX_BACKLOG_BYTES = 262_144
_SMALL_CHANGE_BYTES = 32_768


def update_sessions(
    overlay: Overlay, catalog: Catalog, root: IndexedRoot, paths: Sequence[Parts]
) -> tuple[list[str], list[str]]:
    """Return (paths of parts that the overlay has, paths of sessions that have to wait for the index).

    The outdated parts of a file that was written again are hidden, so that erased records are not found.
    """
    sessions: dict[Parts, None] = {}
    for parts in paths:
        if (session := session_parts(parts)) is not None:
            sessions[session] = None
        elif len(parts) < 2:
            sessions |= dict.fromkeys(list_sessions(root.root, parts))
    updated: list[str] = []
    waiting: list[str] = []
    for number, session in enumerate(reversed(sessions)):
        max_bytes = _MAX_SESSION_BYTES if number < _MAX_SESSIONS else 0
        names, is_complete = _update_session(overlay, catalog, root, session, max_bytes)
        updated += names
        waiting += [] if is_complete else ["/".join((root.prefix, *session))]
    return updated, waiting


def hide_outdated(overlay: Overlay, catalog: Catalog, root: IndexedRoot) -> None:
    """Hide the parts of an event log in the catalog whose files are gone or were written again. Reads stats only."""
    for path, group in groupby(catalog.files_below(root.prefix), key=lambda row: tree_path(row.path)):
        try:
            state = stat_content(root.root, *path.split("/")[-2:])
        except OSError:
            state = ContentState(-1, 0)
        for row in group:
            if _is_outdated(row, state):
                overlay.hide_part(row.path, row.stat)


def _is_outdated(row: FileRow, state: ContentState) -> bool:
    return row.stat[2] != state.inode or row.stat[0] + row.stat[3] > state.size


def _is_bulk(overlay: Overlay, rows: Sequence[FileRow], state: ContentState) -> bool:
    """Return True for a file that has grown by more than the overlay should take now."""
    added = state.size - (rows[-1].stat[0] + rows[-1].stat[3] if rows else 0)
    if added <= _SMALL_CHANGE_BYTES or overlay.part_bytes <= _MAX_BACKLOG_BYTES:
        return False
    return not any(_is_outdated(row, state) for row in rows)  # parts that were erased are hidden in any case


def _update_session(
    overlay: Overlay, catalog: Catalog, root: IndexedRoot, parts: Parts, max_bytes: int
) -> tuple[list[str], bool]:
    """Return (paths of the parts that the overlay has, True if all changes are among them)."""
    path = "/".join((root.prefix, *parts))
    rows = catalog.files_below(path)
    names: list[str] = []
    unchanged: set[str] = set()
    state, is_complete = ContentState(-1, 0), True
    try:
        with open_content(root.root, *parts) as (file, state):
            if _is_bulk(overlay, rows, state):
                return [], False
            for part in read_changes(file, state, rows):
                if isinstance(part, str):
                    unchanged.add(part)
                    continue
                max_bytes -= sum(map(len, part.lines))
                if max_bytes < 0:
                    is_complete = False
                    break
                split = split_part(parts[-1], part)
                names.append(path_of(path, part))
                overlay.put_part(names[-1], split, stat_of(part, state.inode, split.mtime_ns), part.sha256.hex())
    except FileNotFoundError:
        pass
    except OSError:
        is_complete = False  # the index reports why it cannot be read
    is_rewritten = len(rows) > 1 and not unchanged
    for row in rows:
        if (is_rewritten or _is_outdated(row, state)) and row.path not in unchanged and row.path not in names:
            overlay.hide_part(row.path, row.stat)
    return names, is_complete
