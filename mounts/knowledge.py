"""The mount knowledge/<source>: a folder that the user added, unchanged; read-only unless added writable."""

from ctxfs.model.mount import Mount
from ctxfs.store.folder import Folder
from ctxfs.store.settings import Source


def create_mount(source: Source, hidden: frozenset[tuple[str, ...]] = frozenset()) -> Mount:
    """Return the mount of one source; `hidden` are paths in it that are not shown."""
    return Folder(source.path, writable=source.writable, hidden=hidden)
