"""pad/: the scratchpad, a directory a task, as real files in the store's work tree."""

from pathlib import Path as HostPath

from ctxfs.model.mount import Mount
from ctxfs.store.folder import Folder


def provide(tree: HostPath) -> Mount:
    """The mount of `<store>/tree/pad`."""
    return Folder(str(tree / "pad"), writable=True, versioned=True)
