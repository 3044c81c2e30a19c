"""Snapshots: names of versions, stored as tags."""

import re
from datetime import UTC, datetime

from ctxfs.model.errors import CommandError
from ctxfs.model.path import printable
from ctxfs.versions.archive_core import ArchiveAccess
from ctxfs.versions.history import parse_moment
from ctxfs.versions.objects.commits import Commit

_SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class SnapshotCommands:
    """The list, creation and deletion of an archive's snapshots."""

    def __init__(self, archive: ArchiveAccess) -> None:
        self._archive = archive

    def commit_ids(self) -> dict[str, str]:
        """Return the commit id of each snapshot, by its name."""
        with self._archive.locked() as core:
            return dict(core.ledger.tags)

    def create(self, name: str) -> Commit:
        """Give the newest version a name, and return it. Raise `CommandError` for an invalid or existing name."""
        if not _SNAPSHOT_NAME.fullmatch(name) or name.endswith((".lock", ".")) or ".." in name:
            raise CommandError(
                f"'{printable(name)}' cannot name a snapshot", "use letters, digits, '.', '_' and '-'", 2
            )
        if re.fullmatch(r"[0-9a-f]{4,40}", name) or name in ("latest", "HEAD") or parse_moment(name, datetime.now(UTC)):
            raise CommandError(f"'{name}' reads as a revision or a time", "choose another name", 2)
        with self._archive.locked() as core:
            self._archive.commit()
            head = core.ledger.head
            assert head is not None
            oid = core.ledger.tags.get(name)
            if oid is not None and oid != head.oid:
                raise CommandError(f"a snapshot '{name}' exists already", f"remove it: ctxfs snapshot --delete {name}")
            if oid is None:
                core.ledger.repo.update_ref(f"refs/tags/{name}", head.oid, None)
                core.ledger.read_tags()
            return head

    def delete(self, name: str) -> None:
        """Delete a snapshot's name; the version itself stays. Raise `CommandError` if it does not exist."""
        with self._archive.locked() as core:
            oid = core.ledger.repo.read_ref(f"refs/tags/{name}") if _SNAPSHOT_NAME.fullmatch(name) else None
            if oid is None:
                raise CommandError(f"no snapshot is called '{printable(name)}'", "see: ctxfs snapshot")
            core.ledger.repo.delete_ref(f"refs/tags/{name}", oid)
            core.ledger.read_tags()
