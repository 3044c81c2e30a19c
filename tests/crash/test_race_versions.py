"""Test restore, undo, redo and pull during appends through two mounts, on the host folder and over MCP.

Every line whose write has returned must be in some version or in the file. `CTXFS_RACE_ROUNDS` sets the number of
rounds: a few by default, many in `make test-crash`.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from mcp.client import Client as McpClient

from ctxfs.mcp_server.server import opened
from ctxfs.model.errors import CommandError
from ctxfs.rpc.client import Client
from ctxfs.store.layout import Layout
from ctxfs.store.settings import VersionSettings
from tests.live import Live, eventually
from tests.versions.conftest import ALICE, Past

pytestmark = pytest.mark.fuse
ROUNDS = int(os.environ.get("CTXFS_RACE_ROUNDS", "4"))
FILE = "memory/shared/log.md"
PAUSE = 0.005
OLD = "".join(f"old {number}\n" for number in range(40))


class Appender(threading.Thread):
    """A thread that appends lines until it is stopped; `said` are the lines whose write has returned."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True, name=name)
        self.said: list[str] = []
        self.done = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.append_all()
        except BaseException as error:
            self.failure = error

    def append_all(self) -> None:
        raise NotImplementedError

    def line(self) -> str:
        return f"{self.name} {len(self.said)}"


class FileAppender(Appender):
    """An appender that opens the file anew for each line, as `echo >>` does."""

    def __init__(self, name: str, file: Path) -> None:
        super().__init__(name)
        self.file = file

    def append_all(self) -> None:
        while not self.done.wait(PAUSE):
            line = self.line()
            with open(self.file, "a") as out:
                out.write(f"{line}\n")
            self.said.append(line)


class McpAppender(Appender):
    """An appender that uses `ctx_write`, which reads the file and replaces it."""

    def __init__(self, name: str, store: Path) -> None:
        super().__init__(name)
        self.store = store

    def append_all(self) -> None:
        anyio.run(self._append, backend="trio")

    async def _append(self) -> None:
        async with opened(Layout(self.store)) as server, McpClient(server) as client:
            while not self.done.is_set():
                line = self.line()
                arguments = {"path": FILE, "content": f"{line}\n", "mode": "append"}
                done = await client.call_tool("ctx_write", arguments)
                if not done.is_error:  # another writer may be faster each time, which the response reports
                    self.said.append(line)
                await anyio.sleep(PAUSE)


@contextlib.contextmanager
def appending(live: Live, *, with_mcp: bool = True) -> Iterator[list[Appender]]:
    places = {
        "mount": live.at / FILE,
        "other mount": live.at.parent / "mnt2" / FILE,
        "folder": live.store / "tree" / FILE,
    }
    writers: list[Appender] = [FileAppender(name, file) for name, file in places.items()]
    writers += [McpAppender("mcp", live.store)] if with_mcp else []
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        for writer in writers[:3]:
            writer.done.set()
        for writer in writers:
            # A writer that replaces the file succeeds at the latest when the other writers have ended.
            eventually(f"{writer.name} has appended", lambda writer=writer: writer.said or writer.failure, 60)
            writer.done.set()
            writer.join(timeout=60)
    for writer in writers:
        assert writer.failure is None, (writer.name, writer.failure)
        assert writer.said, f"{writer.name} has appended nothing"


@pytest.fixture
def raced(tmp_path: Path) -> Iterator[Live]:
    made = Live(tmp_path)
    made.run("init")
    config = made.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
    made.run("mount", str(made.at))
    made.run("mount", str(tmp_path / "mnt2"))
    (made.at / FILE).write_text(f"title 0\n{OLD}")
    made.run("commit")
    try:
        yield made
        assert [line for line in made.errors() if line["level"] == "ERROR"] == []
    finally:
        made.close()


def ask(live: Live, method: str, **arguments: object) -> dict[str, object]:
    client = Client(live.store / "run", timeout=60)
    try:
        answer: dict[str, object] = client.call(method, **arguments)
        return answer
    finally:
        client.close()


def answering_pid(live: Live) -> int:
    """Return the pid of the daemon that responds, 0 without one.

    Until a new daemon holds the lock, the lock file contains the pid of the killed one.
    """
    try:
        return int(str(ask(live, "ping")["pid"]))
    except (CommandError, OSError):
        return 0


