"""The filter for attributes of files from an untrusted remote. Pure.

Marks only grow here: a pull can add distrust, but it neither lifts a local mark nor raises trust. Attributes that give
a file weight in other principals' contexts, or that bind those principals, are dropped.
"""

from collections.abc import Mapping

from ctxfs.model.metadata import PREFIX, SETTABLE, is_sound
from ctxfs.versions.objects.sidecar import SideCar

_ADMITTED_NAMES = (
    "kind",
    "source",
    "confidence",
    "description",
    "tags",
    "expires_at",
    "valid_from",
    "valid_until",
    "cites",
)
_LOCAL_NAMES = ("pinned", "supersedes", "state", "frozen")
_TRUST, _QUARANTINED, _SOURCE = (f"{PREFIX}{name}" for name in ("trust", "quarantined", "source"))
_TRUST_RANKS = {b"untrusted": 0, b"normal": 1, b"trusted": 2}


def filter_attributes(theirs: SideCar, ours: SideCar, remote: str, *, is_new: bool, is_file: bool) -> SideCar:
    """Return the side-car that a file or directory has after a pull, of `theirs` and `ours`.

    `is_new` is True if its content differs from the local one. New files become untrusted, with the remote as source.
    """
    admitted = {f"{PREFIX}{name}" for name in _ADMITTED_NAMES}
    xattrs = {name: value for name, value in theirs.xattrs.items() if name in admitted and _is_valid(name, value)}
    for name in (*(f"{PREFIX}{name}" for name in _LOCAL_NAMES), _TRUST, _QUARANTINED):
        if name in ours.xattrs:
            xattrs[name] = ours.xattrs[name]
    if b"true" in (theirs.xattrs.get(_QUARANTINED), ours.xattrs.get(_QUARANTINED)):
        xattrs[_QUARANTINED] = b"true"
    if is_file and (is_new or theirs.xattrs.get(_TRUST) == b"untrusted"):
        xattrs[_TRUST] = b"untrusted"
    if is_file and is_new:
        xattrs.setdefault(_SOURCE, f"remote:{remote}".encode())
    mode = None if theirs.mode is None else theirs.mode & 0o777 | (0o600 if is_file else 0o700)
    return SideCar(xattrs, mode, theirs.large)


def merge_value(
    name: str, base: Mapping[str, bytes], ours: Mapping[str, bytes], theirs: Mapping[str, bytes]
) -> bytes | None:
    """Return the merged value of an attribute: the changed one, or ours if both sides changed it.

    For the marks trust and quarantined, return the value with less trust. None stands for an absent attribute.
    """
    our_value, their_value = ours.get(name), theirs.get(name)
    if our_value == base.get(name):
        return their_value
    if their_value == base.get(name):
        return our_value
    if name == _TRUST:
        return min(our_value, their_value, key=lambda value: _TRUST_RANKS.get(value or b"normal", 0))
    if name == _QUARANTINED and b"true" in (our_value, their_value):
        return b"true"
    return our_value


def _is_valid(name: str, value: bytes) -> bool:
    short = name.removeprefix(PREFIX)
    return short in SETTABLE and is_sound(short, value)
