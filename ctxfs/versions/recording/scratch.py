"""Scratch: files that versions leave out, because programs write them for themselves.

These are editors' swap, backup and lock files, temporary files beside the file that they will replace, and, in pads,
virtual environments, installed packages and caches (`ctxfs/model/noise.py` has the patterns). They stay ordinary files
of the work tree. A path that the newest version contains is no scratch: like a tracked file in git, it keeps its
versions.
"""

import contextlib
import os
import stat as st
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from ctxfs.model.noise import Noise, NoiseClassifier, final_names, is_editor_file
from ctxfs.store.folder_probe import HostFolders
from ctxfs.versions.objects.name_encoding import display_path, split_path
from ctxfs.versions.objects.trees import Parts
from ctxfs.versions.recording.worktree import WorkTree

_PAD = b"pad"
_MIN_DEPTH = 2  # pad/<task>/…
MAX_LISTED_PATHS = 100_000
TEMPORARY = "temporary file"


class ScratchRules:
    """The rules of one capture. Folders are read once, so that a later capture sees their changes."""

    def __init__(self, work: WorkTree) -> None:
        self._work = work
        self._classifier = NoiseClassifier(HostFolders(os.path.join(work.root, os.fsdecode(_PAD))), _MIN_DEPTH)

    def reason(self, parts: Parts, stat: os.stat_result) -> str:
        """Return why versions leave out a path with these attributes; empty for other paths."""
        name, is_directory = os.fsdecode(parts[-1]), st.S_ISDIR(stat.st_mode)
        if parts[0] == _PAD and len(parts) > 2:
            names = tuple(map(os.fsdecode, parts[1:]))
            if (noise := self._classifier.scratch_noise(names)) is not None:
                return noise.value
        if is_directory or len(parts) < 2:
            return ""
        if is_editor_file(name, stat.st_size):
            return Noise.EDITOR.value
        return TEMPORARY if st.S_ISREG(stat.st_mode) and self._is_temporary(parts, name) else ""

    def _is_temporary(self, parts: Parts, name: str) -> bool:
        """Return True for a temporary file beside the regular file that it will replace."""
        for final in final_names(name):
            stat = self._work.stat((*parts[:-1], os.fsencode(final)))
            if stat is not None and st.S_ISREG(stat.st_mode):
                return True
        return False


class ScratchList:
    """The scratch of the work tree, with reasons. A start of the archive finds all of it again."""

    def __init__(self) -> None:
        self._reasons: dict[bytes, str] = {}
        self._tracked: set[bytes] = set()

    def track(self, paths: Iterable[bytes]) -> None:
        """Let versions record these paths like any other."""
        self._tracked.update(paths)

    def is_tracked(self, path: bytes) -> bool:
        """Return True for a path that versions record in spite of its name."""
        return path in self._tracked

    def add(self, path: bytes, reason: str) -> None:
        """Add a path. Beyond `MAX_LISTED_PATHS` paths are not counted."""
        if path in self._reasons or len(self._reasons) < MAX_LISTED_PATHS:
            self._reasons[path] = reason

    def clear(self, path: bytes) -> None:
        """Remove a path that is gone or has versions."""
        self._reasons.pop(path, None)

    def clear_below(self, path: bytes) -> None:
        """Remove the paths below a directory that is gone."""
        start = path + b"/"
        for inner in [inner for inner in self._reasons if inner.startswith(start)]:
            del self._reasons[inner]

    def paths(self) -> list[bytes]:
        """Return the paths, sorted."""
        return sorted(self._reasons)

    def texts(self, work: WorkTree, limit: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield (path, content) of the regular files of at most `limit` bytes that can be read."""
        for path in self.paths():
            with (
                contextlib.suppress(OSError),
                work.open_file(split_path(path)) as fd,
                open(fd, "rb", closefd=False) as file,
            ):
                data = file.read(limit + 1)
                if len(data) <= limit:
                    yield path, data

    def counts(self) -> Mapping[str, int]:
        """Return the number of paths by reason, the most frequent reason first."""
        return dict(Counter(self._reasons.copy().values()).most_common())

    def examples(self, limit: int) -> Mapping[str, str]:
        """Return the reasons of the first `limit` paths, as displayed."""
        return {display_path(path): self._reasons.get(path, "") for path in self.paths()[:limit]}
