"""The format of side-cars: extended attributes, unusual modes, and references to large contents, which git cannot hold.

A side-car is a blob beside the entry, with one line of JSON with sorted keys:
`{"large": {"sha256": …, "size": …}, "mode": "0600", "xattrs": {"user.ctx.kind": "fact"}}`. Keys without a value are
omitted. Values that are not UTF-8 are `{"base64": …}`. Equal attributes have equal bytes.

Side-cars come from remotes, too: `decode_sidecar` refuses every text that a store could not have written.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ctxfs.versions.objects.trees import MODE_DIR, MODE_LINK, MODE_PROGRAM

MAX_SIDECAR_BYTES = 4_000_000
MAX_XATTR_NAME_BYTES = 255  # xattr(7)
MAX_XATTR_VALUE_BYTES = 65_536
_NAMESPACE = "user."
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MODE = re.compile(r"[0-7]{4}")
_MEMBER_NAMES = frozenset(("large", "mode", "xattrs"))


@dataclass(frozen=True, slots=True)
class Large:
    """A content in the content-addressed store: hexadecimal sha256 and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class SideCar:
    """The metadata of a file or directory. `mode` is permission bits; None if git's own mode implies them."""

    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    mode: int | None = None
    large: Large | None = None

    @property
    def is_empty(self) -> bool:
        """Return True if there is no metadata to store."""
        return not self.xattrs and self.mode is None and self.large is None


EMPTY_SIDECAR = SideCar()


def default_mode(git_mode: int) -> int:
    """Return the permission bits of an entry whose side-car has no mode."""
    if git_mode == MODE_LINK:
        return 0o777
    return 0o755 if git_mode in (MODE_DIR, MODE_PROGRAM) else 0o644


def encode_sidecar(side: SideCar) -> bytes:
    """Return the canonical bytes of a side-car."""
    members: dict[str, Any] = {}
    if side.large is not None:
        members["large"] = {"sha256": side.large.sha256, "size": side.large.size}
    if side.mode is not None:
        members["mode"] = f"{side.mode:04o}"
    if side.xattrs:
        members["xattrs"] = {name: _encode_value(value) for name, value in side.xattrs.items()}
    return json.dumps(members, sort_keys=True, ensure_ascii=True, separators=(", ", ": ")).encode() + b"\n"


def decode_sidecar(data: bytes) -> SideCar:
    """Return the side-car in bytes that `encode_sidecar` made. Raise ValueError for anything else."""
    if len(data) > MAX_SIDECAR_BYTES:
        raise ValueError(f"not a side-car: {len(data)} bytes are too many")
    try:
        members = json.loads(data)
    except RecursionError as error:
        raise ValueError("not a side-car: nested too deeply") from error
    if not isinstance(members, dict) or not members.keys() <= _MEMBER_NAMES:
        raise ValueError("not a side-car: it has other members than large, mode and xattrs")
    return SideCar(
        _parse_xattrs(members.get("xattrs", {})),
        _parse_mode(members["mode"]) if "mode" in members else None,
        _parse_large(members["large"]) if "large" in members else None,
    )


def is_sha256(text: str) -> bool:
    """Return True for 64 hexadecimal digits."""
    return bool(_SHA256.fullmatch(text))


def _parse_xattrs(members: Any) -> dict[str, bytes]:
    if not isinstance(members, dict):
        raise ValueError("not a side-car: xattrs is not an object")
    xattrs = {}
    for name, value in members.items():
        size = len(name.encode("utf-8", "surrogateescape"))
        if not name.startswith(_NAMESPACE) or "\0" in name or not len(_NAMESPACE) < size <= MAX_XATTR_NAME_BYTES:
            raise ValueError(f"not a side-car: {name[:MAX_XATTR_NAME_BYTES]!r} is not a valid attribute name")
        xattrs[name] = _decode_value(value)
        if len(xattrs[name]) > MAX_XATTR_VALUE_BYTES:
            raise ValueError(f"not a side-car: {name} holds {len(xattrs[name])} bytes")
    return xattrs


def _parse_mode(text: Any) -> int:
    if not isinstance(text, str) or not _MODE.fullmatch(text):
        raise ValueError("not a side-car: mode is not four octal digits")
    return int(text, 8)


def _parse_large(members: Any) -> Large:
    if not isinstance(members, dict) or members.keys() != {"sha256", "size"}:
        raise ValueError("not a side-car: large has other members than sha256 and size")
    sha256, size = members["sha256"], members["size"]
    if not isinstance(sha256, str) or not is_sha256(sha256):
        raise ValueError("not a side-car: large.sha256 is not 64 hexadecimal digits")
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise ValueError("not a side-car: large.size is not a valid size")
    return Large(sha256, size)


def _encode_value(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _decode_value(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, dict) or value.keys() != {"base64"} or not isinstance(value["base64"], str):
        raise ValueError("not a side-car: an attribute is neither text nor base64")
    return base64.b64decode(value["base64"], validate=True)
