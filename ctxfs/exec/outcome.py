"""The outcome of a run of a tool, independent of its kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run of a tool.

    `fault` is the reason why there is no result: a timeout, too much output, a failed start. `files` holds (name,
    content) of non-text results, such as pictures. `structured` is the result as a JSON value, if it is one.
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
        """Return True if the tool succeeded."""
        return not self.fault and self.exit_code == 0
