"""The mount history/audit/<date>.jsonl: audit records of operations, one a line. Only ctxfs writes it."""

import errno
from collections.abc import Sequence

from ctxfs.eventlog.audit import SESSION, Audit
from ctxfs.eventlog.log import SUFFIX
from ctxfs.model.change import Change
from ctxfs.model.entry import Entry, directory
from ctxfs.model.errors import not_found, not_permitted, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.threads import blocking


class AuditMount(Mount):
    """A mount with one file a day."""

    grows = True

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def stat(self, path: Path) -> Entry:
        """Return an entry whose size is that of a read."""
        return directory("", mode=0o555) if path.is_root else await blocking(self._entry, _day(path))

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the days that have records."""
        if not path.is_root:
            raise path_error(errno.ENOTDIR, path)
        return await blocking(lambda: [self._entry(day) for day in self._audit.log.days()])

    async def read(self, path: Path) -> bytes:
        """Return the records of a day."""
        if path.is_root:
            raise path_error(errno.EISDIR, path)
        return await blocking(self._audit.log.read, _day(path), SESSION)

    async def apply(self, change: Change) -> None:
        """Raise EPERM."""
        raise not_permitted(change.path, "the audit is written by ctxfs alone")

    def _entry(self, day: str) -> Entry:
        size, mtime_ns = self._audit.log.size(day, SESSION)
        return Entry(f"{day}{SUFFIX}", "file", version=f"{size}", size=size, mtime_ns=mtime_ns, mode=0o444)


def _day(path: Path) -> str:
    if len(path.parts) != 1 or not path.name.endswith(SUFFIX):
        raise not_found(path)
    return path.name.removesuffix(SUFFIX)
