"""The mount pad/: the scratchpad, with a directory for each task, as files of the store's work tree."""

from pathlib import Path as HostPath

from ctxfs.model.mount import Mount
from ctxfs.store.folder import Folder


def create_mount(tree: HostPath) -> Mount:
    """Return the mount of `<store>/tree/pad`."""
    return Folder(str(tree / "pad"), writable=True, versioned=True)
