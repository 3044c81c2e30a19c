"""The mark on host files whose content came from a tool or a server: not to be trusted, and where it is from."""

import contextlib
import os
from pathlib import Path as HostPath

_TRUST, _SOURCE = "user.ctx.trust", "user.ctx.source"
_LONGEST = 4000  # bytes of where it is from


def mark_untrusted(file: HostPath, source: str) -> None:
    """Set it; on a host without attributes nothing."""
    if hasattr(os, "setxattr"):
        with contextlib.suppress(OSError):
            os.setxattr(file, _TRUST, b"untrusted")
            os.setxattr(file, _SOURCE, source.encode("utf-8", "replace")[:_LONGEST])
