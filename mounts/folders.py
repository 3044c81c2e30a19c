"""The mounts of real folders: memory/ and pad/ of the store's work tree, and knowledge/<source> of the user."""

from pathlib import Path as HostPath

from ctxfs.model.mount import Mount
from ctxfs.store.folder import Folder
from ctxfs.store.settings import Source


def create_memory_mount(tree: HostPath) -> Mount:
    """Return the mount of `<store>/tree/memory`: memories of agents and people."""
    return Folder(str(tree / "memory"), writable=True, versioned=True, guarded=True)


def create_pad_mount(tree: HostPath) -> Mount:
    """Return the mount of `<store>/tree/pad`: the scratchpad, with a directory for each task."""
    return Folder(str(tree / "pad"), writable=True, versioned=True)


def create_source_mount(source: Source, hidden: frozenset[tuple[str, ...]] = frozenset()) -> Mount:
    """Return the mount of one source, unchanged; read-only unless added writable.

    `hidden` are paths in it that are not shown.
    """
    return Folder(source.path, writable=source.writable, hidden=hidden)
