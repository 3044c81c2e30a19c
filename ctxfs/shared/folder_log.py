"""The shared log in a folder, for tests and for a network file system. It needs no locks of the file system.

`<folder>/<store>/entries/000/000000000001` is entry 1: written under another name, then linked, which fails if the name
exists. `contents/ab/<sha256>` are contents, `leases/<name>` the lease that is held, `format` the format's number. The
engine's time is the time that the file system gives to files.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path as HostPath
from typing import BinaryIO

from ctxfs.model.errors import path_error
from ctxfs.shared.entries import FORMAT, MAX_ENTRY_BYTES, decode_entry, encode_entry
from ctxfs.shared.log import (
    LEASE_WAIT_SECONDS,
    TURN_SECONDS,
    Entry,
    Head,
    LogDamaged,
    LogRefused,
    TurnLost,
    Unreachable,
    damaged,
    missing_content,
    turn_lost,
    unreachable,
)
from ctxfs.shared.stripping import erase_entries
from ctxfs.store.durable_file import sync_folder
from ctxfs.store.rooted_fs import read_path

_ENTRIES_PER_FOLDER = 1000
_BATCH_ENTRIES = 100
_MAX_BATCH_BYTES = 16_000_000
_MAX_FORMAT_BYTES = 100
_MIN_PAUSE_SECONDS = 0.002
_MAX_PAUSE_SECONDS = 0.05
_WAIT_PAUSE_SECONDS = 0.05
_STORAGE_ERRNOS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class FolderLog:
    """The log of one store in a folder."""

    def __init__(
        self, folder: HostPath, store: str, *, create: bool = False, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._url = str(folder)
        self._folder = folder / store
        self._pause = pause
        self._newest = Head(0, "")
        self._lease: tuple[HostPath, bytes] | None = None
        with self._translated():
            if create:
                self._create(folder)
        self._check_format(store)

    def _create(self, folder: HostPath) -> None:
        if not folder.is_dir():
            raise LogRefused(f"'{folder}' is not a folder", "name a folder that all machines share")
        for name in ("entries", "contents", "leases", "tmp"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self._link(self._folder / "format", str(FORMAT).encode())

    def _check_format(self, store: str) -> None:
        try:
            text = read_path(self._folder / "format", _MAX_FORMAT_BYTES).decode("ascii", "replace").strip()
        except OSError as error:
            cause = f"'{self._url}' holds no shared store '{store}'"
            raise LogRefused(cause, f"begin one on the first machine: ctxfs share {self._url}") from error
        if text != str(FORMAT):
            raise LogRefused(
                f"the shared store '{store}' has format '{text}', and this ctxfs reads {FORMAT}", "use the newer ctxfs"
            )

    def head(self) -> Head:
        """Return the newest entry's number and commit."""
        with self._translated():
            if not (self._folder / "format").exists():
                raise unreachable(self._url, "the folder of the store has disappeared")
            number = self._newest.number
            if number and not self._path(number).exists():
                number = self._scan()
            while self._path(number + 1).exists():
                number += 1
            if number != self._newest.number:
                self._newest = Head(number, self._read(number).head if number else "")
            return self._newest

    def _scan(self) -> int:
        """Return the highest number of an entry, after entries have disappeared."""
        self._newest = Head(0, "")
        numbers = [int(file.name) for file in (self._folder / "entries").glob("*/*") if file.name.isdigit()]
        return max(numbers, default=0)

    def append(self, entry: Entry) -> int:
        """Append an entry. See `SharedLog.append`."""
        data = encode_entry(entry)
        newest = self.head()
        if (entry.number, entry.previous) != (newest.number + 1, newest.commit):
            raise turn_lost(f"entry {newest.number} is the newest, not {entry.number - 1}")
        path = self._path(entry.number)
        with self._translated():
            path.parent.mkdir(exist_ok=True)
            try:
                self._link(path, data)
            except FileExistsError as error:
                raise turn_lost(f"entry {entry.number} exists") from error
            time_ns = path.stat().st_mtime_ns
        self._newest = Head(entry.number, entry.head)
        self._end_lease()
        return time_ns

    def entries(self, after: int, limit: int) -> list[Entry]:
        """Return entries with higher numbers. See `SharedLog.entries`."""
        newest, batch, size = self.head().number, list[Entry](), 0
        with self._translated():
            for number in range(after + 1, newest + 1):
                if len(batch) >= limit or size > _MAX_BATCH_BYTES:
                    break
                batch.append(self._read(number))
                size += len(batch[-1].objects)
        return batch

    def wait(self, after: int, seconds: float) -> bool:
        """Return True as soon as an entry with a higher number exists, False after `seconds`."""
        end = time.monotonic() + seconds
        while self.head().number <= after:
            if time.monotonic() >= end:
                return False
            self._pause(_WAIT_PAUSE_SECONDS)
        return True

    def put(self, sha256: str, source: BinaryIO) -> None:
        """Store a content under its hash, unless the folder has it."""
        target = self._content(sha256)
        if target.exists():
            return
        with self._translated():
            target.parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self._link(target, source)

    def get(self, sha256: str, target: BinaryIO, max_bytes: int) -> None:
        """Write a content to `target`. See `SharedLog.get`."""
        digest, size = hashlib.sha256(), 0
        try:
            source = self._content(sha256).open("rb")
        except FileNotFoundError as error:
            self.head()  # raises if the whole folder has disappeared
            raise missing_content(sha256) from error
        with source, self._translated():
            while piece := source.read(1 << 20):
                size += len(piece)
                if size > max_bytes:
                    raise path_error(errno.EFBIG, sha256, f"a content of more than {max_bytes} bytes is refused")
                digest.update(piece)
                target.write(piece)
        if digest.hexdigest() != sha256:
            raise path_error(errno.EIO, sha256, "a content of the shared store is damaged")

    def erase(self, before: int, contents: Collection[str]) -> None:
        """Remove objects from the log, and contents. See `SharedLog.erase`."""
        with self._translated():
            erase_entries(lambda after: self.entries(after, _BATCH_ENTRIES), before, self._replace, self._delete)
            for sha256 in contents:
                self._delete(sha256)

    def _replace(self, entry: Entry) -> None:
        path, temporary = self._path(entry.number), self._temporary()
        stat = path.stat()
        with temporary.open("xb") as file:
            file.write(encode_entry(entry))
            os.utime(file.fileno(), ns=(stat.st_mtime_ns, stat.st_mtime_ns))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)

    def _delete(self, sha256: str) -> None:
        path = self._content(sha256)
        path.unlink(missing_ok=True)
        if path.parent.exists():
            sync_folder(path.parent)

    @contextlib.contextmanager
    def lease(self, name: str, seconds: float = TURN_SECONDS) -> Iterator[None]:
        """Hold a lease. See `SharedLog.lease`.

        A lease that another instance has held for `seconds`, by the clock of the waiting process, is taken from it.
        """
        path = self._folder / "leases" / name
        token = secrets.token_hex(16).encode()
        with self._translated():
            self._take_lease(path, token, seconds)
        self._lease = (path, token)
        try:
            yield
        finally:
            self._end_lease()

    def _take_lease(self, path: HostPath, token: bytes, seconds: float) -> None:
        started, pause = time.monotonic(), _MIN_PAUSE_SECONDS
        holder, seen = b"", started
        while True:
            with contextlib.suppress(FileExistsError):
                self._link(path, token, is_durable=False)
                return
            current, now = _read_token(path), time.monotonic()
            if current != holder:
                holder, seen = current, now
            elif now - seen > seconds:
                self._break_lease(path, holder)
                continue
            if now - started > LEASE_WAIT_SECONDS:
                raise turn_lost(f"others have held the lease '{path.name}' for {LEASE_WAIT_SECONDS:.0f} s")
            self._pause(pause)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    def _break_lease(self, path: HostPath, holder: bytes) -> None:
        """Remove a lease whose holder is silent. One of several waiting processes succeeds."""
        broken = self._temporary()
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, broken)
            if _read_token(broken) != holder:  # it is newer: give it back, unless there is an even newer one
                with contextlib.suppress(FileExistsError):
                    os.link(broken, path)
            broken.unlink(missing_ok=True)

    def _end_lease(self) -> None:
        """Give the lease back, unless it was taken from this instance."""
        held, self._lease = self._lease, None
        if held is not None and _read_token(held[0]) == held[1]:
            with self._translated():
                held[0].unlink(missing_ok=True)

    def now(self) -> int:
        """Return the file system's time in nanoseconds."""
        probe = self._temporary()
        with self._translated():
            try:
                probe.touch()
                return probe.stat().st_mtime_ns
            finally:
                probe.unlink(missing_ok=True)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    # internals

    def _path(self, number: int) -> HostPath:
        return self._folder / "entries" / f"{number // _ENTRIES_PER_FOLDER:03d}" / f"{number:012d}"

    def _content(self, sha256: str) -> HostPath:
        return self._folder / "contents" / sha256[:2] / sha256

    def _temporary(self) -> HostPath:
        return self._folder / "tmp" / secrets.token_hex(16)

    def _read(self, number: int) -> Entry:
        path = self._path(number)
        try:
            time_ns = path.stat(follow_symlinks=False).st_mtime_ns
            data = read_path(path, MAX_ENTRY_BYTES)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EFBIG):
                raise damaged(number, error.strerror or "it cannot be read") from error
            raise
        return decode_entry(data, number, time_ns)

    def _link(self, target: HostPath, content: bytes | BinaryIO, *, is_durable: bool = True) -> None:
        """Create `target` with its whole content. Raise FileExistsError if it exists."""
        temporary = self._temporary()
        try:
            with temporary.open("xb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    shutil.copyfileobj(content, file, 1 << 20)
                file.flush()
                if is_durable:
                    os.fsync(file.fileno())
            os.link(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        if is_durable:
            sync_folder(target.parent)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise `Unreachable` or `LogRefused` for errors of the file system, except for a full disk."""
        try:
            yield
        except (Unreachable, TurnLost, LogDamaged, FileExistsError):
            raise
        except PermissionError as error:
            raise LogRefused(f"'{error.filename}' may not be changed", "give this user the right to write") from error
        except OSError as error:
            if error.errno in _STORAGE_ERRNOS:
                raise
            raise unreachable(self._url, error.strerror or str(error)) from error


def _read_token(path: HostPath) -> bytes:
    """Return the token of a lease; empty if it is not held."""
    try:
        return read_path(path, _MAX_FORMAT_BYTES)
    except OSError:
        return b""
