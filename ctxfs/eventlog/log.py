"""The event log on disk: `<store>/history/<date>/<session>.jsonl`, append-only, with one hash chain over all files.

The file `head` has two lines. The first is the last committed record (`seq hash`). The second is a pending append (`seq
hash offset length file`), or `-`. It is written before the append, so that after a kill the next writer can detect
whether the append was complete. A writer holds an flock on `head`; the daemon and commands without a daemon may
alternate. Files of old days may be compressed (`.jsonl.gz`), which changes no record.
"""

import contextlib
import fcntl
import gzip
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path as HostPath
from typing import Any, BinaryIO

from ctxfs.eventlog.chain import (
    FORGOTTEN,
    Fault,
    Link,
    Verified,
    body_of,
    chain_record,
    make_tombstone,
    parse_record,
    verify,
)
from ctxfs.model.errors import invalid, not_found
from ctxfs.model.host_numbers import mtime_ns_of
from ctxfs.store.durable_file import replace_file

_HEAD = "head"
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_LINK = re.compile(r"(\d{1,18}) ([0-9a-f]{64})")
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SUFFIX = ".jsonl"
COMPRESSED_SUFFIX = ".gz"
_NO_PENDING = "-"
# Anchored at the begin of the line: no member within the text or the data of a record can match.
_PRINCIPAL = re.compile(rb'\{"seq": \d+, "at": "[^"\\]*", "session": "[^"\\]*", "principal": "([^"\\]*)"')


@dataclass(frozen=True, slots=True)
class _Pending:
    """An append that has begun: the last link after it, and its byte range in a file."""

    link: Link
    offset: int
    length: int
    file: str


def is_session(name: str) -> bool:
    """Return True for a valid session name."""
    return bool(_SESSION.fullmatch(name))


def is_day(name: str) -> bool:
    """Return True for the name of a day's directory, an ISO date."""
    return bool(_DATE.fullmatch(name))


