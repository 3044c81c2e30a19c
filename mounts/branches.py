"""The mount `.branches/<name>/`, the tree as a branch has it, and the areas memory and pad in a branch.

A branch has versions of memory and pads of its own; all other areas are those of main. A directory made in `.branches/`
is a new branch.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path as HostPath
from typing import TypeVar, TypeVarTuple

import trio

from ctxfs.model.change import Change, MakeDir, Move
from ctxfs.model.entry import Entry, directory
from ctxfs.model.errors import CommandError, invalid, not_found, not_permitted, path_error
from ctxfs.model.mount import Backing, Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.mounts.folders import create_memory_mount, create_pad_mount
from ctxfs.mounts.replica import ReplicaMount
from ctxfs.policy.scope import AccessTimes
from ctxfs.threads import in_turn
from ctxfs.versions.branches.branches import Branches, BranchLimit
from ctxfs.versions.objects.commits import Actor
from ctxfs.vfs.branch_paths import BRANCHES
from ctxfs.vfs.caller_context import BranchRef, acting_actor, acting_branch, acting_principal, acting_session, in_branch
from ctxfs.vfs.mount_wrapper import MountWrapper
from ctxfs.vfs.namespace import Namespace

Result = TypeVar("Result")
Args = TypeVarTuple("Args")
_TOOL = "ctxfs"


class BranchedFolder(MountWrapper):
    """An area of the tree: in the acting branch if there is one, else the folder on main.

    A file that has no readable version on main for the calling principal does not exist in a branch for it, unless the
    file is that of main, or was changed in the branch since.
    """

    def __init__(self, area: str, folder: Mount, branches: Branches, scope: AccessTimes, owner: str) -> None:
        """Open the area; `owner` acts if there is no calling principal."""
        super().__init__(folder)
        self._area = area
        self._branches = branches
        self._scope = scope
        self._owner = owner

    async def stat(self, path: Path) -> Entry:
        """Return the entry; its time is that of the newest change in the branch."""
        if acting_branch() is None:
            return await self._tree.stat(path)
        entry = await self._visible(self._branches.entry, path)
        return replace(entry, name="") if path.is_root else entry

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the entries; sizes are left to stat in a branch."""
        if acting_branch() is None:
            return await self._tree.list(path)
        return await self._in_turn(self._list, path)

    async def read(self, path: Path) -> bytes:
        """Return the content of a file."""
        return await (self._tree.read(path) if acting_branch() is None else self._visible(self._branches.read, path))

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return the attributes of a path."""
        if acting_branch() is None:
            return await self._tree.metadata(path)
        return await self._visible(self._branches.attributes, path)

    async def apply(self, change: Change) -> None:
        """Apply a change; in a branch it is a version when this returns."""
        if acting_branch() is None:
            await self._tree.apply(change)
            return
        full = replace(change, path=self._full(change.path))
        if isinstance(full, Move):
            full = replace(full, to=self._full(full.to))
        actor = self._actor()
        with trio.CancelScope(shield=True):  # a change is complete or absent, never partial
            await self._in_turn(lambda name: self._branches.apply(name, full, actor))

    def backing(self, path: Path) -> Backing | None:
        """Return the host file on main; None in a branch, whose files are in git."""
        return self._tree.backing(path) if acting_branch() is None else None

    def _full(self, path: Path) -> Path:
        return Path((self._area, *path.parts))

    def _actor(self) -> Actor:
        return acting_actor() or Actor(str(acting_principal() or self._owner), acting_session(), _TOOL)

    async def _visible(self, read: Callable[[str, str], Result], path: Path) -> Result:
        """Return the result of a read of a path. Raise ENOENT for a path that is hidden from the calling principal."""

        def checked(name: str) -> Result:
            result = read(name, str(self._full(path)))
            if not self._is_visible(name, self._full(path)):
                raise not_found(path)
            return result

        return await self._in_turn(checked)

    def _list(self, name: str, path: Path) -> Sequence[Entry]:
        full = self._full(path)
        entries = self._branches.entries(name, str(full))
        return [entry for entry in entries if self._is_visible(name, full / entry.name)]

    def _is_visible(self, name: str, path: Path) -> bool:
        """Return False for a content that the rules kept from the calling principal when it was current. Blocks."""
        return is_readable(self._branches, self._scope, name, path)

    async def _in_turn(self, function: "Callable[[str, *Args], Result]", *args: *Args) -> Result:
        """Run a function with the name of the acting branch; an agent's own branch is made first."""
        branch, actor = acting_branch(), self._actor()
        assert branch is not None

        def run() -> Result:
            if branch.is_own and not self._branches.exists(branch.name):
                _create_branch(self._branches, Path((BRANCHES, branch.name)), actor)
            return function(branch.name, *args)

        return await in_turn(run)


