"""Bundles on disk, as a directory or an uncompressed tar file: writing, and reading with checks.

A bundle has `memcube.json`, `memcube.json.sig` if it is signed, and the files of its header below `files/`. With the
history it also has `history.jsonl`, a JSON object for each version, whose hash is in the header, and after it the contents
of these versions below `versions/`.
In a tar file the header comes first, so that the size and the hash of each later member are known before it is read.
A link, a device, another member, a wrong size or hash, and an early end are errors of the whole bundle.
"""

import errno
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path as HostPath
from typing import IO, BinaryIO, Protocol

from ctxfs.bundles.header import (
    CONTENT_FOLDER,
    HEADER_NAME,
    MAX_FILES,
    MAX_HEADER_BYTES,
    MAX_SIGNATURE_BYTES,
    SIGNATURE_NAME,
    BundleEntry,
    Header,
    parse_header,
    printable_name,
)
from ctxfs.model.errors import invalid
from ctxfs.model.path import encode_name, printable

HISTORY_NAME = "history.jsonl"
VERSION_FOLDER = "versions"
CHUNK_BYTES = 1 << 20
_MAX_META_BYTES = 1 << 20  # of one header of a tar member
_MAX_VERSION_BYTES = 1 << 16  # of a line of the history
_EXTRA_NAMES = (HISTORY_NAME, SIGNATURE_NAME)

