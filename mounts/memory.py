"""The mount memory/: memories of agents and people, as files of the store's work tree."""

from pathlib import Path as HostPath

from ctxfs.model.mount import Mount
from ctxfs.store.folder import Folder


def create_mount(tree: HostPath) -> Mount:
    """Return the mount of `<store>/tree/memory`."""
    return Folder(str(tree / "memory"), writable=True, versioned=True)
