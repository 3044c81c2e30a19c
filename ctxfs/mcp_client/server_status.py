"""The status of the connection to an MCP server."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ctxfs.model.path import one_line

MAX_REASON_CHARS = 500


class ServerPhase(Enum):
    """The phase of a connection. The values are shown to users."""

    NOT_CONNECTED = "not connected"
    CONNECTING = "connecting"
    READY = "ready"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The phase of a connection, and the reason for it if the server is down.

    The reason may contain text of the server: `down` and `server_status_from_wire` make it safe for one line of a
    terminal, and bound it.
    """

    phase: ServerPhase
    reason: str = ""

    @property
    def is_settled(self) -> bool:
        """True if the phase changes only by an event: the server is ready or down."""
        return self.phase in (ServerPhase.READY, ServerPhase.DOWN)

    @property
    def text(self) -> str:
        """Return the status in one line, such as `down: the program ended`."""
        return f"{self.phase.value}: {self.reason}" if self.reason else self.phase.value

    def to_wire(self) -> dict[str, str]:
        """Return {phase, reason}."""
        return {"phase": self.phase.value, "reason": self.reason}


NOT_CONNECTED = ServerStatus(ServerPhase.NOT_CONNECTED)
CONNECTING = ServerStatus(ServerPhase.CONNECTING)
READY = ServerStatus(ServerPhase.READY)


def down(reason: str) -> ServerStatus:
    """Return the status of a server that is down for a reason in one line."""
    return ServerStatus(ServerPhase.DOWN, one_line(" ".join(reason.split()))[:MAX_REASON_CHARS])


def server_status_from_wire(value: Mapping[str, Any]) -> ServerStatus:
    """Return the status from the value of `to_wire`. Raise KeyError or ValueError for another value."""
    phase = ServerPhase(value["phase"])
    return down(str(value["reason"])) if phase is ServerPhase.DOWN else ServerStatus(phase)
