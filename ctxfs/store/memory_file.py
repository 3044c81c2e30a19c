"""`<store>/memory.toml`: the rules for the life of memories, loaded again when the file changes.

While the file does not parse, its last good rules stay in force. A changed file takes effect once it has been unchanged
for half a second, because an editor may be writing it, and half a file may parse.

The text of the last good rules is in `<store>/memory.last.toml`, so that a restart does not fall back to the built-in
ones. Each process that loads other good rules replaces it; without memory.toml it is removed.
"""

import contextlib
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
from ctxfs.store.durable_file import replace_file

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
LAST_GOOD_NAME = "memory.last.toml"
_SETTLE_NS = 500_000_000
_FAULTS = (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, CommandError)
_Stamp = tuple[int, int, int] | int  # (mtime, inode, size), or the errno of a failed stat


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The content of the file at `stamp`: its rules, or the last good ones with the fault.

    `is_built_in`: there were no good ones. The stamp is None for rules of an earlier process, until the file is stable.
    """

    stamp: _Stamp | None
    rules: MemoryRules
    fault: str = ""
    is_built_in: bool = False


class MemoryFile(ControlFile):
    """The rules in force, and the file that they are in. May be used by any thread; methods block for a stat."""

    def __init__(self, file: HostPath, now_ns: Callable[[], int] = time.time_ns) -> None:
        super().__init__(file, MEMORY_EXAMPLE)
        self._last_good = file.with_name(LAST_GOOD_NAME)
        self._now_ns = now_ns
        self._loaded: _Loaded | None = None

    @property
    def rules(self) -> MemoryRules:
        """The rules in force."""
        return self._load().rules

    @property
    def fault(self) -> str:
        """The mistake in the file, and the rules that are in force instead; empty without a mistake."""
        loaded = self._load()
        if not loaded.fault:
            return ""
        return f"{loaded.fault}; {'the built-in' if loaded.is_built_in else 'the last good'} rules are in force"

    def write(self, data: bytes) -> None:
        """Replace the file durably, and put it into force at once; raise EFBIG beyond a megabyte."""
        super().write(data)
        self._loaded = self._parse(_stamp_of(self.file), self._loaded)

    def _load(self) -> _Loaded:
        loaded, stamp = self._loaded, _stamp_of(self.file)
        if loaded is None and not self._is_stable(stamp) and (rules := self._read_last_good()) is not None:
            loaded = self._loaded = _Loaded(None, rules)
        elif loaded is None or (loaded.stamp != stamp and self._is_stable(stamp)):
            loaded = self._loaded = self._parse(stamp, loaded)
        return loaded

    def _is_stable(self, stamp: _Stamp) -> bool:
        # A file from the future, by a clock that was set back, must not be ignored for good.
        return isinstance(stamp, int) or not 0 <= self._now_ns() - stamp[0] < _SETTLE_NS

    def _parse(self, stamp: _Stamp, last: _Loaded | None) -> _Loaded:
        try:
            data = b"" if stamp == errno.ENOENT else self._read_limited(self.file)
            loaded = _Loaded(stamp, self._parse_rules(data))
        except _FAULTS as error:
            if isinstance(error, CommandError):
                fault = f"{error.message}{f' ({error.remedy})' if error.remedy else ''}"
            else:
                fault = f"'{self.file.name}': {error}"
            if last is None or last.fault != fault:
                log.error("the rules of memories cannot be read, the last good ones stay: %s", fault)
            if last is not None:
                return _Loaded(stamp, last.rules, fault, last.is_built_in)
            rules = self._read_last_good()
            return _Loaded(stamp, rules or MemoryRules(), fault, is_built_in=rules is None)
        self._keep_last_good(data)
        return loaded

    def _parse_rules(self, data: bytes) -> MemoryRules:
        return parse_memory_rules(parse_toml(data.decode("utf-8-sig")), self.file.name)

    @staticmethod
    def _read_limited(file: HostPath) -> bytes:
        with open(file, "rb") as stream:
            return stream.read(MAX_BYTES + 1)

    # the last good rules

    def _read_last_good(self) -> MemoryRules | None:
        """Return the last good rules of any process; None without any, or if their copy is damaged."""
        with contextlib.suppress(*_FAULTS):
            return self._parse_rules(self._read_limited(self._last_good))
        return None

    def _keep_last_good(self, data: bytes) -> None:
        """Keep the text of good rules for the next start. A failure costs only this copy."""
        try:
            if not data:
                self._last_good.unlink(missing_ok=True)
            elif not self._last_good.exists() or self._read_limited(self._last_good) != data:
                own = self._last_good.with_name(f".{LAST_GOOD_NAME}.{os.getpid()}")  # mount processes keep it, too
                replace_file(own, data, mode=0o600)
                os.replace(own, self._last_good)
        except OSError as error:
            log.warning("the last good rules of memories cannot be kept for the next start: %s", error)


def _stamp_of(file: HostPath) -> _Stamp:
    try:
        stat = os.stat(file)
    except OSError as error:
        return error.errno or errno.EIO
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
