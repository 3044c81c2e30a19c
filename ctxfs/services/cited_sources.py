"""The sources of citations as token streams, for the calling principal; cached by the identity of their files."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ctxfs.eventlog.log import is_day
from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.extracted_text import format_to_extract
from ctxfs.index.extract.extractor import ExtractorUnavailable
from ctxfs.index.extract.formats import UnreadableFile
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.index.extract.text_formats import is_text_itself
from ctxfs.model.errors import path_error
from ctxfs.model.mount import Backing, Mount
from ctxfs.model.path import Path, printable
from ctxfs.services.caller_scope import CallerScope
from ctxfs.store import rooted_fs
from ctxfs.vfs.access_control import QUARANTINED, WITHHELD

if TYPE_CHECKING:
    from ctxfs.memory.token_stream import TokenStream  # imports numpy: a daemon mounts first

MAX_SOURCE_BYTES = 4_000_000
_MAX_CACHE_BYTES = 64_000_000
_RECORD_DEPTH = 3  # history/<day>/<session>.jsonl
_ABSENT_ERRNOS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO)

Extract = Callable[[str, bytes], Sequence[Chunk]]


class BranchFiles(Protocol):
    """The files of the branch that the caller works in."""

    def read(self, path: Path) -> tuple[bytes, Mapping[str, bytes]] | None:
        """Return content and attributes of a file in the branch; None if the path is that of main."""
        ...


class FileIdentity(NamedTuple):
    """The numbers by which a change of a file is detected. `touch` changes them, too: then the text is read again."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class CitedSource:
    """The present text of a source, and its inode."""

    stream: TokenStream
    inode: int


