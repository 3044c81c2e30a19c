"""Status of files: withdrawn, expired, deprecated, superseded or untrusted, from attributes of theirs and of other files."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_STATUS_ATTRIBUTES = ("quarantined", "expires_at", "trust", "status", "source", "cites", "valid_until", "conflict_of")
_DEPRECATED = "deprecated"
_LINES = re.compile(r"(?::\d+(?:-\d*)?|#L\d+(?:-L?\d+)?)$")  # of a path


@dataclass(frozen=True, slots=True)
class FileStatus:
    """The status of a file.

    `expires_ns`: the time of expiry in nanoseconds since the epoch; None for never.
    `superseded_by`: the path of a file whose `supersedes` attribute names this file.
    `claims`: the path of a file that this file claims to supersede, although its author may not change that file.
    `untrusted`: the content came from a tool, a server or another machine, and no person has vouched for it.
    `source`: the origin of the content, as the file or its front matter states it, without lines.
    `deprecated`: the front matter of the file states that it is no longer current.
    `conflict_of`: the path whose content of another machine this is; a merge has kept both.
    `cites`: the lines that the file rests on; `valid_until`: the end of its validity in the world. Both as attributes.
    """

    quarantined: bool = False
    expires_ns: int | None = None
    superseded_by: str = ""
    untrusted: bool = False
    claims: str = ""
    deprecated: bool = False
    source: str = ""
    cites: str = ""
    conflict_of: str = ""
    valid_until: str = ""


def status_of(attributes: Iterable[tuple[str, str]], superseded_by: str = "", claims: str = "") -> FileStatus | None:
    """Return the status from a file's attributes (names without prefix); None if none of them sets a status."""
    values = {name: value for name, value in attributes if name in _STATUS_ATTRIBUTES}
    is_deprecated = values.pop("status", "") == _DEPRECATED
    if not (values or superseded_by or claims or is_deprecated):
        return None
    return FileStatus(
        values.get("quarantined") == "true",
        _parse_nanoseconds(values["expires_at"]) if "expires_at" in values else None,
        superseded_by,
        values.get("trust") == "untrusted",
        claims,
        is_deprecated,
        _LINES.sub("", values.get("source", "")),
        values.get("cites", ""),
        values.get("conflict_of", ""),
        values.get("valid_until", ""),
    )


def superseded_paths(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return a map from each superseded path to the path that supersedes it.

    `pairs` are (path, value of its `supersedes` attribute). Files that supersede each other in a cycle all stay valid.
    """
    claims = [(path, value.strip().strip("/")) for path, value in pairs]
    cyclic = cyclic_paths(claims)
    return {old: new for new, old in sorted(claims) if not {old, new} <= cyclic}


def cyclic_paths(claims: Iterable[tuple[str, str]]) -> set[str]:
    """Return the paths on a cycle of (path, the path that it supersedes). Takes linear time."""
    superseded_by = dict(claims)
    cyclic: set[str] = set()
    visited: dict[str, str] = {}  # path → the path that its walk began with
    for start in superseded_by:
        path = start
        while path in superseded_by and path not in visited:
            visited[path] = start
            path = superseded_by[path]
        if visited.get(path) == start and path not in cyclic:  # this walk came back to a path of its own
            while path not in cyclic:
                cyclic.add(path)
                path = superseded_by[path]
    return cyclic


def _parse_nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000_000)
