"""The shared log in an object storage: S3, or a program with its protocol.

Below `PREFIX/STORE/`, `entries/000000000001` is entry 1: an object that is created once. `contents/<sha256>` is the first
piece of a content, written after the further pieces `contents/<sha256>.00001`. `leases/NAME` holds the token of the
holder, or nothing. `format` holds the format's number, `clock` is written to learn the engine's time. Nothing is listed,
and only an erasure deletes.

The storage has to honour `If-None-Match: *` and `If-Match`, and to read its own writes. Measured with SeaweedFS 4.48: of
16 clients that wrote one key at once, exactly one succeeded, in 100 of 100 rounds with the first condition and in 12 of 12
with the second. The losers wait for a second each time they meet the lock of the key, and some for more than
`ANSWER_SECONDS`. So a waiting node reads the lease, which takes no lock, and writes it only if it is free.
"""

import contextlib
import errno
import hashlib
import random
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from ctxfs.model.errors import path_error
from ctxfs.shared.entries import FORMAT, MAX_ENTRY_BYTES, decode_entry, encode_entry
from ctxfs.shared.log import (
    LEASE_WAIT_SECONDS,
    TURN_SECONDS,
    Entry,
    Head,
    LogRefused,
    Unreachable,
    damaged,
    missing_content,
    turn_lost,
)
from ctxfs.shared.object_storage import Bucket, Stored, parse_address
from ctxfs.shared.stripping import erase_entries

_BATCH_ENTRIES = 100
_PIECE_BYTES = 1_000_000  # of a content: a request, with its deadline
_MAX_BATCH_BYTES = 16_000_000
_PARALLEL_READS = 16
_MAX_FORMAT_BYTES = 100
_FREE = b"free"
_MIN_LEASE_PAUSE_SECONDS = 0.01
_MAX_LEASE_PAUSE_SECONDS = 0.2
_MIN_LOOK_SECONDS = 0.1
_MAX_LOOK_SECONDS = 1.0