class CitedSources:
    """Reads sources below folders of the host. All methods block, and check that the calling principal may read."""

    def __init__(
        self, tree: Mount, history: str, scope: CallerScope, extract: Extract, branch_files: BranchFiles
    ) -> None:
        """Take the tree without access control, because the scope decides, and the host folder of the event log."""
        self._branch_files = branch_files
        self._tree = tree
        self._history = history
        self._scope = scope
        self._extract = extract
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, tuple[FileIdentity, TokenStream]] = OrderedDict()
        self._cached_bytes = 0
        self.read_bytes = 0  # of texts that were not in the cache

    def open(self, path: Path, changed_since_ns: int = 0, max_read_bytes: int = MAX_SOURCE_BYTES) -> CitedSource:
        """Return the text of a source.

        Raise OSError: EACCES if the calling principal may not read it, ENOENT if there is no such file, or none that
        changed since that time, EINVAL if it is no text, or a path whose reading has effects, EFBIG for more than
        `max_read_bytes` that are not in the cache.
        """
        with self._opened(path) as fd:
            stat = os.fstat(fd)
            if stat.st_ctime_ns < changed_since_ns:
                raise path_error(errno.ENOENT, path)
            return self._read(fd, stat, path, max_read_bytes)

    def read_lines(self, path: Path, first: int, last: int) -> str:
        """Return the text of lines of a source, without the cache. Raise OSError as `open` does."""
        with self._opened(path) as fd:
            self._check_quarantine(fd, path)
            data = os.pread(fd, MAX_SOURCE_BYTES, 0)
        return self.excerpt(data, path, first, last)

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[int]:
        """Return a descriptor of the host file of a path that the calling principal may read."""
        reader = self._scope.reader()
        if reader is not None and not reader.may_read(str(path)):
            raise path_error(errno.EACCES, path)
        if (in_branch := self._branch_files.read(path)) is not None:
            data, attributes = in_branch
            if attributes.get(QUARANTINED) == b"true" and reader is not None and not reader.sees_quarantined:
                raise path_error(errno.EACCES, path, WITHHELD)
            with _memory_file(data) as fd:
                yield fd
            return
        backing = self._backing(path)
        if backing is None:
            raise path_error(
                errno.EINVAL, path, "only files of sources, memory, pads, human/ and history/ can be cited"
            )
        if any(backing.relative.parts[:depth] in backing.hidden for depth in range(1, len(backing.relative.parts) + 1)):
            raise path_error(errno.ENOENT, path)
        try:
            fd = rooted_fs.open_file(backing.root, backing.relative.parts)
        except OSError as error:
            code = errno.ENOENT if error.errno in _ABSENT_ERRNOS else errno.EACCES
            raise path_error(error.errno if error.errno == errno.EISDIR else code, path) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def _backing(self, path: Path) -> Backing | None:
        """Return the host file of a path; None for files that are computed, or whose reading has effects."""
        if path.parts[:1] == ("history",):
            is_file = len(path.parts) == _RECORD_DEPTH and is_day(path.parts[1])
            return Backing(self._history, Path(path.parts[1:]), writable=False) if is_file else None
        return self._tree.backing(path) if path.parts[:1] != ("context",) else None

    def _read(self, fd: int, stat: os.stat_result, path: Path, max_read_bytes: int) -> CitedSource:
        identity = FileIdentity(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        self._check_quarantine(fd, path)
        key = str(path)
        with self._lock:
            cached = self._cache.get(key)
            if cached is not None and cached[0] == identity:
                self._cache.move_to_end(key)
                return CitedSource(cached[1], identity.inode)
        if min(stat.st_size, MAX_SOURCE_BYTES) > max_read_bytes:
            raise path_error(errno.EFBIG, path)
        data = os.pread(fd, MAX_SOURCE_BYTES, 0)
        self.read_bytes += len(data)
        stream = self.parse(data, path, is_partial=stat.st_size > len(data))
        self._store(key, identity, stream)
        return CitedSource(stream, identity.inode)

    def _check_quarantine(self, fd: int, path: Path) -> None:
        """Raise EACCES for a file that a person has set apart, and for a copy of its text, unless the caller sees it."""
        reader = self._scope.reader()
        if reader is None or reader.sees_quarantined:
            return
        attributes = rooted_fs.read_xattrs(fd)
        is_withheld = attributes.get(QUARANTINED) == b"true" or self._scope.is_withheld(path)
        if is_withheld or (
            self._scope.has_quarantine() and self._scope.is_withheld(path, os.pread(fd, MAX_SOURCE_BYTES, 0))
        ):
            raise path_error(errno.EACCES, path, WITHHELD)

    def parse(self, data: bytes, path: Path, *, is_partial: bool = False) -> TokenStream:
        """Return the tokens of a content, or of the head of one. Raise OSError EINVAL if it is no text."""
        from ctxfs.memory.token_stream import TokenStream

        lines, is_partial = self._split(data, path, is_partial)
        return TokenStream(lines, is_partial=is_partial)

    def excerpt(self, data: bytes, path: Path, first: int, last: int) -> str:
        """Return the text of lines of a content. Raise OSError EINVAL if it is no text."""
        lines, _ = self._split(data, path, len(data) == MAX_SOURCE_BYTES)
        return "\n".join(text for number, text in lines if first <= number <= last)

    def _split(self, data: bytes, path: Path, is_partial: bool) -> tuple[Iterable[tuple[int, str]], bool]:
        """Return (number, text) of the lines of a content, and whether a part of its text is missing."""
        name = printable(path.name)
        if (file_format := format_to_extract(name, data)) and not is_text_itself(file_format):
            if is_partial:
                return (), True
            try:
                return [(chunk.first, chunk.text) for chunk in self._extract(name, data)], False
            except (UnreadableFile, ExtractorUnavailable):
                return (), True
        if is_partial:
            data = data[: data.rfind(b"\n") + 1]
        text = read_text(data)
        if text is None:
            raise path_error(errno.EINVAL, path, "it is binary: only text can be cited")
        return enumerate(text.split("\n"), 1), is_partial

    def _store(self, key: str, identity: FileIdentity, stream: TokenStream) -> None:
        with self._lock:
            if key in self._cache:
                self._cached_bytes -= self._cache.pop(key)[1].memory_bytes
            self._cache[key] = identity, stream
            self._cached_bytes += stream.memory_bytes
            while self._cached_bytes > _MAX_CACHE_BYTES and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1][1].memory_bytes

    def forget(self) -> None:
        """Drop all cached texts, after an erasure."""
        with self._lock:
            self._cache.clear()
            self._cached_bytes = 0


@contextlib.contextmanager
def _memory_file(data: bytes) -> Iterator[int]:
    """Yield a descriptor of a file in memory with the head of this content."""
    fd = os.memfd_create("branch", os.MFD_CLOEXEC)
    try:
        os.pwrite(fd, data[:MAX_SOURCE_BYTES], 0)
        yield fd
    finally:
        os.close(fd)
