"""The work tree as versions see it: stat a path, walk, and put the content of a version at a path.

Paths are tuples of bytes below the root; no link is followed. Only files, directories and links are seen.
"""

import contextlib
import errno
import logging
import os
import stat as st
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from ctxfs.store import rooted_fs
from ctxfs.store.atomic_replace import (
    Orphan,
    SwapResult,
    UnchangedReason,
    WriteLease,
    WriterTimeout,
    append,
    free_name,
    lease_file,
    swap_file,
)
from ctxfs.versions.objects.name_encoding import MAX_PATH_NAMES, display_path
from ctxfs.versions.objects.trees import MODE_DIR, MODE_FILE, MODE_LINK, MODE_PROGRAM, Parts

log = logging.getLogger(__name__)

_MAX_MISSES = 20
_MAX_HOLD_SECONDS = 0.5

# Returns True if a path with these attributes (None: absent) may be replaced.
Expected: TypeAlias = Callable[[os.stat_result | None], bool]


def git_mode(stat: os.stat_result) -> int:
    """Return the git mode of a host file; 0 for file types that have no versions."""
    if st.S_ISDIR(stat.st_mode):
        return MODE_DIR
    if st.S_ISLNK(stat.st_mode):
        return MODE_LINK
    if st.S_ISREG(stat.st_mode):
        return MODE_PROGRAM if stat.st_mode & 0o100 else MODE_FILE
    return 0


