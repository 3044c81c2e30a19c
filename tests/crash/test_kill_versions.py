"""Test that a SIGKILL of the daemon during writes, renames, labels, rollback, packing and erasure loses nothing.

`CTXFS_VERSIONS_ROUNDS` sets the number of rounds: a few by default, 200 in `make test-crash`.
"""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.fulltext import FullText
from ctxfs.index.ingest.ingester import Ingester
from ctxfs.index.options import IndexedRoot
from ctxfs.model.errors import CommandError
from ctxfs.rpc.client import Client
from ctxfs.store.lock import StoreLock
from tests.live import Live, eventually
from tests.versions.conftest import Past, check_sound

pytestmark = pytest.mark.fuse
ROUNDS = int(os.environ.get("CTXFS_VERSIONS_ROUNDS", "4"))
SEED = int(os.environ.get("CTXFS_CRASH_SEED", "11"))

Model = dict[str, tuple[bytes | str | None, dict[str, bytes]]]


class Writer(threading.Thread):
    """A writer on the mount; `model` contains the results of its finished operations."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.chance = random.Random(seed)
        self.model: Model = {}
        self.turn = threading.Lock()
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        folder.mkdir()

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                with self.turn:
                    self._step()
                self.stop.wait(self.chance.random() * 0.01)
        except BaseException as error:
            self.failure = error

    def _files(self) -> list[str]:
        return [name for name, (data, _) in self.model.items() if isinstance(data, bytes)]

    def _step(self) -> None:
        files = self._files()
        action = self.chance.choice(("write", "write", "append", "rename", "remove", "label", "link", "large"))
        name = f"{self.chance.randrange(40):02}.md"
        if action in ("write", "large") or not files:
            data = os.urandom(300_000 if action == "large" and self.chance.random() < 0.1 else 50).hex().encode()
            with open(self.folder / name, "wb") as file:
                file.write(data)
                if self.chance.random() < 0.1:
                    os.fsync(file.fileno())
            self.model[name] = (data, self.model.get(name, (b"", {}))[1] if name in files else {})
        elif action == "append":
            name = self.chance.choice(files)
            with open(self.folder / name, "ab") as file:
                file.write(b"more")
            data, xattrs = self.model[name]
            assert isinstance(data, bytes)
            self.model[name] = (data + b"more", xattrs)
        elif action == "rename":
            old = self.chance.choice(files)
            os.rename(self.folder / old, self.folder / name)
            if old != name:
                self.model[name] = self.model.pop(old)
        elif action == "remove":
            name = self.chance.choice(files)
            (self.folder / name).unlink()
            del self.model[name]
        elif action == "label":
            name = self.chance.choice(files)
            value = f"{self.chance.random():.3f}".encode()
            os.setxattr(self.folder / name, "user.ctx.confidence", value)
            self.model[name][1]["user.ctx.confidence"] = value
        elif name.replace(".md", ".link") not in self.model:
            os.symlink(f"to {name}", self.folder / name.replace(".md", ".link"))
            self.model[name.replace(".md", ".link")] = (f"to {name}", {})


class Meddler(threading.Thread):
    """A client that requests rollbacks, packing and erasures from the daemon in a loop."""

    def __init__(self, live: Live, seed: int) -> None:
        super().__init__(daemon=True)
        self.live = live
        self.chance = random.Random(seed)
        self.stop = threading.Event()
        self.forgotten: set[bytes] = set()
        self.turn = threading.Lock()
        self.failure: BaseException | None = None
        for folder in ("rolled", "secret"):
            (live.at / "memory" / folder).mkdir()

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                with self.turn:
                    rolled = self.live.at / "memory" / "rolled" / f"{self.chance.randrange(10)}.md"
                    rolled.parent.mkdir(exist_ok=True)  # an undo may restore a state from before this directory
                    rolled.write_text(os.urandom(20).hex())
                with contextlib.suppress(CommandError, OSError):
                    client = Client(self.live.store / "run", timeout=20)
                    try:
                        self._ask(client)
                    finally:
                        client.close()
                self.stop.wait(self.chance.random() * 0.05)
        except BaseException as error:
            self.failure = error

    def _ask(self, client: Client) -> None:
        what = self.chance.choice(("undo", "undo", "redo", "restore", "upkeep", "forget", "snapshot", "commit"))
        if what in ("undo", "redo"):
            client.call(what, path="memory/rolled")
        elif what == "restore":
            steps = client.call("log", path="memory/rolled", limit=20)
            client.call("restore", path="memory/rolled", to=self.chance.choice(steps)["revision"])
        elif what == "upkeep":
            client.call("upkeep")
        elif what == "snapshot":
            client.call("snapshot", name=f"snap-{self.chance.randrange(10**9)}")
        elif what == "forget":
            secret = b"secret " + os.urandom(10).hex().encode()
            name = f"{hashlib.sha256(secret).hexdigest()[:8]}.md"
            with self.turn:
                (self.live.at / "memory" / "secret" / name).write_bytes(secret)
            client.call("commit")
            client.call("forget", path=f"memory/secret/{name}")
            self.forgotten.add(secret)
        else:
            client.call("commit")


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def copy_store(live: Live, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    parts = [live.store / name for name in ("tree", "repo.git", "journal", "large", "ctxfs.toml", "index/history.db")]
    parts += list((live.store / "index").glob("history.db-wal"))
    (target / "index").mkdir()
    for part in parts:
        if part.exists():
            where = target / "index" if part.parent.name == "index" else target
            subprocess.run(["cp", "-a", str(part), str(where)], check=True)


def check_copy(folder: Path, models: dict[str, Model], forgotten: set[bytes], *, rebuild: bool = True) -> None:
    past = Past(folder)  # recovers
    try:
        for area, model in models.items():
            check_files(past.tree / area, model)
        for secret in forgotten:
            assert not past.archive.core.ledger.repo.has(blob_id(secret)), "erased content is back"
        check_sound(past, rebuild=rebuild)
        past.crash()
        assert past.reopen() == [], "recovering again made other versions"
        for area, model in models.items():
            check_files(past.tree / area, model)
    finally:
        past.close()


def check_files(folder: Path, model: Model) -> None:
    assert {path.name for path in folder.iterdir()} == set(model)
    for name, (data, xattrs) in model.items():
        if isinstance(data, str):
            assert os.readlink(folder / name) == data
            continue
        assert (folder / name).read_bytes() == data, name
        attributes = {key: os.getxattr(folder / name, key) for key in os.listxattr(folder / name)}
        assert attributes == xattrs, name


def kill_daemon(live: Live) -> None:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
        pid = live.daemon_pid()
        # The pid may belong to an earlier daemon, or to this test, which holds the lock too; pids are reused.
        if str(live.store) in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)


def kill_git(live: Live) -> None:
    """Kill the git processes of a killed daemon.

    They may run on for a moment and remove their files. A power cut would end them, too.
    """

    def mine() -> list[int]:
        pids = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                process_data = (process / "cmdline").read_bytes() + b"\0" + (process / "environ").read_bytes()
                if (process / "comm").read_text().startswith("git") and os.fsencode(
                    live.store / "repo.git"
                ) in process_data:
                    pids.append(int(process.name))
        return pids

    def ended() -> bool:
        for pid in mine():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not mine()

    eventually("no git is at work in the store", ended)


def hold_lock(live: Live) -> StoreLock:
    lock = StoreLock(live.store / "run")

    def acquired() -> bool:
        try:
            lock.acquire()
        except CommandError:
            kill_daemon(live)
            return False
        return True

    eventually("the store has no owner", acquired)
    return lock


def test_no_write_is_lost_by_any_kill_of_the_daemon(own_live: Live, tmp_path: Path) -> None:
    live, chance = own_live, random.Random(SEED)
    config = live.store / "ctxfs.toml"
    live.run("unmount", "--all")
    config.write_text(
        config.read_text()
        .replace("[versions]", "[versions]\nlarge_bytes = 100000\nwindow_ms = 30")
        .replace("[index]", "[index]\nmeaning = false")
    )
    live.run("mount", str(live.at))
    writers = [Writer(live.at / "memory" / f"w{number}", SEED + number) for number in range(2)]
    meddler = Meddler(live, SEED + 10)
    workers = [*writers, meddler]
    for worker in workers:
        worker.start()
    try:
        for round_number in range(ROUNDS):
            threading.Event().wait(chance.uniform(0.05, 0.6))  # the moment of the kill is random
            kill_daemon(live)
            with contextlib.ExitStack() as paused:
                for worker in workers:
                    paused.enter_context(worker.turn)
                forgotten = set(meddler.forgotten)
                lock = hold_lock(live)
                kill_git(live)
                copy_store(live, tmp_path / "copy")
                lock.release()
                models = {f"memory/{w.folder.name}": dict(w.model) for w in writers}
                models = {area: {n: (d, dict(x)) for n, (d, x) in model.items()} for area, model in models.items()}
            # Rebuilding the path index takes longer with every round.
            check_copy(tmp_path / "copy", models, forgotten, rebuild=round_number % 5 == 0)
            for worker in workers:
                assert worker.failure is None, (round_number, worker.failure)
            eventually("a daemon answers again", lambda: live.try_run("status").returncode == 0)
    finally:
        for worker in workers:
            worker.stop.set()
        for worker in workers:
            worker.join(timeout=30)
    eventually("everything is committed", lambda: live.try_run("commit").returncode == 0)
    check_search(live, tmp_path)
    for writer in writers:
        check_files_on_mount(writer)
    live.run("unmount", "--all")
    check_copy(live.store, {f"memory/{w.folder.name}": w.model for w in writers}, meddler.forgotten)


def check_files_on_mount(writer: Writer) -> None:
    for name, (data, _) in writer.model.items():
        if isinstance(data, bytes):
            assert (writer.folder / name).read_bytes() == data


def check_search(live: Live, tmp_path: Path) -> None:
    """Check that the index contains the same rows as an index built from nothing."""

    def listed(folder: Path) -> set[tuple[str, bytes | None, str, tuple[tuple[str, str], ...]]]:
        catalog = Catalog(folder, read_only=True)
        try:
            return {
                (path, row.sha256, row.state, tuple(catalog.attributes(row.id)))
                for path, row in catalog.files_of("memory").items()
            }
        finally:
            catalog.close()

    catalog = Catalog(tmp_path / "fresh")
    follower = Ingester(catalog, FullText(tmp_path / "fresh" / "words", make=True), 4_000_000, lambda _: None)
    follower.set_roots([IndexedRoot("memory", str(live.store / "tree" / "memory"), gitignore=False)])
    follower.scan_all()
    follower.close()
    fresh = listed(tmp_path / "fresh")
    eventually("search has caught up", lambda: listed(live.store / "index") == fresh, 60)