class S3Log:
    """The log of one store in a bucket."""

    def __init__(
        self,
        url: str,
        store: str,
        secret: str = "",
        *,
        create: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket = Bucket(parse_address(url), secret)
        self._root = f"{store}/"
        self._pause = pause
        self._newest = Head(0, "")
        self._newest_etag = ""
        self._lease: _Lease | None = None
        self._look_seconds = _MIN_LOOK_SECONDS  # longer, the longer nothing has come
        self._looked = 0.0
        if create:
            with contextlib.suppress(FileExistsError):
                self._bucket.create(f"{self._root}format", str(FORMAT).encode())
        self._check_format(url, store)

    def _check_format(self, url: str, store: str) -> None:
        stored = self._bucket.read(f"{self._root}format", _MAX_FORMAT_BYTES)
        if stored is None:
            cause = f"the bucket holds no shared store '{store}' below this prefix"
            raise LogRefused(cause, f"begin one on the first machine: ctxfs share '{url}'")
        text = stored.data.decode("ascii", "replace").strip()
        if text != str(FORMAT):
            cause = f"the shared store '{store}' has format '{text}', and this ctxfs reads {FORMAT}"
            raise LogRefused(cause, "use the newer ctxfs")

    def head(self) -> Head:
        """Return the newest entry's number and commit."""
        number = self._newest.number
        if number:
            stored = self._bucket.find(self._entry_key(number))
            if stored is None or stored.etag != self._newest_etag:
                number = 0  # the log was rewound, or replaced
        newest = self._find_newest(number)
        if newest == 0:
            self._newest, self._newest_etag = Head(0, ""), ""
        elif newest != self._newest.number or number == 0:
            stored = self._read_entry(newest)
            self._newest = Head(newest, decode_entry(stored.data, newest, stored.time_ns).head)
            self._newest_etag = stored.etag
        return self._newest

    def _find_newest(self, number: int) -> int:
        """Return the highest number of an entry, at least `number`. Entries have no gaps: it is a binary search."""
        step = 1
        while self._has_entry(number + step):
            number += step
            step *= 2
        while step > 1:
            step //= 2
            if self._has_entry(number + step):
                number += step
        return number

    def append(self, entry: Entry) -> int:
        """Append an entry. See `SharedLog.append`."""
        data = encode_entry(entry)
        newest = self.head()
        if (entry.number, entry.previous) != (newest.number + 1, newest.commit):
            raise turn_lost(f"entry {newest.number} is the newest, not {entry.number - 1}")
        key = self._entry_key(entry.number)
        try:
            etag = self._bucket.create(key, data)
        except FileExistsError as error:
            raise turn_lost(f"entry {entry.number} exists") from error
        self._newest, self._newest_etag = Head(entry.number, entry.head), etag
        self._end_lease()
        stored = self._bucket.find(key)
        if stored is None:
            raise turn_lost(f"entry {entry.number} has disappeared")
        return stored.time_ns

    def entries(self, after: int, limit: int) -> list[Entry]:
        """Return entries with higher numbers. See `SharedLog.entries`."""
        end = min(self.head().number, after + limit)
        batch, size = list[Entry](), 0
        with ThreadPoolExecutor(_PARALLEL_READS, "ctxfs-entries") as executor:
            while after < end and size <= _MAX_BATCH_BYTES:
                numbers = range(after + 1, min(end, after + _PARALLEL_READS) + 1)
                reads = executor.map(self._read_entry, numbers) if len(numbers) > 1 else map(self._read_entry, numbers)
                for number, stored in zip(numbers, reads, strict=True):
                    batch.append(decode_entry(stored.data, number, stored.time_ns))
                    size += len(stored.data)
                after = numbers[-1]
        return batch

    def wait(self, after: int, seconds: float) -> bool:
        """Return True as soon as an entry with a higher number exists, False after `seconds`.

        A look is a request. The pause before the next one grows to a second while nothing comes.
        """
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            self._pause(max(0.0, min(self._looked + self._look_seconds, end) - now))
            self._looked = time.monotonic()
            if self._has_entry(after + 1):
                self._look_seconds = _MIN_LOOK_SECONDS
                return True
            self._look_seconds = min(2 * self._look_seconds, _MAX_LOOK_SECONDS)
            if self._looked >= end:
                return False

    def put(self, sha256: str, source: BinaryIO) -> None:
        """Store a content under its hash, unless the engine has it. Its first piece is written last."""
        key = self._content_key(sha256)
        if self._bucket.find(key) is not None:
            return
        first, piece = _read_piece(source), 0
        last = first
        while len(last) == _PIECE_BYTES and (last := _read_piece(source)):
            piece += 1
            self._bucket.write(f"{key}.{piece:05d}", last)
        self._bucket.write(key, first)

    def get(self, sha256: str, target: BinaryIO, max_bytes: int) -> None:
        """Write a content to `target`. See `SharedLog.get`."""
        key = self._content_key(sha256)
        digest, size, piece = hashlib.sha256(), 0, 0
        while True:
            stored = self._read_piece(f"{key}.{piece:05d}" if piece else key, sha256)
            if stored is None and not piece:
                raise missing_content(sha256)
            if stored is None:
                break
            size += len(stored.data)
            if size > max_bytes:
                raise path_error(errno.EFBIG, sha256, f"a content of more than {max_bytes} bytes is refused")
            digest.update(stored.data)
            target.write(stored.data)
            piece += 1
            if len(stored.data) < _PIECE_BYTES:
                break
        if digest.hexdigest() != sha256:
            raise path_error(errno.EIO, sha256, "a content of the shared store is damaged")

    def _read_piece(self, key: str, sha256: str) -> Stored | None:
        try:
            return self._bucket.read(key, _PIECE_BYTES)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            raise path_error(errno.EIO, sha256, "a content of the shared store is damaged") from error

    def erase(self, before: int, contents: Collection[str]) -> None:
        """Remove objects from the log, and contents. See `SharedLog.erase`. The time of such an entry changes."""
        erase_entries(lambda after: self.entries(after, _BATCH_ENTRIES), before, self._replace, self._delete)
        for sha256 in contents:
            self._delete(sha256)

    def _replace(self, entry: Entry) -> None:
        self._bucket.write(self._entry_key(entry.number), encode_entry(entry))

    def _delete(self, sha256: str) -> None:
        """Delete a content, the first piece first: without it the engine does not have the content."""
        key, piece = self._content_key(sha256), 0
        self._bucket.delete(key)
        while self._bucket.find(f"{key}.{(piece := piece + 1):05d}") is not None:
            self._bucket.delete(f"{key}.{piece:05d}")

    @contextlib.contextmanager
    def lease(self, name: str, seconds: float = TURN_SECONDS) -> Iterator[None]:
        """Hold a lease. See `SharedLog.lease`.

        A lease that another instance has held for `seconds`, by the clock of the waiting process, is taken from it.
        """
        self._lease = self._take_lease(f"{self._root}leases/{name}", seconds)
        try:
            yield
        finally:
            self._end_lease()

    def _take_lease(self, key: str, seconds: float) -> "_Lease":
        token = secrets.token_hex(16).encode()
        started, pause = time.monotonic(), _MIN_LEASE_PAUSE_SECONDS
        holder, seen = "", started
        while True:
            stored, now = self._bucket.read(key, _MAX_FORMAT_BYTES), time.monotonic()
            if stored is not None and stored.data == token:
                return _Lease(key, stored.etag, now + seconds)  # written by a request without an answer
            if stored is not None and stored.etag != holder:
                holder, seen = stored.etag, now
            if stored is None or stored.data == _FREE or now - seen > seconds:
                with contextlib.suppress(FileExistsError, Unreachable):
                    etag = self._bucket.replace(key, token, stored.etag) if stored else self._bucket.create(key, token)
                    return _Lease(key, etag, time.monotonic() + seconds)
            if now - started > LEASE_WAIT_SECONDS:
                raise turn_lost(f"others have held the lease '{key}' for {LEASE_WAIT_SECONDS:.0f} s")
            self._pause(pause * random.uniform(0.5, 1.5))  # noqa: S311 — so that waiting nodes do not meet again
            pause = min(1.5 * pause, _MAX_LEASE_PAUSE_SECONDS)

    def _end_lease(self) -> None:
        """Give the lease back, unless it was taken from this instance."""
        held, self._lease = self._lease, None
        if held is not None:
            with contextlib.suppress(FileExistsError):
                self._bucket.replace(held.key, _FREE, held.etag)

    def now(self) -> int:
        """Return the engine's time in nanoseconds, of whole seconds."""
        key = f"{self._root}clock"
        self._bucket.write(key, b"")
        stored = self._bucket.find(key)
        if stored is None:
            raise LogRefused("the object storage does not read its own writes", "use a consistent one")
        return stored.time_ns

    def close(self) -> None:
        """Do nothing: connections end by themselves."""

    # internals

    def _entry_key(self, number: int) -> str:
        return f"{self._root}entries/{number:012d}"

    def _content_key(self, sha256: str) -> str:
        return f"{self._root}contents/{sha256}"

    def _has_entry(self, number: int) -> bool:
        return self._bucket.find(self._entry_key(number)) is not None

    def _read_entry(self, number: int) -> Stored:
        try:
            stored = self._bucket.read(self._entry_key(number), MAX_ENTRY_BYTES)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            raise damaged(number, f"it has more than {MAX_ENTRY_BYTES} bytes") from error
        if stored is None:
            raise damaged(number, "it is missing")
        return stored


class _Lease:
    """A lease that is held: its object, the ETag that this instance has written, and the end by its own clock."""

    __slots__ = ("end", "etag", "key")

    def __init__(self, key: str, etag: str, end: float) -> None:
        self.key, self.etag, self.end = key, etag, end


def _read_piece(source: BinaryIO) -> bytes:
    """Return the next piece: as long as a piece can be, or the rest."""
    pieces, size = list[bytes](), 0
    while size < _PIECE_BYTES and (data := source.read(_PIECE_BYTES - size)):
        pieces.append(data)
        size += len(data)
    return b"".join(pieces)
