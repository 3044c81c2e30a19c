"""The conflict files of a store: the other contents that merges have kept, each beside the path that it is of."""

from dataclasses import dataclass

from ctxfs.model.metadata import PREFIX
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.name_encoding import path_text

CONFLICT_ATTRIBUTE = f"{PREFIX}conflict_of"
_NAME_PART = b".conflict-"


@dataclass(frozen=True, slots=True)
class ConflictFile:
    """A file with another content of the file `of`."""

    path: str
    of: str


class ConflictFiles:
    """The list of conflict files in the newest version, which is made anew when there is another one."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._revision = ""
        self._files: tuple[ConflictFile, ...] = ()

    def list(self, wait_seconds: float = -1.0) -> tuple[ConflictFile, ...]:
        """Return the conflict files, in the order of paths.

        After `wait_seconds` for the versions, which another operation may use, this is the last list.
        """
        if not self._archive.newest or self._archive.newest == self._revision:
            return self._files
        if self._archive.lock.acquire(timeout=wait_seconds):
            try:
                self._files, self._revision = self._read(), self._archive.newest
            finally:
                self._archive.lock.release()
        return self._files

    def _read(self) -> tuple[ConflictFile, ...]:
        with self._archive.locked() as core:
            rows = sorted(core.index.sidecars_of_names(_NAME_PART))
            core.ledger.prefetch_sidecars(side for _, side in rows)
            sides = ((path, core.ledger.read_sidecar(side).xattrs) for path, side in rows)
            return tuple(
                ConflictFile(path_text(path), xattrs[CONFLICT_ATTRIBUTE].decode("utf-8", "surrogateescape"))
                for path, xattrs in sides
                if CONFLICT_ATTRIBUTE in xattrs and _is_beside(path, xattrs[CONFLICT_ATTRIBUTE])
            )


def _is_beside(path: bytes, of: bytes) -> bool:
    """Return True if a merge may have kept `path` for `of`: any writer can set the attribute."""
    folder, _, name = path.rpartition(b"/")
    of_folder, _, of_name = of.rpartition(b"/")
    return folder == of_folder and path != of and of_name.startswith(name.split(_NAME_PART)[0])
