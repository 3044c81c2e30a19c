"""A host folder as a Mount, the base of memory, pads and knowledge sources."""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from typing import assert_never

import trio

from ctxfs.memory.states import STATE_ATTRIBUTES
from ctxfs.model.change import ABSENT, Append, Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.entry import Entry, kind_of
from ctxfs.model.errors import not_permitted, path_error, read_only
from ctxfs.model.host_numbers import mtime_ns_of
from ctxfs.model.mount import Backing, Mount
from ctxfs.model.path import Path
from ctxfs.store import frozen_files, rooted_fs
from ctxfs.store.atomic_replace import UnchangedReason, WriterTimeout, compare_and_swap
from ctxfs.threads import blocking

_PIECE_BYTES = 1 << 20
_WAIT_SECONDS = 1.0  # for writers of a file that is replaced only if its content is the expected one


class Folder(Mount):
    """The files below a host folder, unchanged. This class depends on neither indexes nor the kernel."""

    def __init__(
        self,
        root: str,
        *,
        writable: bool,
        hidden: frozenset[tuple[str, ...]] = frozenset(),
        versioned: bool = False,
        guarded: bool = False,
    ) -> None:
        """Show the folder `root`. `guarded`: the kernel writes to no file of it without a request (FUSE passthrough)."""
        self._versioned = versioned
        self._is_guarded = guarded
        self._root = root
        self._hidden = hidden
        self._writable = writable

    def backing(self, path: Path) -> Backing:
        """Return the host path of a path; every path of this mount has one."""
        return Backing(self._root, path, self._writable, self._hidden, self._versioned)

    async def stat(self, path: Path) -> Entry:
        """Return the host's stat; links are not followed."""
        return await blocking(self._stat, path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return every entry of the directory, sorted by name."""
        return await blocking(self._list, path)

    async def read(self, path: Path) -> bytes:
        """Return the content of the file."""
        return await blocking(self._read, path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return the host's `user.*` attributes; links have none."""
        return await blocking(self._metadata, path)

    async def apply(self, change: Change) -> None:
        """Change the host folder; a Put is written to a temporary file and renamed over the target."""
        if not self._writable:
            raise read_only(change.path)
        with trio.CancelScope(shield=True):  # a change is complete or absent, never partial
            await blocking(self._apply, change)

    def _stat(self, path: Path) -> Entry:
        with self._open_parent(path) as (parent, name):
            return _stat_entry(path.name, parent, name)

    def _list(self, path: Path) -> Sequence[Entry]:
        self._check_shown(path)
        try:
            directory = rooted_fs.open_directory(self._root, path.parts)
        except OSError as error:
            raise path_error(error.errno or errno.EIO, path) from error
        try:
            entries = []
            for name in sorted(os.listdir(f"/proc/self/fd/{directory}/")):
                if (*path.parts, name) in self._hidden:
                    continue
                try:
                    entries.append(_stat_entry(name, directory, name))
                except FileNotFoundError:
                    continue  # it was deleted between the listing and the stat
            return entries
        except OSError as error:
            raise path_error(error.errno or errno.EIO, path) from error
        finally:
            os.close(directory)

    def _read(self, path: Path) -> bytes:
        if not path.parts:
            raise path_error(errno.EISDIR, path)
        self._check_shown(path)
        try:
            return rooted_fs.read_file(self._root, path.parts)
        except OSError as error:
            raise path_error(error.errno or errno.EIO, path) from error

    def _metadata(self, path: Path) -> Mapping[str, bytes]:
        with self._open_parent(path) as (parent, name):
            return rooted_fs.read_xattrs(rooted_fs.magic_path(parent, name))

    def _apply(self, change: Change) -> None:
        match change:
            case Put():
                self._put(change)
            case Append(path):
                raise not_permitted(path, "files here are written whole")
            case MakeDir(path):
                with self._open_parent(path) as (parent, name):
                    os.mkdir(name, 0o755, dir_fd=parent)
            case Remove(path):
                with self._open_parent(path) as (parent, name):
                    frozen_files.check_changeable(rooted_fs.magic_path(parent, name), path)
                    mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
                    (os.rmdir if stat.S_ISDIR(mode) else os.unlink)(name, dir_fd=parent)
            case Move(path, to):
                with self._open_parent(path) as (parent, name), self._open_parent(to) as (target_parent, new):
                    frozen_files.check_movable(parent, name, path)
                    replaced = rooted_fs.magic_path(target_parent, new)
                    frozen_files.check_changeable(replaced, to)
                    frozen_files.keep_retired_state(replaced, rooted_fs.magic_path(parent, name))
                    os.rename(name, new, src_dir_fd=parent, dst_dir_fd=target_parent)
            case SetMeta(path, key, value):
                with self._open_parent(path) as (parent, name):
                    self._set_attribute(parent, name, path, key, value)
            case _:
                assert_never(change)

    def _set_attribute(self, parent: int, name: str, path: Path, key: str, value: bytes | None) -> None:
        """Set or remove an attribute. Of a frozen file only its state changes."""
        host_path = rooted_fs.magic_path(parent, name)
        if key in STATE_ATTRIBUTES:
            frozen_files.set_state(host_path, path, key, value, is_guarded=self._is_guarded)
            return
        frozen_files.check_changeable(host_path, path)
        if value is None:
            os.removexattr(host_path, key, follow_symlinks=False)
        else:
            os.setxattr(host_path, key, value, follow_symlinks=False)

    def _put(self, change: Put) -> None:
        path = change.path
        with self._open_parent(path) as (parent, name):
            try:
                old = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISDIR(old.st_mode):
                    raise path_error(errno.EISDIR, path)
                frozen_files.check_changeable(rooted_fs.magic_path(parent, name), path)
                mode, attributes = 0o644, {}
                if stat.S_ISREG(old.st_mode):
                    mode, attributes = (
                        stat.S_IMODE(old.st_mode),
                        rooted_fs.read_xattrs(rooted_fs.magic_path(parent, name)),
                    )
            except FileNotFoundError:
                mode, attributes = 0o644, {}
            temporary = rooted_fs.temporary_name()
            fd = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
            )
            try:
                with open(fd, "wb") as file:
                    file.write(change.data)
                    file.flush()
                    os.fchmod(file.fileno(), mode)
                    for attribute, value in {**attributes, **change.attributes}.items():
                        os.setxattr(file.fileno(), attribute, value)
                    os.fsync(file.fileno())
                # Again, because a person may have frozen it during the fsync.
                frozen_files.check_changeable(rooted_fs.magic_path(parent, name), path)
                if change.expects:
                    _replace_expected(parent, name, temporary, change)
                else:
                    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=parent)
                raise

    def _check_shown(self, path: Path) -> None:
        if self._hidden and any(path.parts[: depth + 1] in self._hidden for depth in range(len(path.parts))):
            raise path_error(errno.ENOENT, path)

    def _open_parent(self, path: Path) -> "_ParentDirectory":
        self._check_shown(path)
        return _ParentDirectory(self._root, path)


