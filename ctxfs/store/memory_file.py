"""`<store>/memory.toml`: the rules for the life of memories, loaded again when the file changes.

While the file does not parse, its last good rules stay in force. A changed file takes effect once it has been unchanged
for half a second, because an editor may be writing it, and half a file may parse.
"""

import errno
import logging
import os
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as HostPath

from ctxfs.memory.rules import MemoryRules, parse_memory_rules
from ctxfs.model.errors import CommandError
from ctxfs.model.toml import parse_toml
from ctxfs.store.control_file import MAX_BYTES, ControlFile

log = logging.getLogger(__name__)

MEMORY_EXAMPLE = b"""\
# Rules for the life of memories (docs/memory.md). Without a section, the built-in rules hold.
# A mistake changes nothing: the last good rules stay in force, and `ctxfs status` names it.
#
# [kind.decision]
# description = "a decision, and its reason"
# must = ["source", "reason"]
# may = ["confidence", "tags"]
#
# [[state.transition]]
# from = "archived"
# to = "active"
# who = "people"          # or "writers", "nobody"
#
# [pad]
# expire = "30d"          # archive a pad after this time without a change
"""
_SETTLE_NS = 500_000_000
_Stamp = tuple[int, int, int] | int  # (mtime, inode, size), or the errno of a failed stat


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The content of the file at `stamp`: its rules, or the last good ones with the fault."""

    stamp: _Stamp
    rules: MemoryRules
    fault: str = ""


class MemoryFile(ControlFile):
    """The rules in force, and the file that they are in. May be used by any thread; methods block for a stat."""

    def __init__(self, file: HostPath, now_ns: Callable[[], int] = time.time_ns) -> None:
        super().__init__(file, MEMORY_EXAMPLE)
        self._now_ns = now_ns
        self._loaded: _Loaded | None = None

    @property
    def rules(self) -> MemoryRules:
        """The rules in force."""
        return self._load().rules

    @property
    def fault(self) -> str:
        """The mistake in the file; empty without one."""
        return self._load().fault

    def write(self, data: bytes) -> None:
        """Replace the file durably, and put it into force at once; raise EFBIG beyond a megabyte."""
        super().write(data)
        self._loaded = self._parse(_stamp_of(self.file), self._loaded)

    def _load(self) -> _Loaded:
        loaded, stamp = self._loaded, _stamp_of(self.file)
        if loaded is None or (loaded.stamp != stamp and self._is_stable(stamp)):
            loaded = self._loaded = self._parse(stamp, loaded)
        return loaded

    def _is_stable(self, stamp: _Stamp) -> bool:
        # A file from the future, by a clock that was set back, must not be ignored for good.
        return isinstance(stamp, int) or not 0 <= self._now_ns() - stamp[0] < _SETTLE_NS

    def _parse(self, stamp: _Stamp, last: _Loaded | None) -> _Loaded:
        try:
            text = "" if stamp == errno.ENOENT else self._read_text()
            return _Loaded(stamp, parse_memory_rules(parse_toml(text), self.file.name))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, CommandError) as error:
            if isinstance(error, CommandError):
                fault = f"{error.message}{f' ({error.remedy})' if error.remedy else ''}"
            else:
                fault = f"'{self.file.name}': {error}"
            if last is None or last.fault != fault:
                log.error("the rules of memories cannot be read, the last good ones stay: %s", fault)
            return _Loaded(stamp, last.rules if last else MemoryRules(), fault)

    def _read_text(self) -> str:
        with open(self.file, "rb") as file:
            return file.read(MAX_BYTES + 1).decode("utf-8-sig")


def _stamp_of(file: HostPath) -> _Stamp:
    try:
        stat = os.stat(file)
    except OSError as error:
        return error.errno or errno.EIO
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
