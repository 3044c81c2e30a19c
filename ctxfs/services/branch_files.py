"""The files of the acting branch, for services that read host files on main."""

from collections.abc import Mapping

from ctxfs.model.errors import not_found
from ctxfs.model.path import Path
from ctxfs.mounts.branches import is_readable
from ctxfs.policy.scope import AccessTimes
from ctxfs.versions.branches.branches import Branches
from ctxfs.vfs.branch_paths import is_branched
from ctxfs.vfs.caller_context import acting_branch


class BranchFiles:
    """The files of the acting branch. Its methods block."""

    def __init__(self, branches: Branches, scope: AccessTimes) -> None:
        self._branches = branches
        self._scope = scope

    def read(self, path: Path) -> tuple[bytes, Mapping[str, bytes]] | None:
        """Return content and attributes of a file in the acting branch; None if the path is that of main.

        Raise OSError ENOENT for a path that does not exist there for the calling principal, EISDIR for a directory.
        """
        branch = acting_branch()
        if branch is None or not is_branched(path):
            return None
        data = self._branches.read(branch.name, str(path))
        attributes = self._branches.attributes(branch.name, str(path))
        if not is_readable(self._branches, self._scope, branch.name, path):
            raise not_found(path)
        return data, attributes
