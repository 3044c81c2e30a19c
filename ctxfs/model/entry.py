"""The result of stat for a path."""

import stat
from dataclasses import dataclass
from typing import Literal

Kind = Literal["file", "dir", "link", "other"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory.

    - `size` is in bytes, and is the length of a read; a listing may have None where only `stat` computes it.
    - `mtime_ns` is in nanoseconds since the epoch.
    - `mode` has the permission bits only.
    - `version` changes whenever the content does.
    - `target` is the text of a link.
    - `answers` marks a transaction file: the same handle accepts a request and returns the response.
      Its mode shows whether the principal may call it.
    - `derived` marks a computed file that is removed with its directory. Its mode has write permission, so that `rm -r` on
      a terminal does not ask for it, but a write is refused.
    """

    name: str
    kind: Kind
    version: str = ""
    size: int | None = 0
    mtime_ns: int = 0
    mode: int = 0o444
    target: str = ""
    answers: bool = False
    derived: bool = False

    @property
    def is_dir(self) -> bool:
        """True for a directory."""
        return self.kind == "dir"


def directory(name: str, *, mode: int = 0o555, mtime_ns: int = 0, version: str = "") -> Entry:
    """Return the entry of a synthetic directory."""
    return Entry(name, "dir", version=version, mode=mode, mtime_ns=mtime_ns)


def snapshot(name: str, data: bytes, *, mtime_ns: int = 0, mode: int = 0o444, version: str = "") -> Entry:
    """Return the entry of a synthetic file with the content `data`."""
    return Entry(name, "file", version=version, size=len(data), mode=mode, mtime_ns=mtime_ns)


def kind_of(st_mode: int) -> Kind:
    """Return the kind of a host file with this st_mode."""
    if stat.S_ISREG(st_mode):
        return "file"
    if stat.S_ISDIR(st_mode):
        return "dir"
    return "link" if stat.S_ISLNK(st_mode) else "other"
