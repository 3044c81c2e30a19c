"""What the index takes from a file besides its text: how it looks from outside, its attributes, its kind."""

import os

from ctxfs.index.catalog import FileStat
from ctxfs.index.chunks import NEIGHBOURS
from ctxfs.model.metadata import PREFIX, SETTABLE, is_sound, tags_of
from ctxfs.store import beneath

_MEMORY_KINDS = frozenset(("episodic", "fact", "experiential", "procedural", "user"))
_SMALL_UNIT = 400  # characters


def stat_of(found: os.stat_result) -> FileStat:
    """What tells whether a file has changed."""
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns


def read_attributes(root: str, parts: tuple[str, ...]) -> dict[str, bytes]:
    """The sound `user.ctx.*` attributes of a file, without the prefix; nobody checked what was set behind our back."""
    try:
        with beneath.directory_of(root, parts) as (folder, name):
            found = beneath.read_xattrs(beneath.magic_path(folder, name))
    except OSError:
        return {}  # no attributes on this file system, or the file has just gone
    ours = {key.removeprefix(PREFIX): value for key, value in found.items() if key.startswith(PREFIX)}
    return {name: value for name, value in ours.items() if name in SETTABLE and is_sound(name, value)}


def values_of(name: str, value: bytes) -> list[str]:
    """The texts that an attribute is found by: each tag, or the value."""
    return tags_of(value) if name == "tags" else [value.decode("utf-8", "replace")]


def kind_of_place(path: str) -> str | None:
    """The kind that a place in memory gives: memory/<agent>/<kind>/…"""
    parts = path.split("/")
    return parts[2] if parts[0] == "memory" and len(parts) > 3 and parts[2] in _MEMORY_KINDS else None


def around(texts: list[str], at: int) -> str:
    """The broken-up text of a small unit with its neighbours; empty for a large one, which says enough by itself."""
    if len(texts) == 1 or len(texts[at]) > _SMALL_UNIT:
        return ""
    near = texts[max(0, at - NEIGHBOURS) : at + NEIGHBOURS + 1]
    return " ".join(text if len(text) <= _SMALL_UNIT else text[:_SMALL_UNIT] for text in near)
