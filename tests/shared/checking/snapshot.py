"""Snapshots of a work tree: the state of each path that versions record, and the tokens in it."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

_TOKEN = re.compile(rb"<[0-9a-z.]+>")
_MAX_SCANNED_BYTES = 50_000  # larger files have their only token in the first line


@dataclass(frozen=True, slots=True)
class State:
    """The state of a path: its kind, mode and attributes, a digest of its content, and the tokens in that."""

    kind: str
    mode: int
    digest: bytes
    attributes: tuple[tuple[str, bytes], ...]
    tokens: frozenset[bytes]


Snapshot = dict[str, State]


class TreeReader:
    """Reads snapshots of one tree. Unchanged files are read once."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self._states: dict[tuple[int, int, int, str], State] = {}

    def read(self) -> Snapshot:
        """Return the state of each path."""
        found, states = dict[str, State](), dict[tuple[int, int, int, str], State]()
        for folder, names, files in os.walk(self.tree):
            for name in names + files:
                path = os.path.join(folder, name)
                stat = os.lstat(path)
                key = (stat.st_ino, stat.st_ctime_ns, stat.st_size, path)
                state = self._states.get(key) or _read_state(path, stat)
                found[os.path.relpath(path, self.tree)] = states[key] = state
        self._states = states
        return found


def _read_state(path: str, stat: os.stat_result) -> State:
    if os.path.islink(path):
        target = os.fsencode(os.readlink(path))
        return State("link", 0, target, (), frozenset(_TOKEN.findall(target)))
    names = sorted(name for name in os.listxattr(path) if name.startswith("user."))
    attributes = tuple((name, os.getxattr(path, name)) for name in names)
    if os.path.isdir(path):
        return State("directory", stat.st_mode, b"", attributes, frozenset())
    content = Path(path).read_bytes()
    tokens = frozenset(_TOKEN.findall(content[:_MAX_SCANNED_BYTES]))
    return State("file", stat.st_mode, hashlib.sha256(content).digest(), attributes, tokens)
