"""The list of work tree files whose current content has no version, with reasons.

It is shown to people, since all other files continue to get versions.
"""

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path as HostPath

from ctxfs.store.durable_file import replace_text
from ctxfs.versions.objects.name_encoding import display_path

log = logging.getLogger(__name__)

MAX_LISTED_PATHS = 1000


class Unversioned:
    """Paths and reasons, until the paths are captured or gone.

    A start of the archive checks every file again. A file on disk holds the list of the last run.
    """

    def __init__(self) -> None:
        self._reasons: dict[bytes, str] = {}

    def add(self, path: bytes, reason: str) -> None:
        """Add a file and log it once. Beyond `MAX_LISTED_PATHS` files only the log contains it."""
        if self._reasons.get(path) != reason:
            log.error("'%s' has no version as it is now: %s", display_path(path), reason)
        if path in self._reasons or len(self._reasons) < MAX_LISTED_PATHS:
            self._reasons[path] = reason

    def clear(self, path: bytes) -> None:
        """Remove a path that is captured or gone."""
        self._reasons.pop(path, None)

    def reasons(self) -> Mapping[str, str]:
        """Return the reason for each path, as displayed."""
        return {display_path(path): reason for path, reason in sorted(self._reasons.copy().items())}

    def save(self, file: HostPath) -> None:
        """Write the list to a file, for readers while the archive is closed."""
        with contextlib.suppress(OSError):
            replace_text(file, json.dumps(self.reasons()))


def read_saved_reasons(file: HostPath) -> Mapping[str, str]:
    """Return the saved list; empty if there is none."""
    try:
        reasons = json.loads(file.read_text(encoding="utf-8"))
        return {str(path): str(reason) for path, reason in reasons.items()}
    except (OSError, ValueError, AttributeError):
        return {}
