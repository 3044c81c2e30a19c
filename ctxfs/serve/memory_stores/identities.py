"""Identities: a memory keeps its id when it is renamed, and a version is named by its time and its path.

An id contains the path at which the memory was created. The moves of a store list the later paths of renamed memories,
each with the time of the version since which it holds.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ctxfs.model.errors import not_found

_MEMORY = re.compile(r"\Amem_([A-Za-z0-9_-]{1,6000})(?:\.([1-9][0-9]{0,5}))?\Z")
_VERSION = re.compile(r"\Amemver_([0-9]{1,20})_([A-Za-z0-9_-]{1,6000})\Z")

Moves = Mapping[str, Sequence[tuple[int, str]]]


class VersionId(NamedTuple):
    """The time of a version in nanoseconds, and the path of the memory in it."""

    time_ns: int
    path: str


def memory_id_at(path: str, time_ns: int, moves: Moves) -> str:
    """Return the id of the memory that is at a path at a time."""
    departed = 0
    for memory_id, spans in moves.items():
        current = [span_path for since_ns, span_path in spans if since_ns <= time_ns][-1:]
        if current == [path]:
            return memory_id
        departed += bool(current) and _origin_of(memory_id) == path
    return f"mem_{_encode(path)}" + (f".{departed}" if departed else "")


def path_of_memory(memory_id: str, time_ns: int, moves: Moves) -> str:
    """Return the path of a memory. Raise OSError ENOENT for an id that no memory can have."""
    path = moves[memory_id][-1][1] if memory_id in moves else _origin_of(memory_id)
    if memory_id_at(path, time_ns, moves) != memory_id:
        raise not_found(memory_id[:80])
    return path


def version_id(time_ns: int, path: str) -> str:
    """Return the id of a version."""
    return f"memver_{time_ns}_{_encode(path)}"


def parse_version_id(text: str) -> VersionId:
    """Parse the id of a version. Raise OSError ENOENT for a text that is none."""
    match = _VERSION.match(text)
    if match is None:
        raise not_found(text[:80])
    return VersionId(int(match[1]), _decode(match[2], text))


def _origin_of(memory_id: str) -> str:
    match = _MEMORY.match(memory_id)
    if match is None:
        raise not_found(memory_id[:80])
    return _decode(match[1], memory_id)


def _encode(path: str) -> str:
    return base64.urlsafe_b64encode(path.encode("utf-8", "surrogateescape")).decode().rstrip("=")


def _decode(text: str, name: str) -> str:
    try:
        path = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError) as error:
        raise not_found(name[:80]) from error
    return path
