"""The capture of work tree paths as git entries. Only files that may have changed are read."""

import contextlib
import errno
import logging
import os
import stat as st
import time
from collections.abc import Collection, Iterator, Sequence

from ctxfs.model.host_numbers import MAX_INT64, MIN_INT64, file_numbers
from ctxfs.store import rooted_fs
from ctxfs.versions.objects.git import object_id
from ctxfs.versions.objects.large_objects import pointer_text
from ctxfs.versions.objects.name_encoding import MAX_PATH_NAMES, display_path
from ctxfs.versions.objects.sidecar import Large, SideCar, default_mode, encode_sidecar
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, MODE_LINK, Parts, TreeEntry
from ctxfs.versions.recording.ledger import ABSENT, Ledger, State
from ctxfs.versions.recording.pathindex import FileRecord
from ctxfs.versions.recording.scratch import ScratchRules
from ctxfs.versions.recording.worktree import git_mode

log = logging.getLogger(__name__)

_RACY_NS = 20_000_000
_MAX_READ_TRIES = 3


_UNKNOWN_STATE = State(TreeEntry(0, ""))  # equal to no state of a version


class _Postponed(Exception):
    """Signal that a large file is first read without the lock."""


class _TooLarge(Exception):
    """Signal that a file exceeds `versions.max_file_bytes`."""


class _Unreadable(Exception):
    """Signal that a file of the work tree cannot be read, as opposed to a repository that cannot be written."""

    def __init__(self, code: int) -> None:
        self.errno = code


@contextlib.contextmanager
def _distinguish_read_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _Unreadable(error.errno or errno.EIO) from error


