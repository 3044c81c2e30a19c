"""knowledge/<source>: a folder that the user added, as it is on disk; read-only unless added writable."""

from ctxfs.model.mount import Mount
from ctxfs.store.config import Source
from ctxfs.store.folder import Folder


def provide(source: Source, hidden: frozenset[tuple[str, ...]] = frozenset()) -> Mount:
    """The mount of one source; `hidden` are places in it that are not shown."""
    return Folder(source.path, writable=source.writable, hidden=hidden)
