"""Play the kernel's side of the FUSE protocol: pack requests, count lookups as the kernel does, unpack responses.

The layouts are written down a second time here, from <linux/fuse.h>, so that an error in the product's shows.
"""

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from ctxfs.eventlog.spool import Spool
from ctxfs.fuse.operations import Operations
from ctxfs.fuse.state import MountOptions, State
from ctxfs.fuse.transports.devfuse import DevFuseTransport
from ctxfs.model.entry import Entry, directory
from ctxfs.model.errors import not_found
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path as TreePath
from ctxfs.model.principal import parse_principal
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import default_rules
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.recording.journal import JournalWriter

ROOT = 1
_PLACE = 1 << 20


class Failed(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


class _Nothing(Mount):
    """A tree that contains only the directory of the area."""

    async def stat(self, path: TreePath) -> Entry:
        if path.parts in ((), ("pad",)):
            return directory(path.name)
        raise not_found(path)

    async def list(self, path: TreePath) -> list[Entry]:
        return [directory("pad")] if not path.parts else []

    async def read(self, path: TreePath) -> bytes:
        raise not_found(path)


class _AtOnce:
    """An event loop that runs each coroutine to its end at once."""

    async def call(self, function: Any, *args: object) -> Any:
        return trio.run(function, *args)

    async def in_thread(self, function: Any, *args: object) -> Any:
        return function(*args)

    def run_soon(self, function: Any, *args: object) -> None:
        function(*args)


@dataclass(frozen=True)
class Seen:
    """The attributes in a response."""

    number: int
    mode: int
    links: int
    size: int
    uid: int
    gid: int
    mtime_ns: int


class PretendKernel:
    """One mount, with its `pad` in the host folder `top`."""

    def __init__(self, top: Path, journal: Path, *, reads_without_open: bool = False) -> None:
        self.top = top
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (mine, its):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _PLACE)
        mine.settimeout(10)
        self._mine, self._its = mine, its
        principal = parse_principal("human:owner")
        self.journal = JournalWriter(journal, Actor(str(principal), "session", "mount", ""))
        self.state = State.create(
            _Nothing(),
            _AtOnce(),
            MountOptions(str(top), reads_without_open=reads_without_open),
            3600.0,
            principal,
            self.journal,
            Spool(None),
            _AtOnce().call,
        )
        pad = TreePath(("pad",))
        self.state.apply_mount_table([(pad, str(top), True, [], True)], [pad], [".versions"])
        book = PolicyEngine()
        book.put_in_force(default_rules(), {})
        self.state.access.apply_policy(book.wire)
        self.direct = DevFuseTransport()
        self._unique = 0
        mine.send(self._packed(26, 0, struct.pack("=4I", 7, 40, 1 << 20, 0xFFFFFFFF & ~(1 << 30)), 2))
        operations = Operations(self.state)
        self.direct.start_connection(its.fileno(), operations)
        operations.connect(
            self.direct,
            open_cache=self.direct.open_cache_backend,
            backing_files=None,
            checks_acls=self.direct.checks_acls,
        )
        agreed = mine.recv(_PLACE)
        assert struct.unpack_from("=II", agreed, 16) == (7, 40)
        self.references: dict[int, int] = {}
        self.dropped: list[int] = []  # numbers of files whose entries are to be dropped

    def close(self) -> None:
        self.journal.close()
        self._mine.close()
        self._its.close()

    def _packed(self, opcode: int, number: int, body: bytes, unique: int, uid: int = 0) -> bytes:
        return struct.pack("=IIQQIIIHH", 40 + len(body), opcode, unique, number, uid, uid, 1, 0, 0) + body

    def raw(self, packet: bytes, unique: int) -> bytes:
        """Send a packet and return the response."""
        self._mine.send(packet)
        self.direct.serve_next()
        answer = self._mine.recv(_PLACE)
        while not any(
            answer[8:16]
        ):  # a notice: before the response, or the kernel would begin to cache the entries that it must drop
            kind, dropped = struct.unpack_from("=i8xQ", answer, 4)
            assert kind == 2
            self.dropped.append(dropped)
            answer = self._mine.recv(_PLACE)
        length, code, answered = struct.unpack_from("=IiQ", answer)
        assert length == len(answer), "the length is that of the answer"
        assert answered == unique, "the answer is to this question"
        if code:
            assert len(answer) == 16 and -4096 < code < 0
            raise Failed(-code)
        return answer[16:]

    def ask(self, opcode: int, number: int, body: bytes = b"") -> bytes:
        self._unique += 2
        return self.raw(self._packed(opcode, number, body, self._unique), self._unique)

    def tell(self, opcode: int, number: int, body: bytes) -> None:
        """Send a request that has no response."""
        self._mine.send(self._packed(opcode, number, body, 0))
        self.direct.serve_next()

    def _entry(self, answer: bytes) -> Seen | None:
        number = struct.unpack_from("=Q", answer)[0]
        if not number:
            return None
        self.references[number] = self.references.get(number, 0) + 1
        return _seen(answer[40:])

    def lookup(self, parent: int, name: bytes) -> Seen | None:
        return self._entry(self.ask(1, parent, name + b"\0"))

    def forget(self, number: int, count: int) -> None:
        self.references[number] -= count
        if not self.references[number]:
            del self.references[number]
        self.tell(2, number, struct.pack("=Q", count))

    def getattr(self, number: int) -> Seen:
        return _seen(self.ask(3, number, struct.pack("=IIQ", 0, 0, 0))[16:])

    def setattr(
        self, number: int, *, size: int | None = None, mode: int | None = None, mtime_ns: int | None = None
    ) -> Seen:
        valid = (8 if size is not None else 0) | (1 if mode is not None else 0) | (32 if mtime_ns is not None else 0)
        seconds, rest = divmod(mtime_ns or 0, 10**9)
        body = struct.pack("=II4Qqq8I", valid, 0, 0, size or 0, 0, 0, seconds, 0, 0, rest, 0, mode or 0, 0, 0, 0, 0)
        return _seen(self.ask(4, number, body)[16:])

    def symlink(self, parent: int, name: bytes, target: bytes) -> Seen | None:
        return self._entry(self.ask(6, parent, name + b"\0" + target + b"\0"))

    def readlink(self, number: int) -> bytes:
        return self.ask(5, number)

    def mkdir(self, parent: int, name: bytes, mode: int) -> Seen | None:
        return self._entry(self.ask(9, parent, struct.pack("=II", mode, 0) + name + b"\0"))

    def unlink(self, parent: int, name: bytes) -> None:
        self.ask(10, parent, name + b"\0")

    def rmdir(self, parent: int, name: bytes) -> None:
        self.ask(11, parent, name + b"\0")

    def rename(self, parent: int, name: bytes, to: int, new: bytes, flags: int) -> None:
        self.ask(45, parent, struct.pack("=QII", to, flags, 0) + name + b"\0" + new + b"\0")

    def link(self, number: int, parent: int, name: bytes) -> Seen | None:
        return self._entry(self.ask(13, parent, struct.pack("=Q", number) + name + b"\0"))

    def open(self, number: int, flags: int) -> tuple[int, bool]:
        """Return the handle, and True if the cached data of the file is still valid."""
        fh, answered = struct.unpack_from("=QI", self.ask(14, number, struct.pack("=II", flags, 0)))
        return fh, bool(answered & 2)

    def create(self, parent: int, name: bytes, mode: int, flags: int) -> tuple[Seen, int]:
        answer = self.ask(35, parent, struct.pack("=4I", flags, mode, 0, 0) + name + b"\0")
        seen = self._entry(answer)
        assert seen is not None
        return seen, int(struct.unpack_from("=Q", answer, 128)[0])

    def read(self, number: int, fh: int, offset: int, size: int) -> bytes:
        return self.ask(15, number, struct.pack("=QQIIQII", fh, offset, size, 0, 0, 0, 0))

    def write(self, number: int, fh: int, offset: int, data: bytes) -> int:
        head = struct.pack("=QQIIQII", fh, offset, len(data), 0, 0, 0, 0)
        return int(struct.unpack_from("=I", self.ask(16, number, head + data))[0])

    def fallocate(self, number: int, fh: int, offset: int, length: int, mode: int) -> None:
        self.ask(43, number, struct.pack("=QQQII", fh, offset, length, mode, 0))

    def copy(self, number: int, source: int, offset: int, target: int, target_offset: int, length: int) -> int:
        body = struct.pack("=7Q", source, offset, number, target, target_offset, length, 0)
        return int(struct.unpack_from("=I", self.ask(47, number, body))[0])

    def release(self, number: int, fh: int) -> None:
        self.ask(18, number, struct.pack("=QIIQ", fh, 0, 0, 0))

    def fsync(self, number: int, fh: int) -> None:
        self.ask(20, number, struct.pack("=QII", fh, 0, 0))

    def setxattr(self, number: int, name: bytes, value: bytes, flags: int) -> None:
        self.ask(21, number, struct.pack("=II", len(value), flags) + name + b"\0" + value)

    def getxattr(self, number: int, name: bytes) -> bytes:
        return self.ask(22, number, struct.pack("=II", 65536, 0) + name + b"\0")

    def listxattr(self, number: int) -> list[bytes]:
        return self.ask(23, number, struct.pack("=II", 65536, 0)).split(b"\0")[:-1]

    def removexattr(self, number: int, name: bytes) -> None:
        self.ask(24, number, name + b"\0")

    def names(self, number: int, size: int) -> dict[bytes, Seen]:
        """Return all names but `.` and `..`, read in pieces of `size` bytes."""
        entries: dict[bytes, Seen] = {}
        cookie = 0
        while piece := self.piece(number, cookie, size):
            mine = {name: seen for name, _, seen in piece if seen is not None}
            assert entries.keys().isdisjoint(mine)
            entries |= mine
            cookie = piece[-1][1]
        return entries

    def piece(self, number: int, place: int, size: int) -> list[tuple[bytes, int, Seen | None]]:
        """Return (name, cookie, attributes) of the entries behind a cookie that fit into `size` bytes.

        `.` and `..` have no attributes.
        """
        answer = self.ask(44, number, struct.pack("=QQIIQII", 0, place, size, 0, 0, 0, 0))
        assert len(answer) <= size
        entries, at = [], 0
        while at < len(answer):
            seen = self._entry(answer[at : at + 128])
            its, place, length, kind = struct.unpack_from("=QQII", answer, at + 128)
            name = answer[at + 152 : at + 152 + length]
            assert 0 < place < 1 << 63
            if name in (b".", b".."):
                assert seen is None and kind == 4 and (name == b".." or its == number)
            else:
                assert seen is not None and kind == seen.mode >> 12
            entries.append((name, place, seen))
            at += 152 + length + -length % 8
        return entries


def _seen(attr: bytes) -> Seen:
    number, size, _, _, mtime, _, _, mtime_ns, _, mode, links, uid, gid = struct.unpack_from("=4Qqq7I", attr)
    return Seen(number, mode, links, size, uid, gid, mtime * 10**9 + mtime_ns)