class Capture:
    """One capture of work tree paths. `settle` writes `remembered` and `gone` to the path index after the commit.

    With `keep` False nothing is stored: the states are only computed.
    """

    def __init__(self, ledger: Ledger, *, keep: bool = True, marked: Collection[bytes] = ()) -> None:
        """Begin a capture. `marked` are paths whose marks a person has set or lifted."""
        self._ledger = ledger
        self._marked = marked
        self._is_storing = keep
        self._scratch = ScratchRules(ledger.work)
        self._prefetched: dict[bytes, FileRecord | None] = {}
        self.remembered: list[tuple[bytes, FileRecord]] = []
        self.gone: list[bytes] = []
        self.postponed: list[bytes] = []
        self.sizes: dict[str, int] = {}
        self.mtimes: dict[bytes, int] = {}  # of files, in nanoseconds

    def prefetch(self, paths: Sequence[bytes]) -> None:
        """Prefetch the records of these paths from the path index."""
        records = self._ledger.index.file_records(paths)
        self._prefetched = {path: records.get(path) for path in paths}

    def capture_path(self, parts: Parts, stat: os.stat_result | None, head: State, *, moved: bool = True) -> State:
        """Return the state of `parts`, whose attributes are `stat` (None: absent).

        The entry of a directory is that of `head` if that is a directory too, else the empty tree. With `moved` a file
        may have been renamed: if its inode is recorded, the content is not read. A file that cannot be captured keeps
        its last version, and is added to the unversioned files. Scratch that the last version lacks stays out of it.
        """
        path = b"/".join(parts)
        unversioned = self._ledger.unversioned
        if stat is None:
            unversioned.clear(path)
            self._clear_scratch(path, head)
            self.gone.append(path)
            return ABSENT
        # A path that cannot be captured keeps its last version. A caller that only compares must see a difference.
        fallback = head if self._is_storing else _UNKNOWN_STATE
        if len(parts) > MAX_PATH_NAMES:
            unversioned.add(path, f"it lies in more than {MAX_PATH_NAMES} directories")
            return fallback
        may_be_scratch = self._is_storing and head.entry is None and not self._ledger.scratch.is_tracked(path)
        if may_be_scratch and (reason := self._scratch.reason(parts, stat)):
            self._leave_out(path, parts, stat, reason)
            return head
        try:
            state = self._capture(path, parts, stat, head, moved=moved)
        except _Postponed:
            self.postponed.append(path)
            return fallback
        except _TooLarge:
            unversioned.add(path, f"it is larger than versions.max_file_bytes ({self._ledger.large_capture.max_bytes})")
            return fallback
        except _Unreadable as unreadable:
            if unreadable.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                # Removed or replaced meanwhile: the journal has another record of that.
                return self.capture_path(parts, None, head)
            unversioned.add(path, f"it cannot be read: {os.strerror(unreadable.errno)}")
            return fallback
        except OSError:
            raise  # the repository cannot be written: no file can get a version
        except Exception as error:
            # One bad file must not prevent versions of the others.
            log.exception("'%s' cannot be captured", display_path(path))
            unversioned.add(path, f"it cannot be captured: {error!r}")
            return fallback
        unversioned.clear(path)
        self._ledger.scratch.clear(path)
        return state

    def _leave_out(self, path: bytes, parts: Parts, stat: os.stat_result, reason: str) -> None:
        """List a path that versions leave out. Its text is marked like any other, so that a copy loses no mark."""
        ledger = self._ledger
        if st.S_ISDIR(stat.st_mode):
            return
        ledger.scratch.add(path, reason)
        if ledger.marks.is_empty or not st.S_ISREG(stat.st_mode) or stat.st_size >= ledger.large_from:
            return
        try:
            with ledger.work.open_file(parts) as fd, open(fd, "rb", closefd=False) as file:
                data = file.read(ledger.large_from)
                self._apply_marks(path, fd, stat, object_id("blob", data), rooted_fs.read_xattrs(fd), data)
        except (OSError, _Unreadable) as error:
            log.error("the marks of '%s' cannot be set: %s", display_path(path), os.strerror(error.errno or errno.EIO))

    def _clear_scratch(self, path: bytes, head: State) -> None:
        self._ledger.scratch.clear(path)
        if head.entry is not None and head.entry.mode == MODE_DIR:
            self._ledger.scratch.clear_below(path)

    def _capture(self, path: bytes, parts: Parts, stat: os.stat_result, head: State, *, moved: bool) -> State:
        kind = git_mode(stat)
        if kind == MODE_DIR:
            # A directory's times change with its entries, so they do not show a change of its attributes.
            with _distinguish_read_errors():
                xattrs = self._ledger.work.read_xattrs(parts)
            return State(_directory_entry(head), self._store_side(SideCar(xattrs, _unusual_mode(stat, MODE_DIR))))
        record = self._prefetched[path] if path in self._prefetched else self._ledger.index.file_record(path)
        if record is not None and record[:5] == file_numbers(stat):
            self.mtimes[path] = record.mtime_ns
            self.sizes[record.oid] = record.size
            return State(TreeEntry(record.git_mode, record.oid), record.side)
        return self._capture_content(path, parts, stat, kind, moved=moved and record is None)

    def settle(self) -> None:
        """Write the captured attributes to the path index, after the commit."""
        index = self._ledger.index
        try:
            with index.transaction():
                if self.gone:
                    index.delete_file_records(self.gone)
                index.record_files(self.remembered)
        except Exception:
            log.exception("cannot write the path index; files will be read again")

    def _capture_content(self, path: bytes, parts: Parts, stat: os.stat_result, kind: int, *, moved: bool) -> State:
        ledger = self._ledger
        if kind == MODE_LINK:
            with _distinguish_read_errors():
                target = ledger.work.read_link(parts)
            entry, side = TreeEntry(MODE_LINK, self._store_blob(target)), ""
        else:
            stat, entry, side = self._capture_file(parts, moved)
        self.remember(path, stat, entry, side)
        return State(entry, side)

    def remember(self, path: bytes, stat: os.stat_result, entry: TreeEntry, side: str) -> None:
        """Record that a file or link with the attributes `stat` is this entry."""
        self.sizes[entry.oid] = stat.st_size
        numbers = file_numbers(stat)
        self.mtimes[path] = numbers.mtime_ns
        # Another write within the clock's granularity leaves equal times: do not trust these, nor clamped times.
        if (
            not MIN_INT64 < numbers.mtime_ns < MAX_INT64
            or max(numbers.mtime_ns, numbers.ctime_ns) > time.time_ns() - _RACY_NS
        ):
            numbers = numbers._replace(ctime_ns=0)
        self.remembered.append((path, FileRecord(*numbers, entry.mode, entry.oid, side)))

    def _store_blob(self, data: bytes) -> str:
        return self._ledger.repo.write("blob", data) if self._is_storing else object_id("blob", data)

    def _store_side(self, side: SideCar) -> str:
        return "" if side.is_empty else self._store_blob(encode_sidecar(side))

    def _capture_file(self, parts: Parts, moved: bool) -> tuple[os.stat_result, TreeEntry, str]:
        with contextlib.ExitStack() as stack:
            with _distinguish_read_errors():
                fd = stack.enter_context(self._ledger.work.open_file(parts))
            return self._capture_fd(b"/".join(parts), fd, moved)

    def capture_fd(self, path: bytes, fd: int) -> State:
        """Return the state of an open regular file, under any current name.

        Raise OSError if it cannot be read or stored.
        """
        large_capture = self._ledger.large_capture
        can_postpone, large_capture.can_postpone = large_capture.can_postpone, False
        try:
            _, entry, side = self._capture_fd(path, fd, moved=False)
        except _Unreadable as unreadable:
            raise OSError(unreadable.errno, os.strerror(unreadable.errno)) from unreadable
        except _TooLarge as too_large:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG)) from too_large
        finally:
            large_capture.can_postpone = can_postpone
        return State(entry, side)

    def _capture_fd(self, path: bytes, fd: int, moved: bool) -> tuple[os.stat_result, TreeEntry, str]:
        ledger = self._ledger
        for attempt in range(_MAX_READ_TRIES):
            data = None
            with _distinguish_read_errors():
                stat = os.fstat(fd)
                if not st.S_ISREG(stat.st_mode):
                    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
                xattrs = rooted_fs.read_xattrs(fd)
            mode, large = git_mode(stat), None
            # The same inode with the same times under a new name is a moved file.
            record = ledger.index.record_of_inode(*file_numbers(stat)[:3]) if moved else None
            if record is not None and record.ctime_ns and record.git_mode != MODE_LINK:
                oid = record.oid
                large = ledger.read_sidecar(record.side).large if record.side else None
            elif stat.st_size > ledger.large_capture.max_bytes:
                raise _TooLarge
            elif stat.st_size >= ledger.large_from:
                large = self._capture_large(fd, stat)
                oid = self._store_blob(pointer_text(large))
            else:
                with _distinguish_read_errors(), open(fd, "rb", closefd=False) as file:
                    file.seek(0)
                    data = file.read()
                oid = self._store_blob(data)
            xattrs = self._apply_marks(path, fd, stat, oid, xattrs, data)
            after = os.fstat(fd)
            if file_numbers(after) == file_numbers(stat) or attempt + 1 == _MAX_READ_TRIES:
                break  # written during the read: the writer's close makes another version
        side = self._store_side(SideCar(xattrs, _unusual_mode(stat, mode), large))
        return stat, TreeEntry(mode, oid), side

    def _capture_large(self, fd: int, stat: os.stat_result) -> Large:
        ledger = self._ledger
        large = ledger.large_capture.content_of(file_numbers(stat))
        if large is not None and ledger.large.path(large.sha256).exists():
            return large
        if not self._is_storing:
            return ledger.large.compute_large(fd)
        if ledger.large_capture.can_postpone:
            raise _Postponed
        return ledger.large.add(fd)

    def _apply_marks(
        self, path: bytes, fd: int, stat: os.stat_result, oid: str, xattrs: dict[str, bytes], data: bytes | None
    ) -> dict[str, bytes]:
        """Return the attributes of a file, with the marks that its path and content require. Set these on the file."""
        marks = self._ledger.marks
        if not self._is_storing:
            return xattrs
        if path in self._marked:
            marks.set_by_person(path, oid, stat.st_size, xattrs, data)
            return xattrs
        marked = marks.settle(path, oid, stat.st_size, xattrs, data)
        for name, value in marked.items():
            if xattrs.get(name) != value:
                with _distinguish_read_errors():
                    os.setxattr(fd, name, value)
        return marked


def _directory_entry(head: State) -> TreeEntry:
    if head.entry is not None and head.entry.mode == MODE_DIR:
        return head.entry
    return TreeEntry(MODE_DIR, EMPTY_TREE)


def _unusual_mode(stat: os.stat_result, mode: int) -> int | None:
    bits = st.S_IMODE(stat.st_mode)
    return None if bits == default_mode(mode) else bits
