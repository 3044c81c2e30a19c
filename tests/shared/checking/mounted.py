"""A node with a daemon and a kernel mount, a thread that works in it, and the outcome that it may expect."""

import contextlib
import errno
import os
import random
import threading
from pathlib import Path

from tests.live import Live, eventually

LOGS = ("memory/shared/log.jsonl", "memory/shared/notes.md")
CONTESTED = tuple(f"memory/shared/contested{number}.md" for number in range(4))
_BACK_SECONDS = 90.0  # until the mount of a killed daemon serves again


class Worker(threading.Thread):
    """Operations at one mount. A call that returns is acknowledged; one that fails may have happened or not.

    `own` holds the contents that each path of this node may have (None: it is absent), `lines` the acknowledged lines of
    a log, `doubtful` those of failed calls, and `removed` the contested contents that this node has replaced.
    """

    def __init__(self, live: Live, name: str, seed: int) -> None:
        super().__init__(daemon=True, name=name)
        self.live = live
        self.own: dict[str, set[bytes | None]] = {}
        self.lines: dict[str, list[bytes]] = {path: [] for path in LOGS}
        self.doubtful: set[bytes] = set()
        self.written: set[bytes] = set()
        self.removed: set[bytes] = set()
        self.done = 0
        self.failed = 0
        self.stopping = threading.Event()
        self.fault: BaseException | None = None
        self._chance = random.Random(seed)
        self._tokens = 0
        self._folder = f"memory/{name}"

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self._step()
        except BaseException as error:
            self.fault = error

    def wait_until(self, done: int) -> None:
        """Wait until this worker has done so many operations."""
        eventually(f"{self.name} does {done} operations", lambda: self.fault or self.done >= done, 120)
        if self.fault:
            raise self.fault

    def _step(self) -> None:
        work = self._chance.choices(
            (self._append, self._contest, self._write, self._add, self._remove, self._rename, self._large, self._many),
            (30, 12, 20, 10, 6, 8, 2, 1),
        )[0]
        try:
            work()
            self.done += 1
        except OSError:
            self.failed += 1
            eventually("the mount is back", self._is_back, _BACK_SECONDS)

    def _is_back(self) -> bool:
        with contextlib.suppress(OSError):
            return (self.live.at / "memory/shared").is_dir() or self.stopping.is_set()
        return self.stopping.is_set()

    def _token(self) -> bytes:
        self._tokens += 1
        return f"<{self.name}.{self._tokens}>".encode()

    def _append(self) -> None:
        path, token = self._chance.choice(LOGS), self._token()
        self.doubtful.add(token)
        with (self.live.at / path).open("ab", buffering=0) as file:
            file.write(token + b"\n")
        self.doubtful.discard(token)
        self.lines[path].append(token)

    def _contest(self) -> None:
        """Replace a file of all nodes. It is open meanwhile, so that no change of another node comes between."""
        path, token = self._chance.choice(CONTESTED), self._token()
        descriptor = os.open(self.live.at / path, os.O_RDWR)
        try:
            old = os.read(descriptor, 10_000)
            self.removed.update(old.split())
            self.doubtful.add(token)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, token + b"\n", 0)
        finally:
            os.close(descriptor)
        self.doubtful.discard(token)
        self.written.add(token)

    # files of this node only

    def _path(self) -> str:
        return f"{self._folder}/{self._chance.choice('abcdefgh')}.md"

    def _content(self, path: str) -> bytes | None:
        """Return the content, which must be an expected one.

        While a killed node is not mounted again, its mount point is an empty directory: then raise OSError ENOTCONN.
        """
        for _ in range(2):
            with contextlib.suppress(FileNotFoundError):
                content: bytes | None = (self.live.at / path).read_bytes()
                assert content in self.own.get(path, {None}), f"{path}: {content!r}, not {self.own.get(path)}"
                return content
            if not (self.live.at / "memory/shared").is_dir():
                raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), path)
        assert None in self.own.get(path, {None}), f"{path} is absent, not {self.own[path]}"
        return None

    def _write(self, content: bytes = b"") -> None:
        path, content = self._path(), content or self._token() + b"\n"
        old = self._content(path)
        (self.live.at / path).parent.mkdir(exist_ok=True)
        self.own[path] = {old, b"", content}
        (self.live.at / path).write_bytes(content)
        self.own[path] = {content}

    def _large(self) -> None:
        self._write(self._token() + b"\n" + self._chance.randbytes(1_500_000))

    def _add(self) -> None:
        path, token = self._path(), self._token() + b"\n"
        old = self._content(path)
        if old is None:
            return
        self.own[path] = {old, old + token}
        with (self.live.at / path).open("ab", buffering=0) as file:
            file.write(token)
        self.own[path] = {old + token}

    def _remove(self) -> None:
        path = self._path()
        old = self._content(path)
        if old is not None:
            self.own[path] = {old, None}
            (self.live.at / path).unlink()
            self.own[path] = {None}

    def _rename(self) -> None:
        source, target = self._path(), self._chance.choice((self._path(), self._path().swapcase()))
        target = f"{self._folder}/{Path(target).name}"
        content, old = self._content(source), self._content(target)
        if content is None or source == target:
            return
        self.own[source], self.own[target] = {content, None}, {old, content}
        (self.live.at / source).rename(self.live.at / target)
        self.own[source], self.own[target] = {None}, {content}

    def _many(self) -> None:
        folder = f"{self._folder}/many{self._chance.randrange(2)}"
        for made in (self._folder, folder):  # not with parents: without the mount that would make a directory below it
            (self.live.at / made).mkdir(exist_ok=True)
        for number in range(60):
            path, content = f"{folder}/{number}.md", self._token()
            old = self._content(path)
            self.own[path] = {old, b"", content}
            (self.live.at / path).write_bytes(content)
            self.own[path] = {content}


def tree_of(live: Live) -> dict[str, bytes]:
    """Return the contents of the versioned files."""
    files = (path for area in ("memory", "pad") for path in (live.store / "tree" / area).rglob("*") if path.is_file())
    return {str(path.relative_to(live.store / "tree")): path.read_bytes() for path in files}


def faults_of(workers: list[Worker], tree: dict[str, bytes]) -> list[str]:
    """Return the differences between the common tree of settled nodes and the acknowledged work."""
    faults = []
    for worker in workers:
        for path, allowed in worker.own.items():
            if tree.get(path) not in allowed:
                faults.append(
                    f"{path} is {tree.get(path, b'absent')[:60]!r}, not {[(c or b'-')[:60] for c in allowed]}"
                )
    for path in LOGS:
        found = tree[path].split()
        written = [line for worker in workers for line in worker.lines[path]]
        faults += [f"{line!r} is {found.count(line)} times in {path}" for line in written if found.count(line) != 1]
        doubtful = {line for worker in workers for line in worker.doubtful}
        faults += [f"{line!r} of a failed call is there twice" for line in doubtful if found.count(line) > 1]
    everything = b"".join(content for path, content in tree.items() if "contested" in path)
    removed = {token for worker in workers for token in worker.removed}
    lost = [token for worker in workers for token in worker.written if token not in removed and token not in everything]
    faults += [f"{token!r} is lost: no file and no conflict file has it" for token in lost]
    return faults
