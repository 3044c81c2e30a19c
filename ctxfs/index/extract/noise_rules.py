"""Noise rules of a source: which of its files are noise, with the reason, and the patterns that say otherwise."""

import os
from collections.abc import Collection
from itertools import islice

from ctxfs.index.extract.gitignore import PatternFile
from ctxfs.index.options import IndexedRoot
from ctxfs.model.noise import CONTENT_NOISE, NoiseClassifier, classify_name, classify_text
from ctxfs.model.path import printable
from ctxfs.store import rooted_fs

_MAX_NAMES = 500
_HEAD_BYTES = 1024
MAX_TEXT_BYTES = 64_000  # of a file, by which minified and generated code is recognised
# A pad's own folder belongs to many principals, so that no file in it decides about the others.
_MIN_DEPTHS = {"pad": 2}


class _HostFolders:
    """The folders below a host folder. Implements `FolderProbe`."""

    def __init__(self, root: str) -> None:
        self._root = root

    def names(self, folder: tuple[str, ...]) -> Collection[str]:
        """Return the names in a folder, at most `_MAX_NAMES`."""
        try:
            with rooted_fs.listed_directory(self._root, folder) as fd, os.scandir(fd) as entries:
                return [entry.name for entry in islice(entries, _MAX_NAMES)]
        except OSError:
            return ()

    def head(self, path: tuple[str, ...]) -> bytes:
        """Return the beginning of a regular file."""
        try:
            return rooted_fs.read_head(self._root, path, _HEAD_BYTES)
        except OSError:
            return b""


class NoiseRules:
    """The noise rules of one source. In memory, only a file's own name and text count, never its folder."""

    def __init__(self, root: IndexedRoot) -> None:
        self._include = PatternFile(root.include) if root.include else None
        self._classifier = None
        if root.prefix != "memory":
            self._classifier = NoiseClassifier(_HostFolders(root.root), _MIN_DEPTHS.get(root.prefix, 1))

    def clear_cache(self) -> None:
        """Drop the cached results for folders, because a marker file changed."""
        if self._classifier is not None:
            self._classifier.clear_cache()

    def is_included(self, parts: tuple[str, ...]) -> bool:
        """Return True if the patterns of the settings say that the file, or a folder above it, is no noise."""
        if self._include is not None:
            for depth in range(len(parts), 0, -1):
                decision = self._include.decide(parts[:depth], is_directory=depth < len(parts))
                if decision is not None:
                    return decision
        return False

    def path_noise(self, parts: tuple[str, ...]) -> str:
        """Return the noise of a file by its path; empty for other files."""
        if self.is_included(parts):
            return ""
        return (self._classifier.classify(parts) if self._classifier else classify_name(parts[-1])) or ""

    def noise(self, parts: tuple[str, ...], text: str) -> str:
        """Return the noise of a file by its path, or by the beginning of its text; empty for other files."""
        by_path = self.path_noise(parts)
        return by_path if by_path or self.is_included(parts) else classify_text(printable(parts[-1]), text) or ""

    def has_changed(self, parts: tuple[str, ...], stored: str) -> bool:
        """Return True if the path shows that a file's stored noise is outdated, without reading the file."""
        if stored in CONTENT_NOISE:
            return self.is_included(parts) or bool(self.path_noise(parts))
        return stored != self.path_noise(parts)
