"""Lookups of changed paths in the folder of a source, without following links."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path as HostPath
from stat import S_ISREG

from ctxfs.model.host_numbers import inode_of
from ctxfs.store import rooted_fs

_MIN_LISTED_NAMES = 20


def find_missing(root: str, paths: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Yield those of the paths below a host folder at which no file exists.

    For many names the directory is listed instead of looked up,
    because a failing lookup delays writers in that directory.
    """
    by_folder: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for parts in paths:
        by_folder.setdefault(parts[:-1], []).append(parts)
    for folder, members in by_folder.items():
        if len(members) < _MIN_LISTED_NAMES:
            yield from (parts for parts in members if _read_mode(root, parts) is None)
            continue
        try:
            with rooted_fs.listed_directory(root, folder) as directory:
                names = {"", *os.listdir(directory)}
        except OSError:
            names = set()
        yield from (parts for parts in members if (parts[-1] if parts else "") not in names)


def is_file(root: str, parts: tuple[str, ...]) -> bool:
    """Return True if a regular file exists at a path below a host folder."""
    return S_ISREG(_read_mode(root, parts) or 0)


def _read_mode(root: str, parts: tuple[str, ...]) -> int | None:
    """Return the mode of a path below a host folder, without following links; None if it does not exist."""
    try:
        with rooted_fs.directory_of(root, parts) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return None


def find_catalog_inode(folder: HostPath) -> int:
    """Return the inode of the catalog in a folder; 0 if there is none."""
    try:
        return inode_of(os.stat(f"{folder}/catalog.db"))  # by a text: for each question: faster than a path
    except FileNotFoundError:
        return 0