def _create_branch(branches: Branches, path: Path, actor: Actor) -> None:
    """Create a branch. Raise OSError: EDQUOT beyond the limits of branches, EINVAL for an invalid name. Blocks."""
    try:
        branches.create(path.name, actor)
    except BranchLimit as error:
        raise path_error(errno.EDQUOT, path, f"{error.message}: {error.remedy}") from error
    except CommandError as error:
        raise invalid(path, error.message) from error


def is_readable(branches: Branches, scope: AccessTimes, name: str, path: Path) -> bool:
    """Return True if the calling principal may read the content of a path in a branch, given that it may read the path now.

    A content from before the time since which it may is readable only if main has the same. Blocks.
    """
    since = scope.readable_since(path)
    if not since:
        return True
    changed = branches.last_change(name, str(path))
    if changed is not None:
        return changed.time_ns >= since
    return branches.get(name).start.time_ns >= since or branches.is_as_on_main(name, str(path))


def is_shown(name: str) -> bool:
    """Return False for the branches of others in a session of an agent that has a branch of its own."""
    acting = acting_branch()
    return acting is None or not acting.is_own or acting.name == name


class BranchesMount(Mount):
    """The directory `.branches/`. Below a name, the whole tree as the branch has it."""

    def __init__(self, tree: Mount, branches: Branches, owner: str) -> None:
        """`tree` is the tree without access control, in which the acting branch decides on its own areas."""
        self._tree = tree
        self._branches = branches
        self._owner = owner

    async def stat(self, path: Path) -> Entry:
        """Return the entry in the branch."""
        if path.is_root:
            return directory("", mode=0o755)
        if len(path.parts) == 1:
            await self._branch_of(path)
            branch = await in_turn(self._branches.get, path.name)
            return directory(path.name, mode=0o755, mtime_ns=branch.head.time_ns, version=branch.head.oid)
        with in_branch(await self._branch_of(path)):
            return await self._tree.stat(_inner(path))

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the branches, or the entries of a directory in one."""
        if path.is_root:
            return [await self.stat(ROOT / name) for name in await in_turn(self._branches.names) if is_shown(name)]
        with in_branch(await self._branch_of(path)):
            return await self._tree.list(_inner(path))

    async def read(self, path: Path) -> bytes:
        """Return the content in the branch."""
        if path.is_root:
            raise path_error(errno.EISDIR, path)
        with in_branch(await self._branch_of(path)):
            return await self._tree.read(_inner(path))

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return the attributes in the branch."""
        if len(path.parts) < 2:
            await self.stat(path)
            return {}
        with in_branch(await self._branch_of(path)):
            return await self._tree.metadata(_inner(path))

    async def apply(self, change: Change) -> None:
        """Apply a change in the branch. A new directory in `.branches/` is a new branch of the newest version."""
        if len(change.path.parts) < 2:
            if not isinstance(change, MakeDir) or change.path.is_root:
                raise not_permitted(change.path, "a branch is removed by: ctxfs branch drop NAME")
            await self._create(change.path)
            return
        branch = await self._branch_of(change.path)
        inner = replace(change, path=_inner(change.path))
        if isinstance(change, Move) and isinstance(inner, Move):
            if change.to.parts[:1] != change.path.parts[:1] or len(change.to.parts) < 2:
                raise not_permitted(change.to, "a file is not moved from one branch to another: copy it")
            inner = replace(inner, to=_inner(change.to))
        with in_branch(branch):
            await self._tree.apply(inner)

    async def _create(self, path: Path) -> None:
        if not is_shown(path.name):
            raise not_permitted(path, "this agent works in a branch of its own")
        if await in_turn(self._branches.exists, path.name):
            raise path_error(errno.EEXIST, path)
        actor = acting_actor() or Actor(str(acting_principal() or self._owner), acting_session(), _TOOL)
        await in_turn(_create_branch, self._branches, path, actor)

    async def _branch_of(self, path: Path) -> BranchRef:
        """Return the branch that a path begins with. Raise ENOENT if there is none, and for the past of main."""
        is_past = path.parts[1:2] in ((BRANCHES,), (".snapshots",)) or ".versions" in path.parts
        if is_past or not is_shown(path.parts[0]) or not await in_turn(self._branches.exists, path.parts[0]):
            raise not_found(path)
        return BranchRef(path.parts[0])


def attach_branched_areas(
    tree: Namespace,
    folder: HostPath,
    branches: Branches,
    scope: AccessTimes,
    owner: str,
    read_only_reason: Callable[[], str],
) -> None:
    """Attach memory and pad, each on main or in the acting branch, and the branches by name."""
    for area, mount in (("memory", create_memory_mount(folder)), ("pad", create_pad_mount(folder))):
        replica = ReplicaMount(mount, read_only_reason)
        tree.attach(Path((area,)), BranchedFolder(area, replica, branches, scope, owner))
    tree.attach(Path((BRANCHES,)), BranchesMount(tree, branches, owner), hidden=True, has_views=True)


def _inner(path: Path) -> Path:
    return Path(path.parts[1:])
