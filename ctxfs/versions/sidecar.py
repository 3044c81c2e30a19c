"""What git cannot hold of a file: extended attributes, unusual modes, and that the content lies in the large store.

Written as a blob beside the entry: one line of JSON with sorted keys,
`{"large": {"sha256": …, "size": …}, "mode": "0600", "xattrs": {"user.ctx.kind": "fact"}}`, each key only where it says
something. Values that are not UTF-8 are `{"base64": …}`. The same attributes always give the same bytes.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ctxfs.versions.trees import MODE_DIR, MODE_LINK, MODE_PROGRAM


@dataclass(frozen=True, slots=True)
class Large:
    """Content in the content-addressed store: hexadecimal sha256 and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class SideCar:
    """`mode` holds permission bits, None where git's own mode says it all."""

    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    mode: int | None = None
    large: Large | None = None

    @property
    def is_empty(self) -> bool:
        """True when nothing has to be kept."""
        return not self.xattrs and self.mode is None and self.large is None


EMPTY = SideCar()


def usual_mode(git_mode: int) -> int:
    """The permission bits that an entry has when its side-car does not say."""
    if git_mode == MODE_LINK:
        return 0o777
    return 0o755 if git_mode in (MODE_DIR, MODE_PROGRAM) else 0o644


def encode_sidecar(side: SideCar) -> bytes:
    """The canonical bytes."""
    out: dict[str, Any] = {}
    if side.large is not None:
        out["large"] = {"sha256": side.large.sha256, "size": side.large.size}
    if side.mode is not None:
        out["mode"] = f"{side.mode:04o}"
    if side.xattrs:
        out["xattrs"] = {name: _text(value) for name, value in side.xattrs.items()}
    return json.dumps(out, sort_keys=True, ensure_ascii=True, separators=(", ", ": ")).encode() + b"\n"


def decode_sidecar(data: bytes) -> SideCar:
    """What `encode_sidecar` wrote; ValueError for anything else."""
    try:
        found = json.loads(data)
        large = found.get("large")
        return SideCar(
            {name: _bytes(value) for name, value in found.get("xattrs", {}).items()},
            int(found["mode"], 8) if "mode" in found else None,
            Large(large["sha256"], int(large["size"])) if large is not None else None,
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a side-car: {error!r}") from error


def _text(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])
