"""`run/mounts.json`: current mount points, so that the next daemon can replace dead ones, and all earlier ones.

Format: `{"mounted": [{"at", "principal", "read_only", "branch"}, …], "known": [path, …]}`.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path as HostPath

import trio

from ctxfs.store.durable_file import replace_text
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

_MAX_EARLIER = 200


@dataclass(frozen=True, slots=True)
class MountRecord:
    """A mount point and the options of its request."""

    at: str
    principal: str
    read_only: bool
    branch: str = ""


class MountRecords:
    """The contents of the file, read by the constructor.

    A damaged file counts as empty, because it only saves people a `ctxfs mount`.
    """

    def __init__(self, run: HostPath) -> None:
        self._file = run / "mounts.json"
        self._saving = trio.Lock()
        self._mounted: dict[str, MountRecord] = {}
        self._earlier: dict[str, None] = {}
        try:
            self._parse(json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            self._mounted, self._earlier = {}, {}

    @property
    def mounted(self) -> list[MountRecord]:
        """Return the records of the current mount points."""
        return list(self._mounted.values())

    def was_mounted(self, mountpoint: str) -> bool:
        """Return True if the store was mounted there before."""
        return mountpoint in self._earlier

    async def put(self, record: MountRecord) -> None:
        """Record a mount."""
        if self._mounted.get(record.at) == record:
            return
        self._mounted[record.at] = record
        self._earlier.pop(record.at, None)
        self._earlier[record.at] = None
        await self._save()

    async def drop(self, mountpoint: str) -> None:
        """Record an unmount."""
        if self._mounted.pop(mountpoint, None) is not None:
            await self._save()

    def _parse(self, value: dict[str, list[dict[str, object]]]) -> None:
        for entry in value["mounted"]:
            branch = str(entry.get("branch", ""))
            record = MountRecord(str(entry["at"]), str(entry["principal"]), bool(entry["read_only"]), branch)
            self._mounted[record.at] = record
        self._earlier = dict.fromkeys(map(str, value["known"]))

    async def _save(self) -> None:
        async with self._saving:
            for mountpoint in list(self._earlier)[:-_MAX_EARLIER]:
                del self._earlier[mountpoint]
            mounted = [asdict(record) for record in self._mounted.values()]
            text = json.dumps({"mounted": mounted, "known": list(self._earlier)})
            try:
                await blocking(replace_text, self._file, text)
            except OSError as error:
                log.error("'%s' cannot be written: %s", self._file, error)
