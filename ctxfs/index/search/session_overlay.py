"""Update of the overlay for sessions' files of the event log: only the parts that the index lacks are read."""

from collections.abc import Sequence
from itertools import groupby

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.catalog_schema import FileRow, tree_path
from ctxfs.index.extract.session_files import (
    Parts,
    SessionStat,
    list_sessions,
    open_session,
    path_of,
    read_changes,
    session_parts,
    split_part,
    stat_of,
    stat_session,
)
from ctxfs.index.options import IndexedRoot
from ctxfs.index.search.overlay import Overlay

_MAX_SESSION_BYTES = 524_288  # of new parts of one file; more are found with the index
_MAX_SESSIONS = 50


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
            state = stat_session(root.root, tuple(path.split("/")[-2:]))
        except OSError:
            state = SessionStat(-1, 0)
        for row in group:
            if _is_outdated(row, state):
                overlay.hide_part(row.path, row.stat)


def _is_outdated(row: FileRow, state: SessionStat) -> bool:
    return row.stat[2] != state.inode or row.stat[0] + row.stat[3] > state.size


def _update_session(
    overlay: Overlay, catalog: Catalog, root: IndexedRoot, parts: Parts, max_bytes: int
) -> tuple[list[str], bool]:
    """Return (paths of the parts that the overlay has, True if all changes are among them)."""
    path = "/".join((root.prefix, *parts))
    rows = catalog.files_below(path)
    names: list[str] = []
    unchanged: set[str] = set()
    state, is_complete = SessionStat(-1, 0), True
    try:
        with open_session(root.root, parts) as (file, state):
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
