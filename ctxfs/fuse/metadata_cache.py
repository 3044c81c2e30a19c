"""A cache of the computed attributes of one file, because `getfattr` requests them one by one."""

import time
from collections.abc import Mapping

from ctxfs.model.path import Path

_SECONDS = 0.2


class MetadataCache:
    """The last computed attributes, for `_SECONDS` seconds or until any change."""

    def __init__(self) -> None:
        self._entry: tuple[Path, float, Mapping[str, bytes]] | None = None  # the path, its expiry, the attributes

    def get(self, path: Path) -> Mapping[str, bytes] | None:
        """Return the cached attributes of a file, or None."""
        entry = self._entry
        return entry[2] if entry is not None and entry[0] == path and time.monotonic() < entry[1] else None

    def put(self, path: Path, metadata: Mapping[str, bytes], requested: float) -> None:
        """Cache the attributes of a file that were requested at `requested`, in monotonic seconds."""
        self._entry = path, requested + _SECONDS, metadata

    def clear(self) -> None:
        """Discard the attributes, because some file has changed."""
        self._entry = None