def check_all_kept(live: Live, writers: list[Appender]) -> None:
    """Check that every line is in a version, and that the newest version equals the file."""
    live.run("commit")
    eventually(
        "the newest version is the file", lambda: live.run("show", FILE) == (live.store / "tree" / FILE).read_text()
    )
    command = ["git", f"--git-dir={live.store / 'repo.git'}", "log", "-p", "-m", "-U0", "--all"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kept = {line[1:] for line in text.splitlines() if line.startswith("+")}
    lost = {writer.name: [line for line in writer.said if line not in kept] for writer in writers}
    assert not any(lost.values()), f"in no version: {lost}"


def test_no_line_is_lost_by_a_restore(raced: Live) -> None:
    first = raced.run("log", FILE, "-n", "1").split()[0]
    left = 0
    with appending(raced) as writers:
        for _ in range(ROUNDS):
            left += bool(ask(raced, "restore", path=FILE, to=first)["kept"])
    check_all_kept(raced, writers)
    assert left <= ROUNDS // 2, f"{left} of {ROUNDS} restores left the file alone"


def test_no_line_is_lost_by_undo_and_redo(raced: Live) -> None:
    with appending(raced) as writers:
        for number in range(ROUNDS):
            with contextlib.suppress(CommandError):  # nothing is left to redo: another line came first
                ask(raced, "redo" if number % 2 else "undo", path=FILE)
    check_all_kept(raced, writers)


def test_no_line_is_lost_by_restoring_the_directory(raced: Live) -> None:
    first = raced.run("log", FILE, "-n", "1").split()[0]
    (raced.at / "memory/shared/other.md").write_text("new")
    with appending(raced) as writers:
        for _ in range(ROUNDS // 2):
            ask(raced, "restore", path="memory", to=first)
    check_all_kept(raced, writers)


# Writers without a pause append more lines the longer a pull takes, so every few turns begin with a new file.
@pytest.mark.parametrize("run", range(max(1, ROUNDS // 13)))
def test_pull_during_writes_keeps_the_changes_of_both_machines(run: int, raced: Live, tmp_path: Path) -> None:
    del run
    hub = tmp_path / "hub.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(hub)], check=True)
    raced.run("remote", "add", "hub", str(hub), "--trusted")
    raced.run("remote", "push", "hub")
    elsewhere = Past(tmp_path / "elsewhere", large_from=VersionSettings().large_bytes)  # text merges with text
    try:
        elsewhere.archive.remotes.add("hub", str(hub))
        elsewhere.archive.remotes.pull("hub", ALICE)
        with appending(raced) as writers:
            for turn in range(1, max(2, min(5, ROUNDS // 3)) + 1):
                text = (elsewhere.tree / FILE).read_text()
                elsewhere.version(FILE, f"title {turn}\n" + text.partition("\n")[2])
                elsewhere.archive.remotes.push("hub")
                ask(raced, "pull", name="hub")
                assert (raced.at / FILE).read_text().startswith(f"title {turn}\n"), (
                    "the other machine's change is undone"
                )
                raced.run("remote", "push", "hub")
                elsewhere.archive.remotes.pull("hub", ALICE)
                assert (elsewhere.tree / FILE).read_text().startswith(f"title {turn}\n"), "it is undone over there, too"
        check_all_kept(raced, writers)
        text = (raced.at / FILE).read_text()
        assert [line for writer in writers for line in writer.said if f"{line}\n" not in text] == []
        assert text.startswith(f"title {turn}\n")
    finally:
        elsewhere.close()


def test_no_line_is_lost_when_the_daemon_is_killed_while_it_restores(raced: Live) -> None:
    first = raced.run("log", FILE, "-n", "1").split()[0]

    def restore(stop: threading.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(CommandError, OSError):
                ask(raced, "restore", path=FILE, to=first)

    with appending(raced, with_mcp=False) as writers:
        for number in range(max(2, ROUNDS // 5)):
            daemon = eventually("a daemon answers", lambda: answering_pid(raced), 60)
            stop = threading.Event()
            thread = threading.Thread(target=restore, args=(stop,), daemon=True)
            thread.start()
            threading.Event().wait(0.05 + 0.013 * (number % 20))  # the moment of the kill varies
            os.kill(daemon, signal.SIGKILL)
            stop.set()
            thread.join(timeout=60)
        eventually("a daemon answers again", lambda: answering_pid(raced), 60)
    check_all_kept(raced, writers)


def wait_open(live: Live, act: Callable[[], dict[str, object]]) -> dict[str, object]:
    with open(live.at / FILE, "a") as out:
        out.write("kept open\n")
        out.flush()
        answer = act()
        out.write("still there\n")
    return answer


def test_a_file_that_stays_open_for_writing_is_left_and_named(raced: Live) -> None:
    first = raced.run("log", FILE, "-n", "1").split()[0]
    answer = wait_open(raced, lambda: ask(raced, "restore", path=FILE, to=first))
    assert (answer["kept"], answer["reasons"]) == ([FILE], ["open for writing"])
    assert (raced.at / FILE).read_text().endswith("kept open\nstill there\n")


def test_a_pull_that_meets_a_file_open_for_writing_is_refused_whole(raced: Live, tmp_path: Path) -> None:
    hub = tmp_path / "hub.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(hub)], check=True)
    raced.run("remote", "add", "hub", str(hub), "--trusted")
    raced.run("remote", "push", "hub")
    elsewhere = Past(tmp_path / "elsewhere")
    try:
        elsewhere.archive.remotes.add("hub", str(hub))
        elsewhere.archive.remotes.pull("hub", ALICE)
        elsewhere.write("memory/shared/a.md", "from elsewhere")
        elsewhere.version(FILE, f"title 1\n{OLD}")
        elsewhere.archive.remotes.push("hub")
        with open(raced.at / FILE, "a") as out:
            with pytest.raises(CommandError, match="open for writing: nothing was pulled"):
                ask(raced, "pull", name="hub")
            assert not (raced.at / "memory/shared/a.md").exists()
            out.write("still there\n")
        ask(raced, "pull", name="hub")
        assert (raced.at / FILE).read_text() == f"title 1\n{OLD}still there\n"
        assert (raced.at / "memory/shared/a.md").read_text() == "from elsewhere"
    finally:
        elsewhere.close()
