"""Decisions of the policy for the principal of a mount, cached by node."""

import errno
import os
from collections.abc import Collection, Mapping
from typing import Any

from ctxfs.fuse.inodes import Node
from ctxfs.fuse.open_file_cache import OpenFileCache
from ctxfs.model.errors import path_error
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy import operations
from ctxfs.policy.engine import ALL, PolicyEngine
from ctxfs.policy.evaluate import Rights, is_repository
from ctxfs.policy.rules import Verb
from ctxfs.versions.objects.fingerprint import blob_id
from ctxfs.vfs.access_control import QUARANTINED, masked_mode

_ALL_MODE_BITS = 0o177777
_READ = int(operations.READ)


class Access:
    """The rights of the principal of a mount. Used by the thread of the handlers."""

    def __init__(self, principal: Principal, open_file_cache: OpenFileCache) -> None:
        self.principal = principal
        # Empty until the daemon has sent the rules; until then every request goes to the daemon anyway.
        self.policy = PolicyEngine()
        self.is_unrestricted = False  # no rule restricts the principal
        # The kernel checks callers by ACLs, or admits root alone. If False, shown modes grant no more than the ACL.
        self.checks_acls = True
        self._open_file_cache = open_file_cache
        self._epoch = 0  # of the decisions: a change makes cached ones invalid

    def connect(self, *, checks_acls: bool) -> None:
        """Set whether the kernel checks callers by ACLs, or admits root alone."""
        self.checks_acls = checks_acls

    def apply_policy(self, rules: list[Any]) -> None:
        """Apply new rules."""
        self.policy.use_wire(rules)
        self.is_unrestricted = self.policy.is_unrestricted(self.principal)
        self._open_file_cache.evict_all()
        self.discard_decisions()

    def discard_decisions(self) -> None:
        """Discard the decisions by path after names have changed."""
        self._epoch += 1
        if not self.is_unrestricted:
            self._open_file_cache.evict_all()

    def rights(self, node: Node) -> Rights:
        """Return the rights of the principal on a node."""
        return ALL if self.is_unrestricted else self._decision(node)[1]

    def is_hidden(self, node: Node) -> bool:
        """Return True for a node that the rules hide. A principal that is not served now keeps its nodes."""
        return not self.policy.is_refused(self.principal) and not self.rights(node).exists

    def is_permitted(self, node: Node, verb: int) -> bool:
        """Return True if the principal has all permissions of the bit set `verb` on a node.

        Every open and read calls this.
        """
        return self.is_unrestricted or self._decision(node)[2] & verb == verb

    def permitted_mode(self, node: Node, mode: int) -> int:
        """Return the mode of a file, masked by the principal's rights."""
        return mode if self.is_unrestricted else mode & self._decision(node)[3]

    def _decision(self, node: Node) -> tuple[int, Rights, int, int]:
        decision = node.decision
        if decision is None or decision[0] != self._epoch:
            rights = self.policy.rights(self.principal, node.path)
            decision = node.decision = (
                self._epoch,
                rights,
                int(rights.verbs),
                masked_mode(_ALL_MODE_BITS, rights, is_dir=False),
            )
        return decision

    def rights_at(self, path: Path) -> Rights:
        """Return the rights of the principal at a path, which need not exist."""
        return self.policy.rights(self.principal, path)

    def rights_below(self, parent: Node, name: bytes) -> Rights:
        """Return the rights of the principal on a name in a directory, which need not exist."""
        if self.is_unrestricted:
            return ALL
        return self.policy.rights(self.principal, Path((*parent.path.parts, os.fsdecode(name))))

    def visible_names(self, parent: Node, names: list[bytes]) -> list[bytes]:
        """Return those of the names in a directory that exist for the principal.

        The result for the last list of names is cached.
        """
        if self.rights(parent).lists_below:
            if parent.path.parts[:1] != ("knowledge",):
                return names
            visible = [name for name in names if not is_repository(name)]
            return names if len(visible) == len(names) else visible
        cached = parent.visible_names
        if cached is not None and cached[0] == self._epoch and cached[1] == names:
            return cached[2]
        parts, rights = parent.path.parts, self.policy.rights
        visible = [name for name in names if rights(self.principal, Path((*parts, os.fsdecode(name)))).exists]
        parent.visible_names = self._epoch, names, names if len(visible) == len(names) else visible
        return parent.visible_names[2]

    def check_permission(self, node: Node, verb: Verb) -> None:
        """Check a permission of the principal.

        Raise OSError EACCES without it, or ENOENT if the node does not exist for the principal.
        """
        rights = self.rights(node)
        if not rights.allows(verb):
            raise path_error(errno.EACCES if rights.exists else errno.ENOENT, node.path)

    def check_open(self, node: Node, flags: int) -> None:
        """Check the permissions for an open with `flags` as of open(2). Raise the errors of `check_permission`."""
        if self.is_unrestricted:
            return
        if not flags & (os.O_ACCMODE | os.O_TRUNC) and self.is_permitted(node, _READ):
            return
        self.check_permission(node, operations.open_permissions(flags))

    def is_quarantined(self, fd: int, flags: int, path: str) -> bool:
        """Return True if an agent would read a quarantined file.

        A file is quarantined by its attribute, its path or its content.
        """
        if self.is_unrestricted or self.principal.is_person or flags & os.O_ACCMODE == os.O_WRONLY:
            return False
        quarantine = self.policy.quarantine
        if path in quarantine.paths or _has_quarantined_content(fd, quarantine.contents):
            return True
        try:
            return os.getxattr(fd, QUARANTINED) == b"true"
        except OSError:
            return False  # no such attribute, or no attributes on this file system

    def check_name_permission(self, parent: Node, name: bytes, verb: Verb) -> None:
        """Raise OSError EACCES unless the principal has the permission `verb` on a name in a directory."""
        check_writable(parent)
        check_visible(parent, name)
        rights = self.rights_below(parent, name)
        if not rights.allows(verb):
            hidden = verb is operations.REMOVE and not rights.exists
            path = Path((*parent.path.parts, os.fsdecode(name)))
            raise path_error(errno.ENOENT if hidden else errno.EACCES, path)


def check_writable(node: Node) -> None:
    """Raise OSError EROFS unless the node is in a writable area."""
    if node.area is None or not node.area.writable:
        raise path_error(errno.EROFS, node.path)


def check_visible(parent: Node, name: bytes) -> None:
    """Raise OSError EPERM for a name that does not exist in the tree."""
    if parent.area is not None and parent.area.hides(parent, name):
        raise path_error(errno.EPERM, parent.path, "the store and its mount points are not part of the tree")


def _has_quarantined_content(fd: int, contents: Mapping[int, Collection[str]]) -> bool:
    """Return True for a copy of a quarantined file.

    The content is read only if its size equals that of a quarantined file.
    """
    if not contents:
        return False
    size = os.fstat(fd).st_size
    hashes = contents.get(size)
    if hashes is None:
        return False
    try:
        reopened_fd = os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    with open(reopened_fd, "rb") as file:
        return blob_id(file.read(size + 1)) in hashes
