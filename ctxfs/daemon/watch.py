"""Watches of host folders for changes that bypass the mount. The only module that uses inotify.

A report only names paths that may have changed; receivers check the files themselves. Symbolic links are not followed.
Directories in `avoid` (the store itself, mount points inside a source) are not entered.
"""

import errno
import logging
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping

import inotify_simple
import trio

from ctxfs.eventlog.log import is_day
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 0.003
_BUSY_SECONDS = 0.03  # between reports during bursts
_MISSING_SECONDS = 0.5  # between checks for a folder that is gone
_FLAGS = inotify_simple.flags
_MASK = (
    _FLAGS.CREATE
    | _FLAGS.DELETE
    | _FLAGS.MODIFY
    | _FLAGS.ATTRIB
    | _FLAGS.MOVED_FROM
    | _FLAGS.MOVED_TO
    | _FLAGS.ONLYDIR
    | _FLAGS.DONT_FOLLOW
    | _FLAGS.EXCL_UNLINK
)
_ROOT_GONE = _FLAGS.MOVE_SELF | _FLAGS.DELETE_SELF
_NAME_GONE = _FLAGS.DELETE | _FLAGS.MOVED_FROM

Parts = tuple[str, ...]
# root → paths below it → True for a path whose last event was its removal
Changes = dict[str, dict[Parts, bool]]


def group_by_directory(changes: Mapping[Parts, bool]) -> list[tuple[list[str], list[str], list[str]]]:
    """Return [(directory, its changed names, its deleted names), …] for changed paths below a root.

    This is the wire format of `changed`. If the root itself changed, the result is [([], [], [])] alone.
    """
    inside: dict[Parts, tuple[list[str], list[str]]] = {}
    for parts, is_deleted in changes.items():
        if not parts:
            return [([], [], [])]
        inside.setdefault(parts[:-1], ([], []))[is_deleted].append(parts[-1])
    return [(list(directory), *names) for directory, names in inside.items()]


def split_changes(changes: Changes, logs: Collection[str]) -> tuple[Changes, Changes]:
    """Return (changes for search, changes for mounts), if the roots `logs` are event logs.

    Of those, only changes of days and of sessions' files concern search: the head changes with each append.
    """
    searched = {
        root: {parts: gone for parts, gone in inside.items() if root not in logs or not parts or is_day(parts[0])}
        for root, inside in changes.items()
    }
    return searched, {root: inside for root, inside in changes.items() if root not in logs}


class FolderWatch:
    """A watch of the names directly in one folder, without those below; `is_active` is False if the kernel has none left.

    Close it after use.
    """

    def __init__(self, folder: str) -> None:
        self._inotify: inotify_simple.INotify | None = None
        self.is_active = False
        try:
            self._inotify = inotify_simple.INotify(nonblocking=True)
            self._inotify.add_watch(folder, _MASK)
            self.is_active = True
        except OSError as error:
            log.warning("changes in %s are polled for: %s", folder, error)

    async def wait(self, seconds: float) -> bool:
        """Return True after a change, at once if one is queued; False after `seconds` without any."""
        if self._inotify is None:
            await trio.sleep(seconds)
            return False
        with trio.move_on_after(seconds):
            await trio.lowlevel.wait_readable(self._inotify.fileno())
            self._inotify.read(timeout=0)
            return True
        return False

    def close(self) -> None:
        """Release the watch."""
        if self._inotify is not None:
            self._inotify.close()


