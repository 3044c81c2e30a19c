"""Ignore rules of a source: .gitignore and .git/info/exclude, its exclude patterns, and the folders of version control."""

import contextlib
import os
from collections import Counter

from ctxfs.index.extract.gitignore import MAX_FILE_BYTES, PatternFile, parse_pattern_file
from ctxfs.policy.evaluate import is_repository
from ctxfs.store import rooted_fs

_PATTERN_FILES = ((".git", "info", "exclude"), (".gitignore",))
_ALWAYS_IGNORED = ("__pycache__", "node_modules", ".ctxfs")
_MAX_COUNTED_FOLDERS = 10_000
MAX_DEPTH = 256  # names of a path; deeper files are listed and not indexed


class IgnoreRules:
    """The ignore rules of one source, read lazily folder by folder. A deeper .gitignore overrides those above it.

    With `gitignore`, installed packages and caches are ignored, too, except for folders that `include` matches.
    """

    def __init__(self, root: str, exclude: tuple[str, ...], *, gitignore: bool, include: tuple[str, ...] = ()) -> None:
        self._root = root
        self._include = PatternFile(include) if include else None
        self._ignored_packages: set[tuple[str, ...]] = set()
        self._exclude = PatternFile(exclude) if exclude else None
        self._gitignore = gitignore
        self._patterns_by_folder: dict[tuple[str, ...], tuple[tuple[int, PatternFile], ...]] = {}

    def clear_cache(self) -> None:
        """Drop the cached .gitignore files, because one of them changed; they are read again on demand."""
        self._patterns_by_folder.clear()
        self._ignored_packages.clear()

    def ignores(self, parts: tuple[str, ...], *, is_directory: bool) -> bool:
        """Return True if a rule ignores the entry itself. The caller must check its ancestors."""
        if is_repository(parts[-1]) or (self._gitignore and self._ignores_packages(parts, is_directory=is_directory)):
            return True
        if self._exclude is not None and self._exclude.decide(parts, is_directory=is_directory):
            return True
        if not self._gitignore:
            return False
        is_ignored = False
        for depth, patterns in self._load_patterns_above(parts[:-1]):
            decision = patterns.decide(parts[depth:], is_directory=is_directory)
            if decision is not None:
                is_ignored = decision
        return is_ignored

    def _ignores_packages(self, parts: tuple[str, ...], *, is_directory: bool) -> bool:
        if parts[-1] not in _ALWAYS_IGNORED:
            return False
        if self._include is not None and self._include.decide(parts, is_directory=is_directory):
            return False
        if is_directory and len(self._ignored_packages) < _MAX_COUNTED_FOLDERS:
            self._ignored_packages.add(parts)
        return True

    def count_ignored_packages(self) -> Counter[str]:
        """Return the number of ignored folders of packages and caches that were met, by name."""
        return Counter(parts[-1] for parts in self._ignored_packages)

    def ignores_path(self, parts: tuple[str, ...]) -> bool:
        """Return True if the file or any folder above it is ignored, or if it lies deeper than `MAX_DEPTH`."""
        return len(parts) > MAX_DEPTH or any(
            self.ignores(parts[: depth + 1], is_directory=depth + 1 < len(parts)) for depth in range(len(parts))
        )

    def _load_patterns_above(self, folder: tuple[str, ...]) -> tuple[tuple[int, PatternFile], ...]:
        """Return (depth, patterns) of the files in the folders from the root down to `folder`."""
        patterns = self._patterns_by_folder.get(folder)
        if patterns is None:
            above = self._load_patterns_above(folder[:-1]) if folder else ()
            # In git the patterns of a file that is nearer take precedence; those of the repository come last.
            own_files = (self._read_patterns((*folder, *names)) for names in _PATTERN_FILES)
            own_patterns = tuple((len(folder), patterns) for patterns in own_files if patterns is not None)
            patterns = self._patterns_by_folder[folder] = (*above, *own_patterns)
        return patterns

    def _read_patterns(self, parts: tuple[str, ...]) -> PatternFile | None:
        """Return the patterns in a file; None unless it is a regular file in a folder that is no link, as in git."""
        try:
            return parse_pattern_file(rooted_fs.read_head(self._root, parts, MAX_FILE_BYTES))
        except OSError:
            return None


def walk_files(
    root: str, below: tuple[str, ...], rules: IgnoreRules, stop_after: int | None = None
) -> list[tuple[tuple[str, ...], os.stat_result]]:
    """Return (parts, stat) of the regular files under `root`/`below` that are not ignored.

    Symbolic links are not followed. The files of a folder precede those of its subfolders. Unreadable folders are
    skipped, because unreadable files cannot be searched. With `stop_after`, the walk ends soon after it has more files
    than that.
    """
    files: list[tuple[tuple[str, ...], os.stat_result]] = []
    pending = [below]
    while pending and (stop_after is None or len(files) <= stop_after):
        folder = pending.pop()
        with contextlib.suppress(OSError), rooted_fs.listed_directory(root, folder) as listing:
            for entry in sorted(os.scandir(listing), key=lambda entry: entry.name):
                if stop_after is not None and len(files) > stop_after:
                    break
                parts = (*folder, entry.name)
                with contextlib.suppress(OSError):  # deleted after the listing
                    if entry.is_dir(follow_symlinks=False):
                        if len(parts) < MAX_DEPTH and not rules.ignores(parts, is_directory=True):
                            pending.append(parts)
                    elif entry.is_file(follow_symlinks=False) and not rules.ignores(parts, is_directory=False):
                        files.append((parts, entry.stat(follow_symlinks=False)))
    return files
