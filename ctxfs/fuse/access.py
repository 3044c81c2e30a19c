"""Decisions of the policy for the principal of a mount, cached by node."""

import os
from typing import Any

from ctxfs.fuse.inodes import Node
from ctxfs.fuse.open_file_cache import OpenFileCache
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy.engine import ALL, PolicyEngine
from ctxfs.policy.evaluate import Rights, is_repository
from ctxfs.vfs.access_control import masked_mode

_ALL_MODE_BITS = 0o177777


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
        self.is_unrestricted = self.policy.is_free(self.principal)
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
