"""memory/: what agents and people keep, as real files in the store's work tree."""

from pathlib import Path as HostPath

from ctxfs.model.mount import Mount
from ctxfs.store.folder import Folder


def provide(tree: HostPath) -> Mount:
    """The mount of `<store>/tree/memory`."""
    return Folder(str(tree / "memory"), writable=True, versioned=True)
