"""The tree as the calling principal may see and change it. Only this module applies the policy to mounts.

A path that may not be listed does not exist (ENOENT). A path that may be listed but not read fails with EACCES. Mode
bits show the permissions of the principal.
"""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, assert_never

from ctxfs.model.change import Append, Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.entry import Entry
from ctxfs.model.errors import not_found, path_error
from ctxfs.model.metadata import PREFIX
from ctxfs.model.mount import Backing, Mount
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy import operations
from ctxfs.policy.evaluate import Rights, tree_path_of
from ctxfs.policy.quarantine import Quarantine
from ctxfs.policy.rules import Verb
from ctxfs.threads import blocking
from ctxfs.vfs.caller_context import acting_principal
from ctxfs.vfs.mount_wrapper import MountWrapper

_SEARCH_VIEW = ".search"  # results are computed for the calling principal, so a visible directory may be searched
QUARANTINED = f"{PREFIX}quarantined"
WITHHELD = "it is in quarantine"
_CHANGE_PERMISSIONS = {
    Append: operations.WRITE,
    Remove: operations.REMOVE,
    SetMeta: operations.SET_METADATA,
}  # for changes of existing paths


class PolicyDecisions(Protocol):
    """The part of the policy that this module needs."""

    def is_unrestricted(self, principal: Principal | None) -> bool:
        """Return True for a principal without restrictions."""
        ...

    def rights(self, principal: Principal | None, path: Path) -> Rights:
        """Return the rights of a principal at a path."""
        ...


class DistrustMarks(Protocol):
    """The part of a store's marks that this module needs."""

    @property
    def quarantine(self) -> Quarantine:
        """The paths that agents cannot read."""
        ...

    def holds(self, data: bytes) -> bool:
        """Return True if a text contains a quarantined text, or a part of one."""
        ...