# number of the file in the header, content in order → None
Receive = Callable[[int, bytes], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """The checked header of a bundle, its bytes, its signature (empty without), and whether it has a history."""

    header: Header
    data: bytes
    signature: bytes = b""
    has_history: bool = False


class BundleWriter(Protocol):
    """A bundle that is being written."""

    def add(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file of the bundle, by its path in the bundle."""
        ...


class DirectoryWriter:
    """Writes a bundle as a directory, which must not exist or be empty."""

    def __init__(self, folder: HostPath) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OSError(errno.ENOTEMPTY, "the directory has files: name a new one", str(folder))

    def add(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Implement `BundleWriter.add`."""
        path = self._folder / os.fsdecode(encode_name(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)


class TarWriter:
    """Writes a bundle as a tar file without times and owners, so that equal bundles have equal bytes."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Implement `BundleWriter.add`."""
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), mode
        self._tar.addfile(member, io.BytesIO(data))


def open_tar(file: BinaryIO) -> tarfile.TarFile:
    """Return a tar file to write to."""
    return tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape")


def read_bundle(path: HostPath, begin: Callable[[Opened], Receive]) -> Opened:
    """Read a bundle to its end and check it; `begin` gets the header and returns the receiver of the contents.

    Raise OSError: EINVAL for a bundle that is damaged or hostile, ENOENT and others as the host does.
    """
    members = _directory_members(path) if path.is_dir() else _tar_members(path)
    name, header_bytes = next(_with_data(members, {HEADER_NAME: MAX_HEADER_BYTES}), ("", b""))
    if name != HEADER_NAME:
        raise _fault(path, f"it does not begin with {HEADER_NAME}")
    header = parse_header(header_bytes)
    numbers = {f"{CONTENT_FOLDER}/{entry.path}": number for number, entry in enumerate(header.files)}
    signature, receive = b"", None
    history = _HistoryReader(path, header.history_sha256)
    missing = set(numbers.values())
    for name, size, chunks in members:
        if name == SIGNATURE_NAME and receive is None and not signature:
            signature = _limited(chunks, size, MAX_SIGNATURE_BYTES, path)
            continue
        receive = receive or begin(Opened(header, header_bytes, signature))
        if name == HISTORY_NAME:
            history.read_list(chunks)
            continue
        if name.startswith(f"{VERSION_FOLDER}/"):
            history.read_content(name, chunks)
            continue
        number = numbers.get(name, -1)
        if number not in missing:
            raise _fault(path, f"'{printable_name(printable(name))}' is not in its header, or is in it twice")
        entry = header.files[number]
        _copy(chunks, size, entry, partial(receive, number), path)
        missing.discard(number)
    opened = Opened(header, header_bytes, signature, history.is_complete)
    if receive is None:
        begin(opened)
    history.check_end()
    if missing:
        lost = header.files[min(missing)].path
        raise _fault(path, f"it ends early: '{printable(str(lost))}' is missing")
    return opened


Member = tuple[str, int, Iterator[bytes]]  # name, size in bytes, content in order


def _with_data(members: Iterator[Member], limits: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    for name, size, chunks in members:
        yield name, _limited(chunks, size, limits.get(name, 0), HostPath(name)) if name in limits else b""


def _limited(chunks: Iterable[bytes], size: int, limit: int, path: HostPath) -> bytes:
    if size > limit:
        raise _fault(path, f"a part has {size} bytes, over the limit of {limit}")
    return b"".join(chunks)


def _copy(
    chunks: Iterable[bytes], size: int, entry: BundleEntry, receive: Callable[[bytes], None], path: HostPath
) -> None:
    """Pass on the content of a file, and check its size and its hash."""
    shown = printable_name(printable(str(entry.path)))
    if size != entry.size:
        raise _fault(path, f"'{shown}' has {size} bytes and not the {entry.size} of its header")
    digest, count = hashlib.sha256(), 0
    for data in chunks:
        digest.update(data)
        count += len(data)
        receive(data)
    if count != entry.size or digest.hexdigest() != entry.sha256:
        raise _fault(path, f"'{shown}' does not have the hash of its header")
    if not entry.size:
        receive(b"")


class _HistoryReader:
    """Checks the list of earlier versions against the hash in the header, and their contents against the list."""

    def __init__(self, path: HostPath, sha256: str) -> None:
        self._path = path
        self._sha256 = sha256
        self._missing: set[bytes] | None = None  # the digests of contents that have not come yet; None before the list

    @property
    def is_complete(self) -> bool:
        """True once the list and all of its contents have been read."""
        return self._missing == set()

    def read_list(self, chunks: Iterable[bytes]) -> None:
        """Read `history.jsonl`. Raise OSError EINVAL unless it is the one that the header names."""
        if not self._sha256 or self._missing is not None:
            raise _fault(self._path, f"{HISTORY_NAME} is not in its header, or is in it twice")
        digest, rest, self._missing = hashlib.sha256(), b"", set()
        for data in chunks:
            digest.update(data)
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _MAX_VERSION_BYTES:
                raise _fault(self._path, f"a line of {HISTORY_NAME} is too long")
            self._missing.update(filter(None, map(self._content_of, lines)))
            if len(self._missing) > MAX_FILES:
                raise _fault(self._path, f"it has more than {MAX_FILES} earlier contents")
        if rest or digest.hexdigest() != self._sha256:
            raise _fault(self._path, f"{HISTORY_NAME} does not have the hash of its header")

    def _content_of(self, line: bytes) -> bytes:
        """Return the digest of the content of a version; empty for a version that removed the file."""
        try:
            digest = bytes.fromhex(json.loads(line).get("sha256", ""))
        except (ValueError, TypeError, AttributeError, RecursionError):
            digest = b"?"
        if len(digest) not in (0, hashlib.sha256().digest_size):
            raise _fault(self._path, f"a line of {HISTORY_NAME} is no version")
        return digest

    def read_content(self, name: str, chunks: Iterable[bytes]) -> None:
        """Read a content of an earlier version. Raise OSError EINVAL for a damaged one, or one that no version has."""
        digest = hashlib.sha256()
        for data in chunks:
            digest.update(data)
        shown = printable_name(printable(name))
        if name != f"{VERSION_FOLDER}/{digest.hexdigest()}":
            raise _fault(self._path, f"'{shown}' does not have the hash of its name")
        if digest.digest() not in (self._missing or ()):
            raise _fault(self._path, f"'{shown}' is of no version of {HISTORY_NAME}, or is in it twice")
        assert self._missing is not None
        self._missing.discard(digest.digest())

    def check_end(self) -> None:
        """Raise OSError EINVAL if the list, or a content of it, has not come."""
        if self._sha256 and not self.is_complete:
            missing = HISTORY_NAME if self._missing is None else f"{VERSION_FOLDER}/{min(self._missing).hex()}"
            raise _fault(self._path, f"it ends early: '{missing}' is missing")


def _tar_members(path: HostPath) -> Iterator[Member]:
    """Yield the members of a tar file. Each content must be read before the next member."""
    with open(path, "rb") as file:
        try:
            with tarfile.open(
                fileobj=_BoundedReads(file), mode="r:", encoding="utf-8", errors="surrogateescape"
            ) as tar:
                end = 0
                for member in tar:
                    tar.members = []  # type: ignore[attr-defined]  # else every member stays in memory
                    if member.isdir():
                        continue
                    if not member.isreg() or member.issparse():
                        raise _fault(path, f"'{printable_name(printable(member.name))}' is a link or a device, no file")
                    content = tar.extractfile(member)
                    assert content is not None
                    yield member.name, member.size, _read_content(content, path)
                    end = member.offset_data + member.size
                if end > os.fstat(file.fileno()).st_size:
                    raise _fault(path, "it ends early")
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise _fault(path, f"it is no sound tar file: {str(error)[:200]}") from error


def _read_content(content: IO[bytes], path: HostPath) -> Iterator[bytes]:
    try:
        while data := content.read(CHUNK_BYTES):
            yield data
    except tarfile.TarError as error:
        raise _fault(path, f"it ends early: {error}") from error


class _BoundedReads(io.RawIOBase):
    """A file whose single reads are limited, because tarfile reads the headers of a member at once."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes; raise OSError EINVAL for too many."""
        if not 0 <= size <= max(CHUNK_BYTES, _MAX_META_BYTES):
            raise invalid("tar", f"the bundle is refused: a header of a member has {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position and return it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()


def _directory_members(folder: HostPath) -> Iterator[Member]:
    """Yield the files of a bundle that is a directory, the header first. No link is followed."""
    names = [HEADER_NAME, SIGNATURE_NAME] if os.path.lexists(folder / SIGNATURE_NAME) else [HEADER_NAME]
    for name in (*names, *(name for name in _walk_names(folder) if name not in names)):
        with _open_member(folder, name) as file:
            yield name, os.fstat(file.fileno()).st_size, iter(partial(file.read, CHUNK_BYTES), b"")


def _walk_names(folder: HostPath) -> Iterator[str]:
    pending = [""]
    while pending:
        below = pending.pop()
        for entry in sorted(os.scandir(folder / below), key=lambda entry: entry.name):
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                pending.append(name)
            else:
                yield name


def _open_member(folder: HostPath, name: str) -> BinaryIO:
    """Open a regular file; raise OSError EINVAL for a link, a device or a fifo."""
    try:
        fd = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        fd = -1
    if fd < 0 or not stat.S_ISREG(os.fstat(fd).st_mode):
        if fd >= 0:
            os.close(fd)
        raise _fault(folder, f"'{printable_name(printable(name))}' is a link or a device, no file")
    return open(fd, "rb")


def _fault(path: HostPath, text: str) -> OSError:
    return invalid(path, text if text.startswith("the bundle") else f"the bundle is refused: {text}")
