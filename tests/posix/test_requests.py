"""Drive the request handlers directly with random requests, compared with a model in memory, and with hostile ones.

Hostile requests are refused, and none ends the mount. $CTXFS_REQUESTS sets the number for each seed (6,000 by default,
100,000 in `make test-programs`), $CTXFS_FUZZ_SEED the seed.
"""

import contextlib
import errno
import logging
import os
import random
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ctxfs.fuse.transports import INTERFACE, devfuse, load_fastpath
from ctxfs.fuse.transports import protocol as fuse
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import parse_allowance
from tests.posix.kernel import ROOT, Failed, PretendKernel, Seen

STEPS = int(os.environ.get("CTXFS_REQUESTS", "6000"))
SEEDS = [int(seed) for seed in os.environ.get("CTXFS_FUZZ_SEED", "1 2").split()]
NAMES = (b"a", b"b", b"c", b"d", b"long-" + b"n" * 250, "ü€".encode(), b"latin-\xe9", b" ", b"-rf", b"...")
_NO_SUCH = (0, 2, 77, (1 << 48) | 12345, (1 << 63) + 99, (1 << 64) - 1)


@dataclass(eq=False)
class File:
    """One file of the model; `names` counts the entries that lead to it."""

    kind: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    target: bytes = b""
    entries: dict[bytes, "File"] = field(default_factory=dict)
    names: int = 1
    attributes: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def is_dir(self) -> bool:
        return self.kind == stat.S_IFDIR


def refuse(code: int) -> Any:
    raise Failed(code)


class Model:
    """The results that POSIX defines for requests, on files in memory.

    The caller is root, so that modes forbid nothing.
    """

    def __init__(self) -> None:
        self.top = File(stat.S_IFDIR, 0o755)

    def child(self, parent: File, name: bytes) -> File:
        if name not in parent.entries:
            refuse(errno.ENOENT)
        return parent.entries[name]

    def make(self, parent: File, name: bytes, made: File) -> File:
        if name in parent.entries:
            refuse(errno.EEXIST)
        parent.entries[name] = made
        return made

    def unlink(self, parent: File, name: bytes) -> None:
        file = self.child(parent, name)
        if file.is_dir:
            refuse(errno.EISDIR)
        del parent.entries[name]
        file.names -= 1

    def rmdir(self, parent: File, name: bytes) -> None:
        file = self.child(parent, name)
        if not file.is_dir:
            refuse(errno.ENOTDIR)
        if file.entries:
            refuse(errno.ENOTEMPTY)
        del parent.entries[name]
        file.names = 0

    def link(self, file: File, parent: File, name: bytes) -> File:
        if file.is_dir:
            refuse(errno.EPERM)
        self.make(parent, name, file)
        file.names += 1
        return file

    def rename(self, parent: File, name: bytes, to: File, new: bytes, flags: int) -> None:
        moved, there = self.child(parent, name), to.entries.get(new)
        if flags == 1 and there is not None:
            refuse(errno.EEXIST)
        if flags == 2 and there is None:
            refuse(errno.ENOENT)
        if moved.is_dir and self.is_below(to, moved):
            refuse(errno.EINVAL)
        if there is not None and there.is_dir and self.is_below(parent, there):
            refuse(errno.EINVAL if flags == 2 else errno.ENOTEMPTY)
        if flags == 2:
            assert there is not None
            parent.entries[name], to.entries[new] = there, moved
        elif there is not moved:
            self.replace(moved, there)
            del parent.entries[name]
            to.entries[new] = moved

    def replace(self, moved: File, there: File | None) -> None:
        if there is not None:
            if moved.is_dir and not there.is_dir:
                refuse(errno.ENOTDIR)
            if there.is_dir and not moved.is_dir:
                refuse(errno.EISDIR)
            if there.entries:
                refuse(errno.ENOTEMPTY)
            there.names -= 1

    def is_below(self, place: File, folder: File) -> bool:
        return place is folder or any(
            self.is_below(place, deeper) for deeper in folder.entries.values() if deeper.is_dir
        )