class AccessControl(MountWrapper):
    """A tree under a policy, for the calling principal (`vfs.caller_context`).

    Calls without a principal, which are those of ctxfs itself, are unrestricted.
    """

    def __init__(self, tree: Mount, policy: PolicyDecisions, marks: DistrustMarks) -> None:
        super().__init__(tree)
        self._marks = marks
        self._policy = policy

    async def stat(self, path: Path) -> Entry:
        """Implement `Mount.stat`. Raise ENOENT if the path does not exist for this principal."""
        rights = self._visible(path)
        entry = await self._tree.stat(path)
        return entry if rights is None else mask_entry(entry, rights)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Implement `Mount.list`, without entries that do not exist for this principal."""
        principal = acting_principal()
        if self._visible(path) is None:
            return await self._tree.list(path)
        entries = []
        for entry in await self._tree.list(path):
            rights = self._policy.rights(principal, Path((*path.parts, entry.name)))
            if rights.exists:
                entries.append(mask_entry(entry, rights))
        return entries

    async def read(self, path: Path) -> bytes:
        """Implement `Mount.read`. Raise EACCES for a path that may only be listed, and for quarantined content.

        People may read quarantined content.
        """
        self._check_read(path)
        principal = acting_principal()
        if principal is None or principal.is_person:
            return await self._tree.read(path)
        await self._check_quarantine(path)
        data = await self._tree.read(path)
        if not self._marks.quarantine.is_empty and await blocking(self._marks.holds, data):
            raise path_error(errno.EACCES, path, WITHHELD)
        return data

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Implement `Mount.metadata`. Attributes need the same permission as content."""
        self._check_read(path, directories=True)
        return await self._tree.metadata(path)

    async def apply(self, change: Change) -> None:
        """Implement `Mount.apply`. Raise EACCES without the permission, ENOENT for a hidden path."""
        if not self._policy.is_unrestricted(acting_principal()):
            await self._check_change(change)
        await self._tree.apply(change)

    def backing(self, path: Path) -> Backing | None:
        """Implement `Mount.backing`, for paths that exist for this principal."""
        rights = self._policy.rights(acting_principal(), path)
        return self._tree.backing(path) if rights.exists else None

    def _visible(self, path: Path) -> Rights | None:
        """Return the calling principal's rights, None if it is unrestricted. Raise ENOENT for a hidden path."""
        principal = acting_principal()
        if self._policy.is_unrestricted(principal):
            return None
        rights = self._policy.rights(principal, path)
        if not rights.exists:
            raise not_found(path)
        return rights

    def _check_read(self, path: Path, *, directories: bool = False) -> None:
        rights = self._visible(path)
        if (
            rights is None
            or rights.allows(operations.READ)
            or _SEARCH_VIEW in path.parts
            or (directories and rights.leads)
        ):
            return
        raise path_error(errno.EACCES, path)

    async def _check_quarantine(self, path: Path) -> None:
        """Raise EACCES for a quarantined file, and for its versions."""
        judged_path = tree_path_of(path)
        if self._marks.quarantine.covers(judged_path):
            raise path_error(errno.EACCES, path, WITHHELD)
        if _SEARCH_VIEW in path.parts:
            return
        for candidate in {path, judged_path, judged_path.parent if ".versions" in path.parts else judged_path}:
            try:
                attributes = await self._tree.metadata(candidate)
            except OSError:
                if candidate == path:
                    raise
                continue  # the file is deleted, and only its versions exist
            if attributes.get(QUARANTINED) == b"true":
                raise path_error(errno.EACCES, path, WITHHELD)

    async def _check_change(self, change: Change) -> None:
        match change:
            case Put(path, _, attributes, expects):
                exists = await self._exists(path)
                compares = bool(expects) and exists
                self._require(
                    path,
                    operations.put_permissions(exists=exists, compares=compares, sets_metadata=bool(attributes)),
                )
                if compares:
                    principal = acting_principal()
                    if principal is not None and not principal.is_person:
                        await self._check_quarantine(path)
            case MakeDir(path):
                self._require(path, operations.CREATE)
            case Append(path) | Remove(path) | SetMeta(path):
                self._visible(path)
                self._require(path, _CHANGE_PERMISSIONS[type(change)])
            case Move(path, to):
                await self._check_move(path, to)
            case _:
                assert_never(change)

    async def _check_move(self, path: Path, to: Path) -> None:
        rights = self._visible(path)
        is_dir = (await self._tree.stat(path)).is_dir
        if rights is not None:
            target = self._policy.rights(acting_principal(), to)
            check_move(rights, target, is_dir=is_dir, replaces=await self._exists(to), path=path, to=to)

    def _require(self, path: Path, verb: Verb) -> None:
        rights = self._policy.rights(acting_principal(), path)
        if not rights.allows(verb):
            self._visible(path if rights.exists else path.parent)
            raise path_error(errno.EACCES, path)

    async def _exists(self, path: Path) -> bool:
        try:
            await self._tree.stat(path)
        except OSError:
            return False
        return True


def check_move(source: Rights, target: Rights, *, is_dir: bool, replaces: bool, path: Path, to: Path) -> None:
    """Raise EACCES unless the source, all of it, may be read and deleted, and the target created.

    Otherwise a move could take a file to a path with other rights.
    """
    source_verbs, target_verbs = operations.move_permissions(replaces=replaces)
    if not source.allows(source_verbs) or (is_dir and source.below & source_verbs != source_verbs):
        raise path_error(errno.EACCES, path)
    if not target.allows(target_verbs) or (is_dir and target.below & target_verbs != target_verbs):
        raise path_error(errno.EACCES, to)


def mask_entry(entry: Entry, rights: Rights) -> Entry:
    """Return the entry with mode bits masked by these rights."""
    if entry.answers:
        return entry  # the permission to call a tool is independent of write permission
    mode = masked_mode(entry.mode, rights, is_dir=entry.is_dir)
    if entry.is_dir and not rights.lists_below:
        return replace(entry, mode=mode, mtime_ns=0, version="")  # these would reveal changes of hidden names
    return entry if mode == entry.mode else replace(entry, mode=mode)


def masked_mode(mode: int, rights: Rights, *, is_dir: bool) -> int:
    """Return mode bits without those that these rights do not allow.

    A directory that only leads to permitted paths can be entered and listed.
    """
    if not (rights.allows_some(operations.CHANGE) if is_dir else rights.allows(operations.WRITE)):
        mode &= ~0o222
    if not is_dir and not rights.allows(operations.READ):
        mode &= ~0o555
    return mode
