"""Whether a file still counts: what its attributes and those of others say of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_MARKS = ("quarantined", "expires_at", "trust")


@dataclass(frozen=True, slots=True)
class FileStatus:
    """`expires_ns`: since the epoch, None for never. `superseded_by`: the path of a file that says it takes this one's place.
    `claims`: the path of a file that it says it supersedes, although whoever said so may not change that one.
    `untrusted`: it came from a tool, a server or elsewhere, and nobody has said that it can be relied on.
    """

    quarantined: bool = False
    expires_ns: int | None = None
    superseded_by: str = ""
    untrusted: bool = False
    claims: str = ""


def standing_of(attributes: Iterable[tuple[str, str]], superseded_by: str = "", claims: str = "") -> FileStatus | None:
    """From a file's attributes (names without prefix); None if nothing sets it apart."""
    said = {name: value for name, value in attributes if name in _MARKS}
    if not said and not superseded_by and not claims:
        return None
    return FileStatus(
        said.get("quarantined") == "true",
        _nanoseconds(said["expires_at"]) if "expires_at" in said else None,
        superseded_by,
        said.get("trust") == "untrusted",
        claims,
    )


def superseded(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Path → the path that supersedes it, of (path, value of its `supersedes`). Two that supersede each other both count."""
    said = [(path, value.strip().strip("/")) for path, value in pairs]
    both = set(said)
    return {old: new for new, old in sorted(said) if old != new and (old, new) not in both}


def _nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000_000)
