"""The interface by which parts of a store add to its event log."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Recorder(Protocol):
    """A writer of event records."""

    async def remember(self, principal: str, records: Sequence[Mapping[str, object]], session: str = "") -> None:
        """Append records of completed actions of a principal [default session: the calling one]. Failures are logged only."""
        ...
