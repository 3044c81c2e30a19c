"""What came of running a tool, whatever ran it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`fault` says why it is no answer: it timed out, said too much, could not be started. `files`: (name, content) of what is no
    text, such as pictures; `structured`: a JSON value, where the answer is one.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    seconds: float
    fault: str = ""
    structured: Any = None
    files: Sequence[tuple[str, bytes]] = ()

    @property
    def ok(self) -> bool:
        """True for an answer."""
        return not self.fault and self.exit_code == 0
