"""Remarks on memories that do not fit the rules of their kind: they are stored all the same, and named.

The memories are checked in turn, for a bounded time at each request, and again once they have changed. So tens of
thousands of them cost a request no more than a few.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as HostPath

from ctxfs.index.extract.front_matter import read_front_matter
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.memory.kind_checks import MAX_TEXT_BYTES, SKILL, MemoryText, check_kind
from ctxfs.memory.kinds import KindRules, kind_by_folder
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path
from ctxfs.store import rooted_fs
from ctxfs.store.memory_file import MemoryFile

_KIND = f"{PREFIX}kind"
_AREA = "memory"
_FILES_BETWEEN_CLOCKS = 16


@dataclass(frozen=True, slots=True)
class KindReport:
    """The remarks by path, the number of memories with a kind that were checked, and True if all of them were."""

    remarks: Mapping[str, str]
    checked: int
    is_complete: bool


@dataclass(slots=True)
class _Checked:
    """A checked file: its stat values, the round of the last look at it, and the remark, empty if it fits."""

    stamp: tuple[int, int, int]
    round: int
    remark: str


@dataclass(slots=True)
class _State:
    files: dict[str, _Checked] = field(default_factory=dict)
    kinds: Mapping[str, KindRules] = field(default_factory=dict)
    round: int = 0
    walk: Iterator[tuple[str, os.stat_result]] | None = None
    is_complete: bool = False


class KindRemarks:
    """The checks of one store. Methods block, and may be called by any thread."""

    def __init__(self, tree: HostPath, rules: MemoryFile, now: Callable[[], float] = time.monotonic) -> None:
        """Take the work tree of the store, and the rules of kinds."""
        self._root = str(tree)
        self._rules = rules
        self._now = now
        self._lock = threading.Lock()
        self._state = _State()

    def check(self, seconds: float) -> KindReport:
        """Check memories for about `seconds`, from where the last call ended, at most all of them once; return all remarks."""
        with self._lock:
            kinds, state = self._rules.rules.kinds, self._state
            if kinds != state.kinds:
                self._state = state = _State(kinds=kinds)
            end = self._now() + seconds
            for count, (path, stat) in enumerate(self._files(state), 1):
                self._look(path, stat, state)
                if count % _FILES_BETWEEN_CLOCKS == 0 and self._now() >= end:
                    break
            else:
                state.files = {path: file for path, file in state.files.items() if file.round == state.round}
                state.walk, state.is_complete = None, True
            remarks = {path: file.remark for path, file in state.files.items() if file.remark}
            return KindReport(remarks, len(state.files), state.is_complete)

    def _files(self, state: _State) -> Iterator[tuple[str, os.stat_result]]:
        if state.walk is None:
            state.round += 1
            state.walk = self._walk()
        return state.walk

    def _walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield (path, stat) of the files below memory/<agent>/."""
        for below, stat in rooted_fs.walk_files(os.path.join(self._root, _AREA)):
            if "/" in below:
                yield f"{_AREA}/{below}", stat

    def _look(self, path: str, stat: os.stat_result, state: _State) -> None:
        stamp, known = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size), state.files.get(path)
        if known is not None and known.stamp == stamp:
            known.round = state.round
            return
        remark = self._remark(Path(tuple(path.split("/"))), state.kinds)
        if remark is not None:
            state.files[path] = _Checked(stamp, state.round, remark)

    def _remark(self, path: Path, kinds: Mapping[str, KindRules]) -> str | None:
        """Return how a file differs from its kind; empty if it fits, None if it has no kind or cannot be read."""
        try:
            with rooted_fs.directory_of(self._root, path.parts) as (parent, name):
                attributes = rooted_fs.read_xattrs(rooted_fs.magic_path(parent, name))
            data = rooted_fs.read_head(self._root, path.parts, MAX_TEXT_BYTES)
        except OSError:
            return None
        lines = (read_text(data) or "").split("\n")
        front_matter = read_front_matter(lines)
        own = attributes.get(_KIND, b"").decode("utf-8", "replace") or str(front_matter.fields.get("type", ""))
        rules = kinds.get(own) or kinds.get(kind_by_folder(path.parts, kinds))
        if rules is None:
            return None
        names = {name.removeprefix(PREFIX) for name in attributes if name.startswith(PREFIX)}
        memory = MemoryText(
            names, set(front_matter.fields), lines[front_matter.line_count :], has_skill=self._has_skill(path)
        )
        faults = check_kind(rules, memory)
        return f"{rules.name}: {'; '.join(faults)}" if faults else ""

    def _has_skill(self, path: Path) -> bool:
        """Return True if a SKILL.md is beside a file of memory/<agent>/<kind>/<skill>/… or above it in that folder."""
        return any(
            os.path.isfile(os.path.join(self._root, *path.parts[:depth], SKILL)) for depth in range(4, len(path.parts))
        )
