"""Companions: files that the text of other files depends on.

In an export of Slack, `users.json` names the users that the messages of each day, `<channel>/<date>.json`, refer to by their
ids. A companion that the index ignores is not used.
"""

import hashlib
import re
from collections.abc import Callable, Iterable

from ctxfs.store import rooted_fs

COMPANION_NAME = "users.json"
_LABEL = "text.users"
_MAX_COMPANION_BYTES = 16_000_000
_DAY_NAME = re.compile(r"\d{4}-\d\d-\d\d\.json")

Parts = tuple[str, ...]


def companion_of(parts: Parts) -> Parts | None:
    """Return the path of the companion that a file may have; None for a file of another name."""
    is_day = len(parts) > 1 and _DAY_NAME.fullmatch(parts[-1]) is not None
    return (*parts[:-2], COMPANION_NAME) if is_day else None


def read_companion(root: str, parts: Parts, is_ignored: Callable[[Parts], bool] = lambda parts: False) -> bytes:
    """Return the content of a file's companion; empty if it has none."""
    companion = companion_of(parts)
    if companion is None or is_ignored(companion):
        return b""
    try:
        return rooted_fs.read_file(root, companion, _MAX_COMPANION_BYTES)
    except OSError:
        return b""  # absent, unreadable or too large


def companion_label(companion: bytes) -> list[tuple[str, str]]:
    """Return the label that a file stores of its companion, which shows a change of it; empty for none."""
    return [(_LABEL, hashlib.sha256(companion).hexdigest()[:16])] if companion else []


def find_companion_label(labels: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the label of the companion among all labels of a file."""
    return [label for label in labels if label[0] == _LABEL]
