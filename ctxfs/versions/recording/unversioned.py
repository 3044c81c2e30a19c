"""Files of the work tree whose present content has no version, and why: named for people, since everything else goes on."""

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path as HostPath

from ctxfs.store.config import replace_text
from ctxfs.versions.objects.name_encoding import shown_path

log = logging.getLogger(__name__)

MAX_NAMED = 1000


class Unversioned:
    """Paths and reasons, until they are captured or gone. A start looks at every file again; a file says what the last one found."""

    def __init__(self) -> None:
        self._reasons: dict[bytes, str] = {}

    def add(self, path: bytes, reason: str) -> None:
        """Name a file; it is logged once. Beyond `MAX_NAMED` files only the log has it."""
        if self._reasons.get(path) != reason:
            log.error("'%s' has no version as it is now: %s", shown_path(path), reason)
        if path in self._reasons or len(self._reasons) < MAX_NAMED:
            self._reasons[path] = reason

    def clear(self, path: bytes) -> None:
        """Take a path, which is captured or gone, from the list."""
        self._reasons.pop(path, None)

    def reasons(self) -> Mapping[str, str]:
        """Return each path, as people read it, with what is wrong."""
        return {shown_path(path): reason for path, reason in sorted(self._reasons.copy().items())}

    def save(self, file: HostPath) -> None:
        """Keep the list for those who look while the archive is closed."""
        with contextlib.suppress(OSError):
            replace_text(file, json.dumps(self.reasons()))


def saved_reasons(file: HostPath) -> Mapping[str, str]:
    """Return the list that was kept; empty if there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {str(path): str(reason) for path, reason in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}