def _replace_expected(parent: int, name: str, temporary: bytes, change: Put) -> None:
    """Replace the expected content while writers are blocked.

    Raise ESTALE or EEXIST if the content is another one, EBUSY if it stays open for writing.
    """

    def is_same(fd: int, size: int) -> bool:
        digest, offset = hashlib.sha256(), 0
        while piece := os.pread(fd, min(_PIECE_BYTES, size - offset), offset):
            digest.update(piece)
            offset += len(piece)
        return digest.hexdigest().startswith(change.expects)

    expected = None if change.expects == ABSENT else is_same
    left = compare_and_swap(parent, os.fsencode(name), temporary, expected, WriterTimeout(_WAIT_SECONDS))
    if left is UnchangedReason.OPEN:
        raise path_error(errno.EBUSY, change.path, "it is open for writing: try again when its writer has closed it")
    if left is not None:
        raise path_error(errno.EEXIST if expected is None else errno.ESTALE, change.path)


class _ParentDirectory:
    """A context manager around `directory_of` whose OSErrors name the path of the tree, not the host's descriptor."""

    def __init__(self, root: str, path: Path) -> None:
        self._path = path
        self._manager = rooted_fs.directory_of(root, path.parts)

    def __enter__(self) -> tuple[int, str]:
        try:
            return self._manager.__enter__()
        except OSError as error:
            raise path_error(error.errno or errno.EIO, self._path) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._manager.__exit__(None, None, None)
        if isinstance(error, OSError) and not isinstance(error, frozen_files.FrozenFile):
            raise path_error(error.errno or errno.EIO, self._path) from error


def _stat_entry(shown_name: str, directory: int, name: str) -> Entry:
    file_stat = os.stat(name, dir_fd=directory, follow_symlinks=False)
    kind = kind_of(file_stat.st_mode)
    return Entry(
        name=shown_name,
        kind=kind,
        version=f"{file_stat.st_mtime_ns:x}-{file_stat.st_size:x}-{file_stat.st_ino:x}",
        size=file_stat.st_size,
        mtime_ns=mtime_ns_of(file_stat),
        mode=stat.S_IMODE(file_stat.st_mode),
        target=os.readlink(name, dir_fd=directory) if kind == "link" else "",
    )