class EventLog:
    """An event log. Methods block; several processes may use the same folder at once."""

    def __init__(self, folder: HostPath) -> None:
        self._folder = folder
        self._principals: dict[tuple[str, str], tuple[int, frozenset[str]]] = {}  # with the size of the file

    # writing

    def append(self, session: str, bodies: Sequence[Mapping[str, Any]], *, durable: bool = False) -> list[int]:
        """Append records to today's file of a session; return their numbers. With `durable`, fsync before returning.

        Add `at`, the time in UTC, to each record. Raise `OSError` EINVAL for an invalid session name, and for a body
        with a member of the chain.
        """
        if not is_session(session):
            raise invalid(session, "a session is named by letters, digits, '.', '_' and '-'")
        if not bodies:
            return []
        with self._lock_head() as head:
            last = self._recover(head)
            now = datetime.now(UTC)
            lines, numbers, link = bytearray(), [], last
            for body in bodies:
                try:
                    line, link = chain_record(
                        {"at": now.isoformat(timespec="milliseconds"), "session": session, **body}, link
                    )
                except (TypeError, ValueError) as error:
                    raise invalid(session, str(error)) from error
                lines += line
                numbers.append(link.seq)
            file = f"{now.date().isoformat()}/{session}{SUFFIX}"
            self._append_lines(head, last, link, file, bytes(lines), durable)
        return numbers

    def head(self) -> Link | None:
        """Return the last link of the chain; None if the log has never been written."""
        with self._lock_head() as head:
            return _read_head(head)[0]

    def head_nowait(self) -> Link | None:
        """Return a recent last link of the chain, without waiting for an append; None if the head cannot be read."""
        try:
            text = (self._folder / _HEAD).read_text(encoding="ascii").partition("\n")[0]
        except (OSError, UnicodeDecodeError):
            return None
        match = _LINK.fullmatch(text)
        return Link(int(match[1]), match[2]) if match else None

    def create_file(self, day: str, session: str) -> None:
        """Create an empty file for a session, unless it exists. Raise `OSError` EINVAL for a day other than today."""
        if day != datetime.now(UTC).date().isoformat() or not is_session(session):
            raise invalid(f"{day}/{session}", "a session's file is made in the directory of today (UTC)")
        directory = self._folder / day
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(directory / f"{session}{SUFFIX}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _append_lines(self, head: int, last: Link, link: Link, file: str, data: bytes, durable: bool) -> None:
        path = self._folder / file
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            offset = os.fstat(fd).st_size
            _write_head(head, last, _Pending(link, offset, len(data), file))
            done = 0
            while done < len(data):
                done += os.write(fd, data[done:])
            if durable:
                os.fsync(fd)
            _write_head(head, link, None)
            if durable:
                os.fsync(head)
        finally:
            os.close(fd)

    def _recover(self, head: int) -> Link:
        """Return the last link of the chain, after recovery: roll a truncated append back, commit a complete one."""
        last, pending = _read_head(head)
        if last is None:  # never written, or lost: compute it from the files
            last = max(
                (Link(r["seq"], str(r["hash"])) for r in self._all_records()), key=lambda x: x.seq, default=Link()
            )
            pending = None
        if pending is not None:
            path = self._folder / pending.file
            size = path.stat().st_size if path.exists() else 0
            if size == pending.offset + pending.length:
                last = pending.link
            elif size > pending.offset:
                os.truncate(path, pending.offset)
        _write_head(head, last, None)
        return last

    @contextlib.contextmanager
    def _lock_head(self) -> Iterator[int]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        head = os.open(self._folder / _HEAD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(head, fcntl.LOCK_EX)
            yield head
        finally:
            os.close(head)

    def erase_session(self, session: str, by: str) -> int:
        """Erase the bodies of a session's records; return their number. Raise `OSError` ENOENT if there are none.

        The records stay in the chain as tombstones, and a new record logs the erasure.
        """
        erased, now = 0, datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock_head():
            for day in self.days():
                if session not in self.sessions(day):
                    continue
                lines = self._read_lines(day, session)
                new_lines = [
                    line if FORGOTTEN in (r := parse_record(line)) else make_tombstone(r, now, by) for line in lines
                ]
                erased += sum(new != old for new, old in zip(new_lines, lines, strict=True))
                self._replace_file(day, session, b"".join(new_lines))
        if not erased:
            raise not_found(session)
        self.append(f"forget-{now[:10]}", [{"kind": "forget", "principal": by, "records": erased}], durable=True)
        return erased

    def erase_matching(self, is_doomed: Callable[[bytes], bool], by: str) -> int:
        """Erase the bodies of records, of any session, for whose line `is_doomed` returns True; return their number.

        Tombstones and the record of the erasure are as in `erase_session`.
        """
        erased, now = 0, datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock_head():
            for day in self.days():
                for session in self.sessions(day):
                    lines = self._read_lines(day, session)
                    new_lines = [
                        make_tombstone(parse_record(line), now, by) if is_doomed(line) else line for line in lines
                    ]
                    count = sum(new != old for new, old in zip(new_lines, lines, strict=True))
                    if count:
                        self._replace_file(day, session, b"".join(new_lines))
                    erased += count
        if erased:
            self.append(f"forget-{now[:10]}", [{"kind": "forget", "principal": by, "records": erased}], durable=True)
        return erased

    def compress_before(self, day: date) -> int:
        """Compress the files of earlier days; return their number. Readers see no difference."""
        packed = 0
        with self._lock_head():
            for name in self.days():
                if name >= day.isoformat():
                    continue
                for file in sorted((self._folder / name).glob(f"*{SUFFIX}")):
                    replace_file(
                        file.with_name(file.name + COMPRESSED_SUFFIX), gzip.compress(file.read_bytes(), mtime=0)
                    )
                    file.unlink()
                    packed += 1
        return packed

    def _replace_file(self, day: str, session: str, data: bytes) -> None:
        file = self._folder / day / f"{session}{SUFFIX}"
        if file.exists():
            replace_file(file, data)
        else:
            replace_file(file.with_name(file.name + COMPRESSED_SUFFIX), gzip.compress(data, mtime=0))

    # reading

    def days(self) -> list[str]:
        """Return the dates that have records, in order."""
        try:
            return sorted(name for name in os.listdir(self._folder) if is_day(name))
        except FileNotFoundError:
            return []

    def sessions(self, day: str) -> list[str]:
        """Return the sessions of a day, sorted."""
        try:
            names = os.listdir(self._folder / day)
        except FileNotFoundError:
            return []
        plain = (name.removesuffix(COMPRESSED_SUFFIX) for name in names if not name.startswith("."))
        return sorted({name.removesuffix(SUFFIX) for name in plain if name.endswith(SUFFIX)})

    def days_of(self, session: str) -> list[str]:
        """Return the days on which a session has records, in order."""
        if not is_session(session):
            return []
        names = (f"{session}{SUFFIX}", f"{session}{SUFFIX}{COMPRESSED_SUFFIX}")
        return [day for day in self.days() if any(os.path.exists(f"{self._folder}/{day}/{name}") for name in names)]

    def last_created_ns(self, day: str) -> int:
        """Return the time in nanoseconds at which the last session's file of a day was created; 0 without files."""
        try:
            return mtime_ns_of(os.stat(self._folder / day))
        except FileNotFoundError:
            return 0

    def size(self, day: str, session: str) -> tuple[int, int]:
        """Return (size of a session's file in bytes, uncompressed; mtime in nanoseconds). Raise `OSError` ENOENT."""
        try:
            stat = os.stat(self._folder / day / f"{session}{SUFFIX}")
        except FileNotFoundError:
            return len(self.read(day, session)), mtime_ns_of(self._compressed_file(day, session).stat())
        return stat.st_size, mtime_ns_of(stat)

    def read(self, day: str, session: str) -> bytes:
        """Return the content of a session's file of a day. Raise `OSError` ENOENT."""
        if not is_day(day) or not is_session(session):
            raise not_found(f"{day}/{session}")
        try:
            return (self._folder / day / f"{session}{SUFFIX}").read_bytes()
        except FileNotFoundError:
            return gzip.decompress(self._compressed_file(day, session).read_bytes())

    def open(self, day: str, session: str) -> BinaryIO | gzip.GzipFile:
        """Return a session's file of a day, open for reading; a compressed one decompresses. Raise `OSError` ENOENT."""
        try:
            return open(self._folder / day / f"{session}{SUFFIX}", "rb")
        except FileNotFoundError:
            return gzip.open(self._compressed_file(day, session), "rb")

    def _compressed_file(self, day: str, session: str) -> HostPath:
        file = self._folder / day / f"{session}{SUFFIX}{COMPRESSED_SUFFIX}"
        if not file.exists():
            raise not_found(f"{day}/{session}{SUFFIX}")
        return file

    def principals(self, day: str, session: str) -> frozenset[str]:
        """Return the principals in a session's file; cached by the file's size."""
        size = self.size(day, session)[0]
        cached = self._principals.get((day, session))
        if cached is None or cached[0] != size:
            names = set(filter(None, map(_principal_of, self._read_lines(day, session))))
            cached = self._principals[day, session] = size, frozenset(names)
        return cached[1]

    def records(
        self, day: str = "", session: str = "", principal: str = "", *, member: tuple[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Return the bodies of records with their `seq`, oldest first. `member` is the (name, value) that they must have.

        Lines without the member are not parsed. Invalid lines are omitted (`verify` reports them).
        """
        days = [day] if day else self.days()
        records = [
            record
            for date_name in days
            for name in self.sessions(date_name)
            if not session or name == session
            for record in self._parse_records(date_name, name, encode_member(member))
            if not principal or record.get("principal") == principal
            if member is None or record.get(member[0]) == member[1]
        ]
        return [{"seq": r["seq"], **body_of(r)} for r in sorted(records, key=lambda r: int(r["seq"]))]

    def verify(self) -> Verified:
        """Verify every record and the chain."""
        with self._lock_head() as head:
            _, pending = _read_head(head)
            last = self._recover(head) if pending is not None else _read_head(head)[0]
            result = verify(self._all_lines(), last)
        if last is None and result.records:
            result.faults.append(
                Fault(_HEAD, "it does not say where the chain stands: records may be missing at the end")
            )
        return result

    def _all_lines(self) -> Iterator[tuple[str, bytes]]:
        for day in self.days():
            for session in self.sessions(day):
                for number, line in enumerate(self._read_lines(day, session), 1):
                    yield f"{day}/{session}{SUFFIX}:{number}", line

    def _read_lines(self, day: str, session: str) -> list[bytes]:
        return self.read(day, session).splitlines(keepends=True)

    def _parse_records(self, day: str, session: str, part: bytes = b"") -> Iterator[dict[str, Any]]:
        for line in lines_with(self.read(day, session), part):
            with contextlib.suppress(ValueError):
                yield parse_record(line)

    def _all_records(self) -> Iterator[dict[str, Any]]:
        for day in self.days():
            for session in self.sessions(day):
                yield from self._parse_records(day, session)


def lines_with(data: bytes, *parts: bytes) -> Iterator[bytes]:
    """Yield the lines that contain one of the parts; all lines for an empty one."""
    if not all(parts):
        yield from data.splitlines(keepends=True)
        return
    positions = {part: data.find(part) for part in parts}
    while found := [position for position in positions.values() if position >= 0]:
        start, end = data.rfind(b"\n", 0, min(found)) + 1, data.find(b"\n", min(found)) + 1 or len(data)
        yield data[start:end]
        for part, position in positions.items():
            if 0 <= position < end:
                positions[part] = data.find(part, end)


def encode_member(member: tuple[str, str] | None) -> bytes:
    """Return a member as the line of a record contains it (`chain.chain_record`); empty for None."""
    return json.dumps(dict([member]), ensure_ascii=False).encode("utf-8", "replace")[1:-1] if member else b""


def encode_text(text: str) -> bytes:
    """Return a part of a text as the line of a record contains it, without quotes."""
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")[1:-1]


def _principal_of(line: bytes) -> str:
    """Return the principal in a record's line, which is parsed only if it has an unusual form; empty for none."""
    if match := _PRINCIPAL.match(line):
        return match[1].decode("utf-8", "replace")
    try:
        return str(parse_record(line).get("principal", ""))
    except (ValueError, RecursionError):
        return ""


def _write_head(head: int, last: Link, pending: _Pending | None) -> None:
    pending_line = _NO_PENDING
    if pending is not None:
        pending_line = f"{pending.link.seq} {pending.link.hash} {pending.offset} {pending.length} {pending.file}"
    data = f"{last.seq} {last.hash}\n{pending_line}\n".encode()
    os.pwrite(head, data, 0)
    os.ftruncate(head, len(data))


def _read_head(head: int) -> tuple[Link | None, _Pending | None]:
    lines = os.pread(head, 4096, 0).decode("utf-8", "replace").split("\n")
    try:
        seq, digest = lines[0].split(" ")
        last = Link(int(seq), digest)
        if lines[1] == _NO_PENDING:
            return last, None
        number, after, offset, length, file = lines[1].split(" ", 4)
        return last, _Pending(Link(int(number), after), int(offset), int(length), file)
    except (ValueError, IndexError):
        return None, None