class WorkTree:
    """The files below `root`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._is_keeping_open = False
        self._cached_directory: tuple[Parts, int] | None = None
        self._is_reading_past = False
        self.patience = WriterTimeout(0.0)  # of the current operation, with writers
        self._writer_holds: dict[Parts, WriteLease] = {}
        self._misses = 0  # lookups of absent names in the open directory
        self._directory_names: frozenset[bytes] | None = None  # its names, after many such lookups

    def stat(self, parts: Parts) -> os.stat_result | None:
        """Return the attributes of a path; None if it is absent or of a type without versions."""
        try:
            with self._open_parent(parts) as (parent, name):
                if self._directory_names is not None and name not in self._directory_names:
                    return None
                stat = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENOENT:
                self._count_miss()
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        return stat if git_mode(stat) else None

    def _count_miss(self) -> None:
        """Count a lookup of an absent name.

        Such lookups block writers of the directory; after `_MAX_MISSES` its names are read instead.
        """
        self._misses += 1
        if self._misses == _MAX_MISSES and self._cached_directory is not None and self._is_reading_past:
            self._directory_names = frozenset(
                os.listdir(os.fsencode(rooted_fs.magic_path(self._cached_directory[1], ".")))
            )

    def walk(self, below: Parts = ()) -> Iterator[tuple[Parts, os.stat_result]]:
        """Yield every path below a directory, parents first.

        Paths that vanish meanwhile, or are unreadable, are omitted.
        """
        pending = [below]
        while pending:
            directory = pending.pop()
            try:
                entries = self._read_entries(directory)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    path = display_path(b"/".join(directory))
                    log.error("'%s' cannot be read; its contents keep their last version: %s", path, error.strerror)
                continue
            for name, stat in entries:
                kind = git_mode(stat)
                if kind:
                    yield (*directory, name), stat
                if kind == MODE_DIR and len(directory) < MAX_PATH_NAMES:
                    pending.append((*directory, name))

    def _read_entries(self, directory: Parts) -> list[tuple[bytes, os.stat_result]]:
        """Return the names in a directory with their attributes, sorted, without temporary files."""
        entries = []
        fd = rooted_fs.open_directory(self.root, _decode_parts(directory))
        try:
            for name in sorted(os.listdir(os.fsencode(f"/proc/self/fd/{fd}/"))):
                if rooted_fs.is_temporary(name):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    entries.append((name, os.stat(name, dir_fd=fd, follow_symlinks=False)))
        finally:
            os.close(fd)
        return entries

    def is_gone(self, parts: Parts) -> bool:
        """Return True if a path that a walk did not yield is absent. A path that cannot be accessed is not gone."""
        try:
            return self.stat(parts) is None
        except OSError:
            return False

    @contextlib.contextmanager
    def open_file(self, parts: Parts) -> Iterator[int]:
        """Open a regular file for reading; yield the descriptor."""
        with self._open_parent(parts) as (parent, name):
            fd = rooted_fs.open_nofollow(name, dir_fd=parent)
        try:
            yield fd
        finally:
            os.close(fd)

    def read_link(self, parts: Parts) -> bytes:
        """Return the target of a link."""
        with self._open_parent(parts) as (parent, name):
            return os.readlink(name, dir_fd=parent)

    def read_xattrs(self, parts: Parts) -> dict[str, bytes]:
        """Return the `user.*` attributes of a file or directory."""
        with self._open_parent(parts) as (parent, name):
            return rooted_fs.read_xattrs(os.fsencode(f"/proc/self/fd/{parent}/") + name)

    # writes: before a path is replaced, and while it has no writer, `is_expected` must accept its current attributes

    def put_file(
        self,
        parts: Parts,
        data: bytes | int,
        mode: int,
        xattrs: Mapping[str, bytes],
        is_expected: Expected,
        mtime_ns: int | None = None,
    ) -> tuple[SwapResult, os.stat_result]:
        """Replace `parts` with a new file, written beside it and swapped in, so that open readers keep the old one.

        `data` is the content, or a descriptor to copy it from. Return the new file's attributes, too.
        """
        with self._open_parent(parts) as (parent, name):
            temporary, stat = _write_beside(parent, data, mode, xattrs, mtime_ns)
            return self._swap_in(parts, parent, name, temporary, is_expected), stat

    def put_link(self, parts: Parts, target: bytes, is_expected: Expected) -> SwapResult:
        """Replace `parts` with a link."""
        with self._open_parent(parts) as (parent, name):
            temporary = rooted_fs.orphan_name()
            os.symlink(target, temporary, dir_fd=parent)
            return self._swap_in(parts, parent, name, temporary, is_expected)

    def put_directory(self, parts: Parts, mode: int, xattrs: Mapping[str, bytes], is_expected: Expected) -> SwapResult:
        """Make `parts` a directory; an existing one keeps its contents."""
        swap = SwapResult()
        with self._open_parent(parts) as (parent, name):
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                stat = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if not st.S_ISDIR(stat.st_mode):
                    swap = self._swap(parts, parent, name, None, is_expected)
                    if swap.reason is not None:
                        return swap
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=parent)
            path = os.fsencode(f"/proc/self/fd/{parent}/") + name
            _set_xattrs(path, xattrs)
            os.chmod(path, mode)
        return swap

    def set_attributes(self, parts: Parts, mode: int, xattrs: Mapping[str, bytes]) -> None:
        """Set only mode and `user.*` attributes of an existing path; links have none."""
        with self._open_parent(parts) as (parent, name):
            stat = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if st.S_ISLNK(stat.st_mode):
                return
            path = os.fsencode(f"/proc/self/fd/{parent}/") + name
            _set_xattrs(path, xattrs)
            if st.S_IMODE(stat.st_mode) != mode:
                os.chmod(path, mode)

    def remove(self, parts: Parts, is_expected: Expected) -> SwapResult:
        """Remove a file, a link or an empty directory. A directory that is not empty stays."""
        try:
            with self._open_parent(parts) as (parent, name):
                stat = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if not st.S_ISDIR(stat.st_mode):
                    return self._swap(parts, parent, name, None, is_expected)
                os.rmdir(name, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return SwapResult(UnchangedReason.OCCUPIED)
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
        return SwapResult()

    def append(self, parts: Parts, data: bytes) -> bool:
        """Append to a file as a writer does. Return False if it is absent."""
        with self._open_parent(parts) as (parent, name):
            try:
                append(parent, name, data)
            except FileNotFoundError:
                return False
        return True

    def remove_tree(self, parts: Parts) -> None:
        """Remove a directory with all its contents, including files without versions."""
        pending, directories = [parts], list[Parts]()
        while pending:
            directory = pending.pop()
            directories.append(directory)
            fd = rooted_fs.open_directory(self.root, _decode_parts(directory))
            try:
                for name in os.listdir(os.fsencode(f"/proc/self/fd/{fd}/")):
                    if st.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                        pending.append((*directory, name))
                    else:
                        os.unlink(name, dir_fd=fd)
            finally:
                os.close(fd)
        for directory in reversed(directories):
            with self._open_parent(directory) as (parent, name):
                os.rmdir(name, dir_fd=parent)

    def put_beside(self, parts: Parts, data: bytes) -> None:
        """Create a new file beside a path, named `name.written`."""
        with self._open_parent(parts) as (parent, name):
            temporary, _ = _write_beside(parent, data, 0o644, {})
            rooted_fs.rename_new(parent, temporary, free_name(parent, name, b".written"))

    def replace_with_link(self, parts: Parts, target: bytes) -> None:
        """Replace `parts`, and everything that is below it by now, with a link."""
        stat = self.stat(parts)
        if stat is not None and git_mode(stat) == MODE_DIR:
            self.remove_tree(parts)
        with self._open_parent(parts) as (parent, name):
            temporary = rooted_fs.temporary_name()
            os.symlink(target, temporary, dir_fd=parent)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)

    def restore_orphan(self, parts: Parts, orphan: Orphan) -> None:
        """Rename a file that was swapped out to its former path."""
        with self._open_parent(parts) as (parent, name):
            os.rename(orphan.name, name, src_dir_fd=parent, dst_dir_fd=parent)
        orphan.name = b""

    def unlink_orphan(self, parts: Parts, orphan: Orphan) -> None:
        """Unlink a file that was swapped out and whose content is recorded."""
        with self._open_parent(parts) as (parent, _), contextlib.suppress(FileNotFoundError):
            os.unlink(orphan.name, dir_fd=parent)
        orphan.name = b""

    def name_orphan(self, parts: Parts, orphan: Orphan) -> Parts:
        """Give a file that was swapped out a name in the tree, beside the path, because its writer keeps it open.

        Return its new path.
        """
        with self._open_parent(parts) as (parent, name):
            new_name = free_name(parent, name, b".written")
            rooted_fs.rename_new(parent, orphan.name, new_name)
        orphan.name = b""
        return (*parts[:-1], new_name)

    @contextlib.contextmanager
    def block_writers(self, paths: Iterable[Parts]) -> Iterator[list[Parts]]:
        """Block the writers of some files, each until it is swapped, or until this ends. Yield the blocked paths.

        For a single file this waits for its writers. Of several files, those that are open for writing are not blocked.
        """
        candidates = list(paths)
        patience = WriterTimeout(_MAX_HOLD_SECONDS if len(candidates) == 1 else 0.0)
        try:
            for parts in candidates:
                with contextlib.suppress(OSError), self._open_parent(parts) as (parent, name):
                    hold = lease_file(parent, name, patience)
                    if hold is not None:
                        self._writer_holds[parts] = hold
            yield list(self._writer_holds)
        finally:
            for hold in self._writer_holds.values():
                os.close(hold.fd)
            self._writer_holds.clear()

    def files_open_for_writing(self, paths: Iterable[Parts], patience: WriterTimeout) -> Iterator[Parts]:
        """Yield those of some files that stay open for writing."""
        for parts in paths:
            try:
                with self._open_parent(parts) as (parent, name):
                    hold = lease_file(parent, name, patience)
                    if hold is not None:
                        os.close(hold.fd)
            except BlockingIOError:
                yield parts
            except OSError:
                continue  # it is not there

    def _swap_in(self, parts: Parts, parent: int, name: bytes, temporary: bytes, is_expected: Expected) -> SwapResult:
        swap = SwapResult(UnchangedReason.WRITTEN)
        try:
            stat = _stat_entry(parent, name)
            if stat is not None and st.S_ISDIR(stat.st_mode):
                swap = self.remove(parts, is_expected)
                if swap.reason is not None:
                    return swap
                is_expected = _is_absent
            swap = self._swap(parts, parent, name, temporary, is_expected)
            return swap
        finally:
            if swap.orphan is None or swap.orphan.name != temporary:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=parent)

    def _swap(self, parts: Parts, parent: int, name: bytes, new: bytes | None, is_expected: Expected) -> SwapResult:
        return swap_file(parent, name, new, is_expected, self.patience, self._writer_holds.pop(parts, None))

    def clear_temporaries(self, older_than: float, is_known: Callable[[Parts, os.stat_result], bool]) -> None:
        """Remove temporary files of a killed process that are older than `older_than` (seconds since the epoch).

        A complete file that a swap left, and whose content is not recorded, gets a name in the tree.
        """
        for folder, _, names in rooted_fs.walk(os.fsencode(self.root)):
            for name in filter(rooted_fs.is_temporary, names):
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    stat = os.lstat(path)
                    if stat.st_ctime >= older_than:
                        continue
                    parts = tuple(os.path.relpath(path, os.fsencode(self.root)).split(b"/"))
                    is_whole = rooted_fs.is_orphan(name) and st.S_IMODE(stat.st_mode) != 0
                    if is_whole and not is_known(parts, stat):
                        new_name = b"recovered-" + name.removeprefix(b".ctxfs-")[:8]
                        log.warning("'%s' was being replaced when ctxfs was killed", display_path(b"/".join(parts)))
                        os.rename(path, os.path.join(folder, new_name))
                    else:
                        os.unlink(path)

    @contextlib.contextmanager
    def keep_directory_open(self, *, only_looks: bool = False) -> Iterator[None]:
        """Keep the last directory open during work on many neighbours.

        If the directory is moved, the work continues in it. With `only_looks`, only changes made before this call must
        be seen.
        """
        self._is_keeping_open, self._is_reading_past = True, only_looks
        try:
            yield
        finally:
            self._is_keeping_open = self._is_reading_past = False
            self._close_directory()

    def _close_directory(self) -> None:
        self._misses, self._directory_names = 0, None
        if self._cached_directory is not None:
            os.close(self._cached_directory[1])
            self._cached_directory = None

    @contextlib.contextmanager
    def _open_parent(self, parts: Parts) -> Iterator[tuple[int, bytes]]:
        above, name = parts[:-1], parts[-1] if parts else b"."
        if self._is_keeping_open:
            if self._cached_directory is None or self._cached_directory[0] != above:
                fd = rooted_fs.open_directory(self.root, _decode_parts(above))
                self._close_directory()
                self._cached_directory = (above, fd)
            yield self._cached_directory[1], name
            return
        fd = rooted_fs.open_directory(self.root, _decode_parts(above))
        try:
            yield fd, name
        finally:
            os.close(fd)


def _write_beside(
    parent: int, data: bytes | int, mode: int, xattrs: Mapping[str, bytes], mtime_ns: int | None = None
) -> tuple[bytes, os.stat_result]:
    """Create a new file with an orphan's name. Its mode is 0 until it is complete."""
    temporary = rooted_fs.orphan_name()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0, dir_fd=parent)
    try:
        with open(fd, "wb") as file:
            if isinstance(data, int):
                rooted_fs.copy_content(data, file.fileno(), lambda piece: None)
            else:
                file.write(data)
                file.flush()
            for key, value in xattrs.items():
                os.setxattr(fd, key, value)
            os.fchmod(fd, mode)
            if mtime_ns is not None:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            stat = os.fstat(fd)
        return temporary, stat
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)
        raise


def _is_absent(stat: os.stat_result | None) -> bool:
    return stat is None


def _stat_entry(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _set_xattrs(path: bytes, xattrs: Mapping[str, bytes]) -> None:
    current = rooted_fs.read_xattrs(path)
    for name in current.keys() - xattrs.keys():
        os.removexattr(path, name, follow_symlinks=False)
    for name, value in xattrs.items():
        if current.get(name) != value:
            os.setxattr(path, name, value, follow_symlinks=False)


def _decode_parts(parts: Parts) -> list[str]:
    return [os.fsdecode(name) for name in parts]