@pytest.fixture(params=["compiled", "python"])
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Select the compiled loop or the one in Python; a missing compiled loop is an error."""
    assert devfuse.fastpath is not None, "ctxfs/fuse/transports/fastpath.c has not been built"
    if request.param == "python":
        monkeypatch.setattr(devfuse, "fastpath", None)


@contextlib.contextmanager
def kernel_in(tmp_path: Path, *, reads_without_open: bool = False) -> Iterator[PretendKernel]:
    before = os.umask(0)
    top = tmp_path / "top"
    top.mkdir(mode=0o755)
    (tmp_path / "outside").write_text("not to be reached")
    made = PretendKernel(top, tmp_path / "journal", reads_without_open=reads_without_open)
    try:
        yield made
    finally:
        os.umask(before)
        made.close()


@pytest.fixture
def pretend(tmp_path: Path, loop: None) -> Iterator[PretendKernel]:
    with kernel_in(tmp_path) as made:
        yield made


@pytest.fixture
def unopened(tmp_path: Path, loop: None) -> Iterator[PretendKernel]:
    with kernel_in(tmp_path, reads_without_open=True) as made:
        yield made


class Run:
    """A run of random requests on the handlers and the model; `known` are the files that the kernel has by number."""

    def __init__(self, kernel: PretendKernel, seed: int) -> None:
        self.kernel, self.model, self.chance = kernel, Model(), random.Random(seed)
        top = kernel.lookup(ROOT, b"pad")
        assert top is not None
        self.top = top.number
        self.known: dict[int, File] = {top.number: self.model.top}
        self.paths: dict[tuple[int, bytes], int] = {}  # the names that the kernel has received
        self.places: dict[int, set[tuple[int, bytes]]] = {}  # the reverse, with former names
        self.held: list[tuple[int, int, File, int]] = []  # handle, number, file, open flags; handles are reused
        self.read: dict[int, bytes] = {}  # the content of a page cache

    def number(self) -> int:
        return self.top if self.chance.random() < 0.1 else self.chance.choice(list(self.known))

    def folder(self) -> int:
        """Return an existing directory: requests for others the kernel answers itself."""
        while True:
            number = self.number()
            if self.known[number].is_dir and self.is_there(number):
                return number

    def name(self) -> bytes:
        return self.chance.choice(NAMES)

    def data(self) -> bytes:
        return bytes([self.chance.randrange(256)]) * self.chance.choice((1, 10, 4096, 5000))

    def learn(self, seen: Seen | None, file: File, parent: int, name: bytes) -> None:
        assert seen is not None
        self.paths[parent, name] = seen.number
        self.places.setdefault(seen.number, set()).add((parent, name))
        self.check(seen, file)
        existing = self.known.setdefault(seen.number, file)
        assert existing is file, "a number stands for one file"

    def check(self, seen: Seen, file: File) -> None:
        assert stat.S_IFMT(seen.mode) == file.kind
        assert file.kind == stat.S_IFLNK or stat.S_IMODE(seen.mode) == file.mode
        if not file.is_dir:
            assert seen.links == file.names
            assert seen.size == (len(file.target) if file.kind == stat.S_IFLNK else len(file.data))

    def both(self, ask: Callable[[], Any], expect: Callable[[], Any]) -> tuple[Any, Any] | None:
        """Return (response, expected response), or None if both refuse with the same error."""
        try:
            expected = expect()
        except Failed as refused:
            with pytest.raises(Failed) as told:
                ask()
            assert told.value.code == refused.code, f"{os.strerror(told.value.code)}, not {refused}"
            return None
        return ask(), expected

    # requests

    def lookup(self) -> None:
        number, name = self.folder(), self.name()
        child = self.known[number].entries.get(name)
        seen = self.kernel.lookup(number, name)
        if child is None:
            assert seen is None
        else:
            self.learn(seen, child, number, name)

    def make(self) -> None:
        number, name = self.folder(), self.name()
        mode = self.chance.choice((0o644, 0o600, 0o755, 0o4755))
        parent = self.known[number]
        kind = self.chance.choice("dl")
        if kind == "d":
            done = self.both(
                lambda: self.kernel.mkdir(number, name, mode & 0o777),
                lambda: self.model.make(parent, name, File(stat.S_IFDIR, mode & 0o777)),
            )
        else:
            done = self.both(
                lambda: self.kernel.symlink(number, name, b"../" + name),
                lambda: self.model.make(parent, name, File(stat.S_IFLNK, 0o777, target=b"../" + name)),
            )
        if done:
            self.learn(*done, number, name)

    def create(self) -> None:
        number, name, mode = self.folder(), self.name(), self.chance.choice((0o644, 0o600, 0o4755))
        flags = self.chance.choice((os.O_RDWR, os.O_WRONLY)) | os.O_EXCL
        done = self.both(
            lambda: self.kernel.create(number, name, mode, flags),
            lambda: self.model.make(self.known[number], name, File(stat.S_IFREG, mode)),
        )
        if done:
            (seen, fh), file = done
            self.learn(seen, file, number, name)
            self.held.append((fh, seen.number, file, flags))

    def remove(self) -> None:
        number, name = self.folder(), self.name()
        if self.chance.random() < 0.6:
            self.both(lambda: self.kernel.unlink(number, name), lambda: self.model.unlink(self.known[number], name))
        else:
            self.both(lambda: self.kernel.rmdir(number, name), lambda: self.model.rmdir(self.known[number], name))
        if name not in self.known[number].entries:
            self.paths.pop((number, name), None)

    def rename(self) -> None:
        one, name, two, new = self.folder(), self.name(), self.folder(), self.name()
        flags = self.chance.choice((0, 0, 0, 1, 2))
        self.both(
            lambda: self.kernel.rename(one, name, two, new, flags),
            lambda: self.model.rename(self.known[one], name, self.known[two], new, flags),
        )
        told = {entry_key: self.paths.pop(entry_key, None) for entry_key in ((one, name), (two, new))}
        for entry_key in told:
            file = self.known[entry_key[0]].entries.get(entry_key[1])
            for number in told.values():
                if number is not None and self.known[number] is file:
                    self.paths[entry_key] = number
                    self.places.setdefault(number, set()).add(entry_key)

    def link(self) -> None:
        number, parent, name = self.number(), self.folder(), self.name()
        file = self.known[number]
        if file.names == 0 or file.is_dir or not self.is_there(number):
            return  # the kernel sends no request
        done = self.both(
            lambda: self.kernel.link(number, parent, name), lambda: self.model.link(file, self.known[parent], name)
        )
        if done:
            self.learn(*done, parent, name)

    def attributes(self) -> None:
        number = self.number()
        file = self.known[number]
        if self.is_there(number):
            self.check(self.kernel.getattr(number), file)

    def is_there(self, number: int) -> bool:
        """Return True if the kernel may send requests for a file.

        It sends none for a file without a name, unless the file is open.
        """
        named = any(self.paths.get(key) == number for key in self.places.get(number, ()))
        return named or number == self.top or self.is_open(number)

    def is_open(self, number: int) -> bool:
        return any(held[1] == number for held in self.held)

    def wrote(self, number: int, file: File) -> None:
        """Update the page cache, in which the kernel keeps the data that it writes."""
        if number in self.read:
            self.read[number] = bytes(file.data)

    def change(self) -> None:
        number = self.number()
        file = self.known[number]
        if not self.is_there(number) or file.kind == stat.S_IFLNK:
            return
        if file.kind == stat.S_IFREG and self.chance.random() < 0.5:
            size = self.chance.randrange(9000)
            seen = self.kernel.setattr(number, size=size)
            del file.data[size:]
            file.data.extend(bytes(size - len(file.data)))
            self.wrote(number, file)
            file.mode &= 0o777 if file.mode & 0o7000 and stat.S_IMODE(seen.mode) == file.mode & 0o777 else 0o7777
        elif self.chance.random() < 0.5:
            mode = self.chance.choice((0o600, 0o755, 0o1777 if file.is_dir else 0o444))
            seen = self.kernel.setattr(number, mode=mode)
            file.mode = mode
        else:
            when = self.chance.randrange(-(10**9), 2 * 10**9) * 10**9 + self.chance.randrange(10**9)
            seen = self.kernel.setattr(number, mtime_ns=when)
            assert seen.mtime_ns == when
        self.check(seen, file)

    def open(self) -> None:
        number = self.number()
        file = self.known[number]
        if file.kind != stat.S_IFREG or not self.is_there(number) or len(self.held) > 30:
            return
        flags = self.chance.choice((*[os.O_RDONLY] * 4, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC))
        fh, keeps = self.kernel.open(number, flags)
        if flags & os.O_TRUNC:
            file.data.clear()
            self.wrote(number, file)
        if not keeps:
            self.read.pop(number, None)
        elif number in self.read:
            assert self.read[number] == file.data, "earlier data is still valid"
        self.held.append((fh, number, file, flags))

    def read_again(self) -> None:
        number = self.number()
        file = self.known[number]
        if file.kind != stat.S_IFREG or not self.is_there(number):
            return
        for _ in range(2):
            fh, keeps = self.kernel.open(number, os.O_RDONLY)
            assert not keeps or self.read.get(number, file.data) == file.data, "earlier data is still valid"
            assert self.kernel.read(number, fh, 10, 5000) == bytes(file.data[10:5010])
            self.read[number] = bytes(file.data)
            self.kernel.release(number, fh)

    def use(self) -> None:
        if not self.held:
            return
        held = self.chance.choice(self.held)
        fh, number, file, flags = held
        offset, data = self.chance.randrange(8000), self.data()
        writes, reads = flags & os.O_ACCMODE != os.O_RDONLY, flags & os.O_ACCMODE != os.O_WRONLY
        what = self.chance.random()
        if what < 0.3 and writes:
            assert self.kernel.write(number, fh, offset, data) == len(data)
            put(file.data, offset, data)
            self.wrote(number, file)
        elif what < 0.4 and writes:
            self.kernel.fallocate(number, fh, offset, 100, 0)
            file.data.extend(bytes(max(offset + 100 - len(file.data), 0)))
            self.wrote(number, file)
        elif what < 0.5 and writes and reads:
            count = min(50, max(len(file.data) - offset, 0))
            if self.kernel.copy(number, fh, offset, fh, offset + 100, count) and count:
                put(file.data, offset + 100, bytes(file.data[offset : offset + count]))
                self.wrote(number, file)
        elif what < 0.8 and reads:
            assert self.kernel.read(number, fh, offset, 5000) == bytes(file.data[offset : offset + 5000])
            self.read[number] = bytes(file.data)
        elif what < 0.87:
            self.kernel.fsync(number, fh)
        else:
            self.kernel.release(number, fh)
            self.held.remove(held)

    def elsewhere(self) -> None:
        """Write to a file in the folder behind the mount, without a notification."""
        number = self.number()
        file = self.known[number]
        if file.kind != stat.S_IFREG or not self.is_there(number) or file.names == 0:
            return
        data, path = self.data(), self.host_path(self.model.top, file)
        assert path is not None
        with open(self.kernel.top.joinpath(os.fsdecode(path)), "r+b") as out:
            out.write(data)
        put(file.data, 0, data)

    def host_path(self, folder: File, file: File) -> bytes | None:
        for name, entry in folder.entries.items():
            below = b"" if entry is file else self.host_path(entry, file) if entry.is_dir else None
            if below is not None:
                return os.path.join(name, below) if below else name
        return None

    def tag(self) -> None:
        number = self.number()
        file = self.known[number]
        if not self.is_there(number) or file.kind == stat.S_IFLNK:
            return
        name, value = self.chance.choice((b"user.a", b"user.b")), self.data()[:300]
        what = self.chance.random()
        if what < 0.4:
            flags = self.chance.choice((0, 0, 1, 2))

            def put_it() -> None:
                if flags == 1 and name in file.attributes:
                    refuse(errno.EEXIST)
                if flags == 2 and name not in file.attributes:
                    refuse(errno.ENODATA)
                file.attributes[name] = value

            self.both(lambda: self.kernel.setxattr(number, name, value, flags), put_it)
        elif what < 0.8:
            done = self.both(
                lambda: self.kernel.getxattr(number, name),
                lambda: file.attributes[name] if name in file.attributes else refuse(errno.ENODATA),
            )
            assert done is None or done[0] == done[1]
            assert set(self.kernel.listxattr(number)) == set(file.attributes)
        else:
            self.both(
                lambda: self.kernel.removexattr(number, name),
                lambda: file.attributes.pop(name) if name in file.attributes else refuse(errno.ENODATA),
            )

    def names(self) -> None:
        number = self.number()
        folder = self.known[number]
        if not folder.is_dir or folder.names == 0:
            return
        if self.chance.random() < 0.5 and self.is_there(number):
            self.kernel.setattr(number, mtime_ns=10**9)  # a recent change is reported by other means
        entries = self.kernel.names(number, self.chance.choice((500, 1000, 4096, 65536)))
        assert set(entries) == set(folder.entries)
        for name, seen in entries.items():
            self.learn(seen, folder.entries[name], number, name)

    def readlink(self) -> None:
        number = self.number()
        file = self.known[number]
        if file.kind == stat.S_IFLNK and self.is_there(number):
            assert self.kernel.readlink(number) == file.target

    def forget(self) -> None:
        number = self.number()
        if number == self.top or self.is_open(number):
            return
        if any(parent == number for parent, _ in self.paths):
            return  # the kernel keeps a directory as long as it keeps any entry in it
        self.kernel.forget(number, self.kernel.references[number])
        del self.known[number]
        self.read.pop(number, None)
        self.places.pop(number, None)
        self.paths = {key: other for key, other in self.paths.items() if other != number}

    def hostile(self) -> None:
        """Send an invalid request: it is refused or has no effect, and nothing changes."""
        kernel, chance = self.kernel, self.chance
        what = chance.randrange(5)
        number = chance.choice(_NO_SUCH)
        if what == 0:
            bad = chance.choice((b"..", b".", b"", b"../outside", b"a/b", b"/etc/passwd", b"a\0b"))
            for ask in (
                lambda: kernel.lookup(self.top, bad),
                lambda: kernel.mkdir(self.top, bad, 0o755),
                lambda: kernel.create(self.top, bad, 0o644, os.O_RDWR),
                lambda: kernel.unlink(self.top, bad),
                lambda: kernel.rename(self.top, b"a", self.top, bad, 0),
                lambda: kernel.symlink(self.top, bad, b"x"),
            ):
                with pytest.raises(Failed):
                    ask()
        elif what == 1:
            for ask in (
                lambda: kernel.getattr(number),
                lambda: kernel.lookup(number, b"a"),
                lambda: kernel.open(number, os.O_RDWR),
                lambda: kernel.setattr(number, size=1),
                lambda: kernel.rename(number, b"a", self.top, b"b", 0),
                lambda: kernel.link(number, self.top, b"a"),
            ):
                with pytest.raises(Failed):
                    ask()
        elif what == 2:
            fh = chance.choice((-1 & ((1 << 64) - 1), 10**6, (1 << 40) + 7, (1 << 41) + 7))
            for ask in (
                lambda: kernel.read(self.top, fh, 0, 10),
                lambda: kernel.write(self.top, fh, 0, b"x"),
                lambda: kernel.release(self.top, fh),
                lambda: kernel.fallocate(self.top, fh, 0, 10, 0),
            ):
                with pytest.raises(Failed):
                    ask()
        elif what == 3:
            # statfs concerns no file; the others get no response, or are sent once only
            opcode = chance.choice([code for code in range(3, 64) if code not in (17, 26, 36, 38, 42)])
            with pytest.raises(Failed):
                raise AssertionError(opcode, kernel.ask(opcode, number, chance.randbytes(chance.choice((0, 1, 7, 15)))))
        else:
            kernel.tell(2, number, (1 << 40).to_bytes(8, "little"))

    def steps(self) -> list[Callable[[], None]]:
        return [
            *[self.lookup] * 6,
            *[self.make] * 4,
            *[self.create] * 4,
            *[self.remove] * 5,
            *[self.rename] * 5,
            *[self.link] * 2,
            *[self.attributes] * 3,
            *[self.change] * 3,
            *[self.open] * 4,
            *[self.read_again] * 2,
            self.elsewhere,
            *[self.use] * 12,
            *[self.tag] * 2,
            *[self.names] * 2,
            self.readlink,
            *[self.forget] * 3,
            self.hostile,
        ]


def put(into: bytearray, offset: int, data: bytes) -> None:
    into.extend(bytes(max(offset - len(into), 0)))
    into[offset : offset + len(data)] = data


@pytest.mark.parametrize("seed", SEEDS)
def test_random_requests_agree_with_the_model(
    pretend: PretendKernel, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(pretend, seed)
    steps = run.steps()
    for count in range(STEPS):
        step = run.chance.choice(steps)
        try:
            step()
        except BaseException as error:
            error.add_note(f"seed {seed}, step {count}: {step.__name__}")
            raise
    unexpected = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert not unexpected, "an unexpected exception"
    assert len(pretend.state.nodes) <= len(run.known) + len(run.held) + 1, "forgotten nodes are freed"
    for fh, number, _, _ in run.held:
        pretend.release(number, fh)
    pretend.state.open_file_cache.evict_all()
    assert not pretend.state.files and not pretend.state.recorder.written
    if isinstance(pretend.direct.open_cache_backend, devfuse.fastpath.Loop if devfuse.fastpath else ()):
        assert pretend.direct.open_cache_backend.answered > STEPS / 100, (
            "opens and reads of what was read before are answered there"
        )


# Values where numbers change their sign or no longer fit, and their neighbours.
EXTREMES = tuple(
    (at + near) % (1 << 64) for at in (0, 1 << 31, 1 << 32, 1 << 40, 1 << 62, 1 << 63) for near in (-2, -1, 0, 1)
)


def extreme_requests(number: int, fh: int, chance: random.Random) -> list[tuple[int, bytes]]:
    """Return (opcode, body) of every request that contains a number, each with random extreme values."""

    def long() -> int:
        return chance.choice(EXTREMES)

    def short() -> int:
        return chance.choice(EXTREMES) % (1 << 32)

    def length() -> int:
        """Return a length that is really allocated or copied: few bytes, or more than any file may have.

        Lengths in between would fill the disk.
        """
        return chance.choice([number for number in EXTREMES if number <= 1 or number >= (1 << 62) - 2])

    valid = chance.choice((1, 2, 4, 8, 16, 32, 16 | 32, 8 | 64, 8 | 2048, 2 | 4))
    size = chance.choice((0, 1, 4096, 65536))
    times = (long(), long(), long())
    setattr_in = struct.pack("=II6Q8I", valid, 0, fh, long(), 0, *times, *(short() for _ in range(8)))
    return [
        (4, setattr_in),
        (8, struct.pack("=4I", short(), short(), 0, 0) + b"made\0"),
        (14, struct.pack("=II", short(), short())),
        (15, struct.pack("=QQIIQII", chance.choice((fh, 0)), long(), size, 0, 0, 0, 0)),
        (16, struct.pack("=QQIIQII", fh, long(), 3, short(), 0, 0, 0) + b"abc"),
        (16, struct.pack("=QQIIQII", fh, 1 << chance.randrange(64), short(), 0, 0, 0, 0) + b"abc"),
        (18, struct.pack("=QIIQ", long() | 1 << 32, 0, 0, 0)),
        (20, struct.pack("=QII", long() | 1 << 32, short(), 0)),
        (21, struct.pack("=II", short(), short()) + b"user.x\0value"),
        (22, struct.pack("=II", short(), 0) + b"user.x\0"),
        (34, struct.pack("=II", short(), 0)),
        (43, struct.pack("=QQQII", fh, long(), length(), short() & 0x7F, 0)),
        (44, struct.pack("=QQIIQII", 0, long(), 4096, 0, 0, 0, 0)),
        (45, struct.pack("=QII", number, short(), 0) + b"made\0other\0"),
        (46, struct.pack("=QQII", fh, long(), short() if chance.random() < 0.3 else chance.choice((3, 4)), 0)),
        (47, struct.pack("=7Q", fh, long(), number, fh, long(), length(), 0)),
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_out_of_range_are_refused_with_their_errno(
    pretend: PretendKernel, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The error must not be EIO, which stands for an unexpected exception."""
    chance = random.Random(seed)
    pad = pad_of(pretend)
    seen, fh = pretend.create(pad, b"f", 0o644, os.O_RDWR)
    opened = set()
    for _ in range(STEPS // 60):
        for opcode, body in extreme_requests(pad, fh, chance):
            number = pad if opcode in (8, 44, 45) else seen.number
            try:
                answer = pretend.ask(opcode, number, body)
            except Failed as refused:
                assert refused.code != errno.EIO, f"request {opcode}: {body.hex()}"
                continue
            if opcode == 14:
                opened.add(struct.unpack_from("=Q", answer)[0])
        for handle in opened:
            with contextlib.suppress(Failed):
                pretend.release(seen.number, handle)
        opened.clear()
        pretend.state.recorder.written.discard(fh)
        with contextlib.suppress(OSError):
            os.truncate(pretend.top / "f", 5)
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert pretend.getattr(seen.number).size >= 0


def test_number_of_open_removed_files_is_bounded(pretend: PretendKernel) -> None:
    """Unbounded descriptors would take those of all other files; the kernel holds the rest by number alone."""
    pad, descriptors = pad_of(pretend), len(os.listdir("/proc/self/fd"))
    pretend.state.directories.max_removed = 10
    seen = [pretend.symlink(pad, b"%d" % number, b"text %d" % number) for number in range(30)]
    for number in range(30):
        pretend.unlink(pad, b"%d" % number)
    numbers = [attributes.number for attributes in seen if attributes is not None]
    assert pretend.readlink(numbers[29]) == b"text 29" and pretend.getattr(numbers[29]).links == 0
    with pytest.raises(Failed) as lost:
        pretend.getattr(numbers[0])
    assert lost.value.code in (errno.ENOENT, errno.ESTALE)
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 12, "those, the folder and the journal"
    for number in numbers:
        pretend.forget(number, 1)
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2


def test_resources_of_an_undelivered_response_are_released(
    pretend: PretendKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requester has gone when the response arrives: no file, handle or name may stay for it."""
    (pretend.top / "d").mkdir()
    for name in ("a", "b", "c"):
        (pretend.top / "d" / name).write_text("x")
    pad = pretend.lookup(ROOT, b"pad")
    assert pad is not None
    folder = pretend.lookup(pad.number, b"d")
    assert folder is not None
    before = len(pretend.state.nodes)
    monkeypatch.setattr(pretend.direct, "_reply", lambda unique, packed: False)
    pretend.tell(1, folder.number, b"a\0")  # lookup
    pretend.tell(35, folder.number, struct.pack("=4I", os.O_RDWR, 0o644, 0, 0) + b"new\0")  # create
    pretend.tell(44, folder.number, struct.pack("=QQIIQII", 0, 0, 4096, 0, 0, 0, 0))  # readdirplus
    assert len(pretend.state.nodes) == before
    assert not pretend.state.files


def found(pretend: PretendKernel, name: bytes, *, by_listing: bool) -> Seen:
    """Return a file of `pad` after the kernel has looked it up or listed it."""
    pad = pretend.lookup(ROOT, b"pad")
    assert pad is not None
    seen = pretend.names(pad.number, 4096).get(name) if by_listing else pretend.lookup(pad.number, name)
    assert seen is not None
    return seen


def answered(pretend: PretendKernel) -> int:
    """Return the number of requests that never reached Python."""
    keeper = pretend.direct.open_cache_backend
    return keeper.answered if devfuse.fastpath and isinstance(keeper, devfuse.fastpath.Loop) else 0


@pytest.mark.parametrize("by_listing", [True, False])
def test_looked_up_file_is_opened_without_another_lookup(pretend: PretendKernel, by_listing: bool) -> None:
    (pretend.top / "f").write_text("text")
    seen, before = found(pretend, b"f", by_listing=by_listing), answered(pretend)
    fh, keeps = pretend.open(seen.number, os.O_RDONLY)
    assert not keeps, "the kernel may have old data of it"
    assert pretend.read(seen.number, fh, 0, 10) == b"text"
    pretend.release(seen.number, fh)
    again, keeps = pretend.open(seen.number, os.O_RDONLY)
    assert keeps and again & fuse.DESCRIPTOR_MASK == fh, "the same descriptor, by a handle of its own"
    pretend.release(seen.number, again)
    if pretend.direct.open_cache_backend is not None:
        assert answered(pretend) - before == 5
        assert pretend.state.files[fh].path_text == "pad/f", "it is known all the same"


def another_file(at: Path) -> None:
    at.with_name("new").write_text("other")
    os.replace(at.with_name("new"), at)


def a_link(at: Path) -> None:
    at.unlink()
    at.symlink_to(at.parent.with_name("outside"))


def a_fifo(at: Path) -> None:
    at.unlink()
    os.mkfifo(at)


@pytest.mark.parametrize("put_there", [another_file, a_link, a_fifo])
def test_replacement_of_a_file_is_not_opened_in_its_place(
    pretend: PretendKernel, put_there: Callable[[Path], None]
) -> None:
    (pretend.top / "f").write_text("text")
    seen = found(pretend, b"f", by_listing=True)
    with open(pretend.top / "f"):  # so that its inode is not reused
        put_there(pretend.top / "f")
        with pytest.raises(Failed) as failed:
            pretend.open(seen.number, os.O_RDONLY)
    assert failed.value.code in (errno.ESTALE, errno.ELOOP)


def test_file_without_read_permission_is_not_opened(pretend: PretendKernel) -> None:
    for name in ("f", "g"):
        (pretend.top / name).write_text("text")
    seen, other = (found(pretend, name, by_listing=True) for name in (b"f", b"g"))
    fh, _ = pretend.open(other.number, os.O_RDONLY)
    pretend.release(other.number, fh)
    book = PolicyEngine()
    book.put_in_force((parse_allowance("**:l"),), {})
    pretend.state.access.apply_policy(book.wire)
    for number in (seen.number, other.number):
        with pytest.raises(Failed) as failed:
            pretend.open(number, os.O_RDONLY)
        assert failed.value.code == errno.EACCES


def test_file_is_looked_up_in_its_own_directory_after_descriptor_reuse(pretend: PretendKernel) -> None:
    """Use more directories than stay open, each with a file of the same name."""
    count = 700
    pad = pretend.lookup(ROOT, b"pad")
    assert pad is not None
    files = []
    for at in range(count):
        (pretend.top / str(at)).mkdir()
        (pretend.top / str(at) / "f").write_text(str(at))
        folder = pretend.lookup(pad.number, str(at).encode())
        assert folder is not None
        files.append(pretend.lookup(folder.number, b"f"))
    for at, file in enumerate(files):
        assert file is not None
        fh, _ = pretend.open(file.number, os.O_RDONLY)
        assert pretend.read(file.number, fh, 0, 10) == str(at).encode()
        pretend.release(file.number, fh)


def test_unopened_file_is_read_at_its_path(unopened: PretendKernel) -> None:
    """Read without open, as on read-only mounts, from the current file."""
    data = os.urandom(300_000)
    (unopened.top / "f").write_bytes(data)
    seen, before = found(unopened, b"f", by_listing=False), answered(unopened)
    assert unopened.read(seen.number, 0, 100, 1000) == data[100:1100]
    assert unopened.read(seen.number, 0, 0, 60_000) == data[:60_000]
    assert unopened.read(seen.number, 0, 290_000, 60_000) == data[290_000:]
    assert unopened.read(seen.number, 0, 300_000, 4096) == b""
    if unopened.direct.open_cache_backend is not None:
        assert answered(unopened) - before == 4
    assert not unopened.state.files
    another_file(unopened.top / "f")
    with pytest.raises(Failed) as failed:
        unopened.read(seen.number, 0, 0, 10)
    assert failed.value.code == errno.ESTALE


def test_number_of_another_file_is_not_returned_in_a_listing(
    pretend: PretendKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the number of a host inode that is too large to be encoded."""
    monkeypatch.setattr("ctxfs.fuse.inodes._INODE_BITS", 1)
    for name in ("a", "b", "c"):
        (pretend.top / name).write_text(name)
    pad = pretend.lookup(ROOT, b"pad")
    assert pad is not None
    names = pretend.names(pad.number, 4096)
    assert len({seen.number for seen in names.values()}) == 3
    for name, seen in names.items():
        assert pretend.references[seen.number] == 1, "as an entry and as attributes it has the same"
        fh, _ = pretend.open(seen.number, os.O_RDONLY)
        assert pretend.read(seen.number, fh, 0, 10) == name
        pretend.release(seen.number, fh)


_SIX = 6 * (152 + 8)


def pad_of(pretend: PretendKernel) -> int:
    pad = pretend.lookup(ROOT, b"pad")
    assert pad is not None
    return pad.number


def test_listing_ends_after_its_last_name_even_if_many_vanished(pretend: PretendKernel) -> None:
    for number in range(100):
        (pretend.top / f"{number:03}").touch()
    pad = pad_of(pretend)
    order = list(pretend.names(pad, 4096))
    first = pretend.piece(pad, 0, _SIX)
    assert [name for name, _, _ in first] == [b".", b"..", *order[:4]]
    for name in order[4:99]:
        (pretend.top / os.fsdecode(name)).unlink()
    last = pretend.piece(pad, first[-1][1], _SIX)
    assert [name for name, _, _ in last] == order[99:]
    assert not pretend.piece(pad, last[-1][1], _SIX)


def test_listing_continues_at_its_cookie_despite_changes(pretend: PretendKernel) -> None:
    """Remaining names appear, and appear once, even after so many other listings that the stream has been evicted."""
    for number in range(200):
        (pretend.top / f"{number:03}").touch()
    (pretend.top / "others").mkdir()
    pad, chance = pad_of(pretend), random.Random(1)
    kept = {b".", b"..", *(f"{number:03}".encode() for number in range(0, 200, 2))}
    names, cookie, turn = list[bytes](), 0, 0
    while piece := pretend.piece(pad, cookie, _SIX):
        names += [name for name, _, _ in piece]
        cookie = chance.choice(piece)[1]  # the entries behind it did not fit into the program's buffer
        del names[names.index(next(name for name, at, _ in piece if at == cookie)) + 1 :]
        for name in [name for name, _, _ in piece if name not in kept and name != b"others"]:
            (pretend.top / os.fsdecode(name)).unlink(missing_ok=True)
        (pretend.top / f"new-{turn}").touch()
        turn += 1
        for other in range(70):
            at = pretend.top / "others" / f"{turn}-{other}"
            at.mkdir()
            others = pretend.lookup(pad, b"others")
            assert others is not None
            seen = pretend.lookup(others.number, at.name.encode())
            assert seen is not None
            assert len(pretend.piece(seen.number, 0, 4096)) == 2
    assert turn > 15
    assert sorted(name for name in names if name in kept) == sorted(kept)
    assert len(names) == len(set(names))


def test_kernel_caches_no_listing_with_an_ambiguous_time_stamp(pretend: PretendKernel) -> None:
    """The kernel compares times: those of ticks, before Linux 6.13, are equal for two simultaneous changes."""
    pad = pad_of(pretend)
    (pretend.top / "f").touch()
    assert list(pretend.names(pad, 4096)) == [b"f"]
    assert pretend.dropped == [pad], "it has just changed"
    os.utime(pretend.top, (1, 1))
    assert list(pretend.names(pad, 4096)) == [b"f"]
    assert pretend.dropped == [pad], "it has not changed for long"
    (pretend.top / "g").touch()
    assert len(pretend.piece(pad, 0, 500)) == 3, "the reader of the fresh directory left"
    os.utime(pretend.top, (1, 1))
    assert len(pretend.names(pad, 4096)) == 2, "and another reader has gone on, for which the kernel has all names"
    assert pretend.dropped == [pad, pad]


def test_kernel_caches_no_listing_of_synthetic_names(pretend: PretendKernel) -> None:
    assert list(pretend.names(ROOT, 4096)) == [b"pad"]
    assert pretend.dropped == [ROOT]


def test_directory_lists_itself_and_its_parent(pretend: PretendKernel) -> None:
    """Check empty directories, too: without an entry the mount could not invalidate the listing."""
    pad = pad_of(pretend)
    os.utime(pretend.top)  # a fresh time stamp, however long this machine took to get here
    answer = pretend.ask(44, pad, struct.pack("=QQIIQII", 0, 0, 4096, 0, 0, 0, 0))
    dots = [(*struct.unpack_from("=QQII", answer, at + 128), answer[at + 152 : at + 160]) for at in (0, 160)]
    assert dots == [(pad, 1, 1, 4, b".".ljust(8, b"\0")), (ROOT, 2, 2, 4, b"..".ljust(8, b"\0"))]
    assert len(answer) == 320
    assert not pretend.ask(44, pad, struct.pack("=QQIIQII", 0, 2, 4096, 0, 0, 0, 0))
    assert pretend.dropped == [pad]


def test_unsupported_attributes_are_refused_without_a_request_to_python(pretend: PretendKernel) -> None:
    """The kernel requests one at the first write to every file."""
    (pretend.top / "f").write_text("x")
    seen, before = found(pretend, b"f", by_listing=False), answered(pretend)
    pretend.setxattr(seen.number, b"user.a", b"value", 0)
    assert pretend.getxattr(seen.number, b"user.a") == b"value"
    absent = (b"security.capability", b"trusted.user.a")
    unsupported = (b"security.selinux", b"system.posix_acl_access", b"use", b"User.a", b"")
    for names, code in ((absent, errno.ENODATA), (unsupported, errno.EOPNOTSUPP)):
        for name in names:
            with pytest.raises(Failed) as refused:
                pretend.getxattr(seen.number, name)
            assert refused.value.code == code, name
    if pretend.direct.open_cache_backend is not None:
        assert answered(pretend) - before == len(absent) + len(unsupported)


def test_forgotten_node_is_not_opened(pretend: PretendKernel) -> None:
    """The kernel sends no such request, and such a request must not end the mount."""
    (pretend.top / "f").write_text("text")
    seen = found(pretend, b"f", by_listing=False)
    pretend.forget(seen.number, 1)
    with pytest.raises(Failed) as failed:
        pretend.open(seen.number, os.O_RDONLY)
    assert failed.value.code == errno.ESTALE
    assert found(pretend, b"f", by_listing=False).size == 4


def test_end_of_a_listing_is_returned_without_a_request_to_python(pretend: PretendKernel) -> None:
    for number in range(6):
        (pretend.top / f"{number:03}").touch()
    os.utime(pretend.top, (1, 1))
    pad = pad_of(pretend)
    before = answered(pretend)
    last = pretend.piece(pad, 0, 4096)[-1][1]
    assert not pretend.piece(pad, last, 4096)
    if pretend.direct.open_cache_backend is not None:
        assert answered(pretend) - before == 1
    for number in range(6, 200):
        (pretend.top / f"{number:03}").touch()
    assert len(pretend.names(pad, _SIX)) == 200
    more = pretend.piece(pad, last, 1 << 16)
    assert {at for _, at, _ in more} == {at for _, at, _ in pretend.piece(pad, 0, 1 << 16) if at > last}


def test_module_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an old build beside new sources, Python serves files, and `ctxfs doctor` gives the reason."""
    module, reason = load_fastpath()
    assert (module, reason) == (devfuse.fastpath, "")
    monkeypatch.setattr(module, "INTERFACE", INTERFACE - 1)
    assert load_fastpath()[0] is None
    assert "install ctxfs again" in load_fastpath()[1]


def test_renames_between_directories_leave_no_descriptor_open(pretend: PretendKernel) -> None:
    """The cache of directories holds so few that opening one directory closes the other."""
    pad = pretend.lookup(ROOT, b"pad")
    assert pad is not None
    folders = [pretend.mkdir(pad.number, name, 0o755) for name in (b"one", b"two")]
    one, two = (seen.number for seen in folders if seen is not None)
    seen, fh = pretend.create(one, b"f", stat.S_IFREG | 0o644, os.O_WRONLY | os.O_CREAT)
    pretend.release(seen.number, fh)
    pretend.state.directories._max_open = 1
    pretend.rename(one, b"f", two, b"f", 0)
    pretend.rename(two, b"f", one, b"f", 0)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        pretend.rename(one, b"f", two, b"f", 0)
        pretend.rename(two, b"f", one, b"f", 0)
    assert len(os.listdir("/proc/self/fd")) == before
