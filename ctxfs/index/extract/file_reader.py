"""What the index takes from a file besides its text: how it looks from outside, its attributes, its kind."""

import os
from collections.abc import Iterable, Mapping

from ctxfs.index.engines.catalog import FileStat
from ctxfs.index.extract.chunks import NEIGHBOURS, text_kind
from ctxfs.index.extract.formats import decode
from ctxfs.model.host_numbers import file_numbers
from ctxfs.model.metadata import PREFIX, SETTABLE, is_sound, tags_of
from ctxfs.model.path import printable
from ctxfs.store import rooted_fs

_MEMORY_KINDS = frozenset(("episodic", "fact", "experiential", "procedural", "user"))
SMALL_UNIT = 400  # characters
_HEAD = 16_000  # bytes
_STRUCTURED = frozenset(("code", "markdown", "html", "pdf"))


def stat_of(found: os.stat_result) -> FileStat:
    """What tells whether a file has changed."""
    numbers = file_numbers(found)
    return numbers.size, numbers.mtime_ns, numbers.inode, numbers.ctime_ns


def read_attributes(root: str, parts: tuple[str, ...]) -> list[tuple[str, str]]:
    """(name, value) of the sound `user.ctx.*` attributes of a file, without the prefix, in order; `tags` once for each.

    Nobody checked what was set behind our back.
    """
    try:
        with rooted_fs.directory_of(root, parts) as (folder, name):
            found = rooted_fs.read_xattrs(rooted_fs.magic_path(folder, name))
    except OSError:
        return []  # no attributes on this file system, or the file has just gone
    return sound_attributes(found)


def sound_attributes(found: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """The same of attributes that have been read, by their full names."""
    ours = {key.removeprefix(PREFIX): value for key, value in found.items() if key.startswith(PREFIX)}
    sound = [(name, value) for name, value in sorted(ours.items()) if name in SETTABLE and is_sound(name, value)]
    return [(name, text) for name, value in sound for text in _texts(name, value)]


def _texts(name: str, value: bytes) -> list[str]:
    return tags_of(value) if name == "tags" else [value.decode("utf-8", "replace")]


def kind_of(path: str, attributes: Iterable[tuple[str, str]], data: bytes) -> str:
    """What an attribute says, else the place in memory, else the name and the text."""
    name = printable(path.rpartition("/")[2])
    return dict(attributes).get("kind") or _kind_of_place(path) or text_kind(name, decode(data[:_HEAD]))


def _kind_of_place(path: str) -> str | None:
    """memory/<agent>/<kind>/…"""
    parts = path.split("/")
    return parts[2] if parts[0] == "memory" and len(parts) > 3 and parts[2] in _MEMORY_KINDS else None


def ranks_with_neighbours(kind: str, authors: Iterable[str]) -> bool:
    """True for a file in which somebody speaks, or that may be a talk although nobody could be made out."""
    return kind not in _STRUCTURED or any(authors)


def around(texts: list[str], at: int) -> str:
    """The broken-up text of a small unit with its neighbours; empty for a large one, which says enough by itself."""
    if len(texts) == 1 or len(texts[at]) > SMALL_UNIT:
        return ""
    near = texts[max(0, at - NEIGHBOURS) : at + NEIGHBOURS + 1]
    return " ".join(text if len(text) <= SMALL_UNIT else text[:SMALL_UNIT] for text in near)
