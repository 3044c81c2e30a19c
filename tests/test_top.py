"""The commands top and log --watch, on a terminal and in a pipe."""

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.live import Live, eventually

pytestmark = pytest.mark.long  # each test has a mount of its own


class Watched:
    """A command on a terminal of its own, or with a pipe, whose output is collected while it runs."""

    def __init__(self, command: list[str], *, on_terminal: bool) -> None:
        self._output = b""
        read, write = pty.openpty() if on_terminal else os.pipe()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "50", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, stdout=write, stderr=write, stdin=subprocess.DEVNULL, env=environment)
        os.close(write)
        self._thread = threading.Thread(target=self._collect, args=(read,), daemon=True)
        self._thread.start()

    def _collect(self, descriptor: int) -> None:
        with open(descriptor, "rb", buffering=0) as opened:
            while True:
                try:
                    data = opened.read(65536)
                except OSError:  # the other end of a terminal is closed
                    return
                if not data:
                    return
                self._output += data

    @property
    def text(self) -> str:
        return self._output.decode("utf-8", "replace")

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=30)
        self._thread.join(timeout=30)
        return code


@pytest.fixture
def watched() -> Iterator[list[Watched]]:
    """Yield a list; the commands in it are killed at the end."""
    started: list[Watched] = []
    yield started
    for command in started:
        command.process.kill()
        command.process.wait()


def test_top_in_a_pipe_prints_the_state_once(own_live: Live) -> None:
    own_live.try_run("search", "keys")
    (own_live.at / "memory" / "\x1b[31mred").write_text("x")
    text = own_live.run("top")
    assert "words" in text
    assert "last hour" in text
    assert "search" in text
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text
    report = json.loads(own_live.run("top", "--json"))
    assert report["activity"]["principals"][0]["writes"] >= 1
    assert {"status", "activity", "reviews", "operations", "waiting"} == set(report)


def test_top_on_a_terminal_shows_operations_as_they_happen(own_live: Live, watched: list[Watched]) -> None:
    watched.append(Watched(own_live.command("top", "--interval", "30"), on_terminal=True))
    eventually("the screen", lambda: "last hour" in watched[0].text)
    (own_live.at / "memory" / "quetzal.md").write_text("x")
    eventually("the write is shown long before the interval ends", lambda: "quetzal.md" in watched[0].text, 20)
    assert watched[0].interrupt() == 0
    assert watched[0].text.endswith("\x1b[?25h\x1b[?1049l"), "the cursor and the screen are as before"


def test_top_is_for_people(own_live: Live) -> None:
    token = own_live.run("token", "issue", "agent:bob").strip()
    done = subprocess.run(
        own_live.command("top"), env={**os.environ, "CTXFS_TOKEN": token}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "it is for people" in done.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_log_follows_new_versions(own_live: Live, watched: list[Watched], as_json: bool) -> None:
    note = own_live.at / "memory" / "note.md"
    note.write_text("one")
    own_live.run("commit")
    options = ["--json"] if as_json else ["--stat"]
    watched.append(Watched(own_live.command("log", "memory/note.md", "--watch", *options), on_terminal=False))
    eventually("the first version", lambda: watched[0].text.count("note.md") >= 1)
    before = watched[0].text
    note.write_text("two")
    own_live.run("commit")
    eventually("the new version", lambda: len(watched[0].text) > len(before))
    assert watched[0].interrupt() == 0
    if as_json:
        versions = [json.loads(line) for line in watched[0].text.splitlines()]
        assert len({version["revision"] for version in versions}) == len(versions) == 2
        assert versions[0]["time"] <= versions[1]["time"]
