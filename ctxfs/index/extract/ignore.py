"""Ignore rules of a source: its .gitignore files, its exclude patterns, and the folders of version control."""

import contextlib
import os

from ctxfs.index.extract.gitignore import MAX_FILE_BYTES, PatternFile, parse_pattern_file
from ctxfs.policy.evaluate import is_repository
from ctxfs.store import rooted_fs

_ALWAYS = ("__pycache__", "node_modules", ".ctxfs")
MAX_DEPTH = 256  # names of a path; deeper files are listed and not indexed


class IgnoreRules:
    """The ignore rules of one source, read lazily folder by folder. A deeper .gitignore overrides those above it."""

    def __init__(self, root: str, exclude: tuple[str, ...], *, gitignore: bool) -> None:
        self._root = root
        self._exclude = PatternFile(exclude) if exclude else None
        self._gitignore = gitignore
        self._above: dict[tuple[str, ...], tuple[tuple[int, PatternFile], ...]] = {}

    def forget(self) -> None:
        """Drop the cached .gitignore files, because one of them changed; they are read again on demand."""
        self._above.clear()

    def ignores(self, parts: tuple[str, ...], *, directory: bool) -> bool:
        """Return True if a rule ignores the entry itself. The caller must check its ancestors."""
        if is_repository(parts[-1]) or (parts[-1] in _ALWAYS and self._gitignore):
            return True
        if self._exclude is not None and self._exclude.decide(parts, directory=directory):
            return True
        if not self._gitignore:
            return False
        verdict = False
        for depth, patterns in self._patterns_above(parts[:-1]):
            decided = patterns.decide(parts[depth:], directory=directory)
            if decided is not None:
                verdict = decided
        return verdict

    def ignores_path(self, parts: tuple[str, ...]) -> bool:
        """Return True if the file or any folder above it is ignored, or if it lies deeper than `MAX_DEPTH`."""
        return len(parts) > MAX_DEPTH or any(
            self.ignores(parts[: depth + 1], directory=depth + 1 < len(parts)) for depth in range(len(parts))
        )

    def _patterns_above(self, folder: tuple[str, ...]) -> tuple[tuple[int, PatternFile], ...]:
        """Return (depth, patterns) of each folder from the root down to `folder` that has a `.gitignore`."""
        known = self._above.get(folder)
        if known is None:
            above = self._patterns_above(folder[:-1]) if folder else ()
            own = self._read(folder)
            known = self._above[folder] = above if own is None else (*above, (len(folder), own))
        return known

    def _read(self, folder: tuple[str, ...]) -> PatternFile | None:
        """Return the patterns of a folder; None unless its `.gitignore` is a regular file, as in git."""
        try:
            return parse_pattern_file(rooted_fs.read_head(self._root, (*folder, ".gitignore"), MAX_FILE_BYTES))
        except OSError:
            return None


def walk(
    root: str, below: tuple[str, ...], rules: IgnoreRules, enough: int | None = None
) -> list[tuple[tuple[str, ...], os.stat_result]]:
    """Return (parts, stat) of the regular files under `root`/`below` that are not ignored.

    Symbolic links are not followed. The files of a folder precede those of its subfolders. Unreadable folders are
    skipped, because unreadable files cannot be searched. With `enough`, the walk ends soon after it has more files
    than that.
    """
    found: list[tuple[tuple[str, ...], os.stat_result]] = []
    pending = [below]
    while pending and (enough is None or len(found) <= enough):
        folder = pending.pop()
        with contextlib.suppress(OSError), rooted_fs.listed_directory(root, folder) as listed:
            for entry in sorted(os.scandir(listed), key=lambda entry: entry.name):
                if enough is not None and len(found) > enough:
                    break
                parts = (*folder, entry.name)
                with contextlib.suppress(OSError):  # deleted after the listing
                    if entry.is_dir(follow_symlinks=False):
                        if len(parts) < MAX_DEPTH and not rules.ignores(parts, directory=True):
                            pending.append(parts)
                    elif entry.is_file(follow_symlinks=False) and not rules.ignores(parts, directory=False):
                        found.append((parts, entry.stat(follow_symlinks=False)))
    return found
