"""knowledge/<source>: a folder that the user added, as it is on disk; read-only unless added writable."""

from ctxfs.model.mount import Mount
from ctxfs.store.config import Source
from ctxfs.store.folder import Folder


def provide(source: Source) -> Mount:
    """The mount of one source."""
    return Folder(source.path, writable=source.writable)