class Watcher:
    """A recursive inotify watcher, which reports {root: {parts: is deleted}} soon after a change.

    `()` stands for a whole root: the kernel's queue overflowed, or the folder was removed or created, so anything in it
    may have changed. An empty last part stands for all names in a new directory, because its contents may have changed
    before it was watched.
    """

    def __init__(self, changed: Callable[[Changes], None]) -> None:
        self._changed = changed
        self._inotify = inotify_simple.INotify(nonblocking=True)
        # One directory has one watch descriptor, even below several roots.
        self._watched: dict[int, set[tuple[str, Parts]]] = {}
        self._numbers: dict[tuple[str, Parts], int] = {}
        self._roots: set[str] = set()
        self._missing: set[str] = set()  # requested roots that do not exist now
        self._avoid: frozenset[str] = frozenset()
        self._lock = trio.Lock()
        self.faults: dict[str, str] = {}

    async def run(self) -> None:
        """Report changes until cancelled."""
        reported = 0.0
        try:
            while True:
                with trio.move_on_after(_MISSING_SECONDS if self._missing else math.inf):
                    await trio.lowlevel.wait_readable(self._inotify.fileno())
                await trio.sleep(max(_SETTLE_SECONDS, reported + _BUSY_SECONDS - trio.current_time()))
                async with self._lock:
                    changes = await blocking(self._read_events)
                reported = trio.current_time()
                if changes:
                    self._changed(changes)
        finally:
            self._inotify.close()

    async def report(self) -> None:
        """Report all events that are queued now, without delay."""
        async with self._lock:
            changes = await blocking(self._read_events)
        if changes:
            self._changed(changes)

    async def set_roots(self, roots: Iterable[str], avoid: Iterable[str]) -> None:
        """Watch exactly these folders. A folder that cannot be watched becomes an entry of `faults`, not an error."""
        requested = set(roots)
        existing = {root for root in requested if os.path.isdir(root)}
        async with self._lock:
            self._avoid = frozenset(avoid)
            for root in self._roots - existing:
                self._unwatch(root, ())
            for root in existing - self._roots:
                self.faults.pop(root, None)
                await blocking(self._watch, root, ())
            self._roots, self._missing = existing, requested - existing

    def _read_events(self) -> Changes:
        """Read the queued events, and add or remove watches for directories that were created or removed."""
        changes: Changes = {root: {(): False} for root in [root for root in self._missing if os.path.isdir(root)]}
        for root in changes:
            self._missing.discard(root)
            self._roots.add(root)
            self._watch(root, ())
        for event in self._inotify.read(timeout=0):
            if event.mask & _FLAGS.Q_OVERFLOW:
                log.warning("the inotify queue overflowed; all folders are scanned again")
                changes.update({root: {(): False} for root in self._roots})
                continue
            for root, parts in tuple(self._watched.get(event.wd, ())):
                if event.mask & _ROOT_GONE and not parts and event.wd in self._watched:
                    self._unwatch(root, ())
                    self._roots.discard(root)
                    self._missing.add(root)
                    changes.setdefault(root, {})[()] = False
                if event.mask & (_FLAGS.IGNORED | _ROOT_GONE):
                    self._remove_key(event.wd, root, parts)
                    continue
                inside = (*parts, event.name) if event.name else parts
                if self._host(root, inside) in self._avoid:
                    continue
                changes.setdefault(root, {})[inside] = bool(event.mask & _NAME_GONE)
                if event.mask & _FLAGS.ISDIR and event.name:
                    self._follow_directory(event.mask, root, inside)
                    changes[root][*inside, ""] = False
        return changes

    def _follow_directory(self, mask: int, root: str, parts: Parts) -> None:
        if mask & _NAME_GONE:
            self._unwatch(root, parts)
        elif mask & (_FLAGS.CREATE | _FLAGS.MOVED_TO):
            self._watch(root, parts)

    def _watch(self, root: str, below: Parts) -> None:
        """Watch a directory and all directories below it.

        Each directory is watched before it is listed, so that no change falls in between.
        """
        pending = [below]
        while pending:
            parts = pending.pop()
            host = self._host(root, parts)
            if host in self._avoid:
                continue
            try:
                number = self._inotify.add_watch(host, _MASK if parts else _MASK | _ROOT_GONE)
            except OSError as error:
                if error.errno == errno.ENOSPC:  # out of watches
                    self.faults[root] = "changes are not seen everywhere: fs.inotify.max_user_watches is too low"
                    return
                continue  # deleted, or unreadable: then it cannot be shown either
            self._watched.setdefault(number, set()).add((root, parts))
            self._numbers[root, parts] = number
            try:
                with os.scandir(host) as entries:
                    pending.extend((*parts, entry.name) for entry in entries if entry.is_dir(follow_symlinks=False))
            except OSError:
                continue

    def _unwatch(self, root: str, below: Parts) -> None:
        """Stop watching a directory and all directories below it."""
        depth = len(below)
        for key in [key for key in self._numbers if key[0] == root and key[1][:depth] == below]:
            number = self._numbers[key]
            self._remove_key(number, *key)
            if number not in self._watched:
                try:
                    self._inotify.rm_watch(number)
                except OSError:
                    continue  # the directory is gone, and its watch with it

    def _remove_key(self, number: int, root: str, parts: Parts) -> None:
        self._numbers.pop((root, parts), None)
        keys = self._watched.get(number)
        if keys is not None:
            keys.discard((root, parts))
            if not keys:
                del self._watched[number]

    @staticmethod
    def _host(root: str, parts: Parts) -> str:
        return os.path.join(root, *parts)
