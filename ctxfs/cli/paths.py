"""Path arguments: from the root of the tree, or as they are on a mount point."""

import os

from ctxfs.daemon.session import StoreSession


def tree_path(opened: StoreSession, text: str) -> str:
    """Return the path in the tree: below a mount point relative to the working directory, else relative to the root.

    `~/ctx/memory/a/x.md`, `x.md` typed in `~/ctx/memory/a`, and `memory/a/x.md` typed anywhere else are the same.
    """
    if not text:
        return ""
    host = os.path.abspath(os.path.expanduser(text))
    for mountpoint in opened.call("mountpoints"):
        if host == mountpoint or host.startswith(mountpoint + "/"):
            return host[len(mountpoint) :].strip("/")
    return text.strip("/")
