"""Test ctxfs review on a terminal: keys decide, undo and skip, and a decision made elsewhere stays."""

import json
import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import BOUND, Live, eventually
from tests.web.test_review import decision, open_claim

pytestmark = pytest.mark.long  # a store of its own
PROMPT = "[q]uit"


class Terminal:
    """A command on a terminal that the test types on."""

    def __init__(self, command: list[str]) -> None:
        self.output = ""
        self._main, terminal = pty.openpty()
        self.process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while True:
            try:
                data = os.read(self._main, 65536)
            except OSError:  # the other end of the terminal is closed
                return
            self.output += data.decode("utf-8", "replace")

    def type(self, keys: str, prompts: int) -> None:
        """Type keys when this many prompts have been shown."""
        eventually(f"prompt {prompts}", lambda: self.output.count(PROMPT) >= prompts)
        os.write(self._main, keys.encode())

    def end(self) -> str:
        assert self.process.wait(BOUND) == 0, self.output
        self._thread.join(BOUND)
        os.close(self._main)
        return self.output


@pytest.fixture
def terminal(own_live: Live) -> Iterator[Terminal]:
    for number in (1, 2, 3):
        open_claim(own_live, f"claim{number}", f"Tokens of team {number} expire after 90 days.")
    hostile = own_live.store / "tree/human/review/claim1/evidence.md"
    hostile.write_text("> Tokens expire after 30 days.\n\x1b[2J\u202e\n")
    made = Terminal(own_live.command("review"))
    yield made
    made.process.kill()
    made.process.wait()


def test_keys_decide_undo_and_skip(own_live: Live, terminal: Terminal) -> None:
    terminal.type("x", 1)  # no key of the prompt
    terminal.type("u", 2)  # there is nothing to undo yet
    terminal.type("a", 3)
    terminal.type("u", 4)
    terminal.type("rrrr", 5)  # one key a review: more of them saw none
    terminal.type("e", 6)
    eventually("the text is asked for", lambda: "as it should read" in terminal.output)
    os.write(terminal._main, b"Tokens of team 2 expire after 30 days.\n")
    terminal.type("s", 7)
    text = terminal.end()
    assert "> Tokens expire after 30 days." in text, "the evidence is shown"
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert "no decision to undo" in text
    assert [decision(own_live, f"claim{number}") for number in (1, 2, 3)] == ["reject", "edit", ""]
    waiting = [row["id"] for row in json.loads(own_live.run("review", "--json"))]
    assert waiting == ["claim3"]


def test_decision_made_elsewhere_stays_and_is_told(own_live: Live, terminal: Terminal) -> None:
    eventually("the first prompt", lambda: PROMPT in terminal.output)
    own_live.run("review", "claim1", "reject")
    terminal.type("a", 1)
    terminal.type("q", 2)
    assert "claim1: " in terminal.end()
    assert decision(own_live, "claim1") == "reject"
    assert not Path(own_live.store / "tree/human/review/claim2/outcome.json").exists()
