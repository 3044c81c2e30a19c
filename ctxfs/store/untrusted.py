"""The mark of host files with content from a tool or a server: untrusted, with its source."""

import contextlib
import os
from pathlib import Path as HostPath

_TRUST, _SOURCE = "user.ctx.trust", "user.ctx.source"
_MAX_SOURCE_BYTES = 4000  # bytes of the source


def mark_untrusted(file: HostPath, source: str) -> None:
    """Set the mark; no effect on a host without extended attributes."""
    if hasattr(os, "setxattr"):
        with contextlib.suppress(OSError):
            os.setxattr(file, _TRUST, b"untrusted")
            os.setxattr(file, _SOURCE, source.encode("utf-8", "replace")[:_MAX_SOURCE_BYTES])
