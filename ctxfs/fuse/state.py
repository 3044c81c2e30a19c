"""The state that the handlers of one mount share: nodes, descriptors, areas, caches, audit and journal."""

import errno
import os
import stat as st
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ctxfs.eventlog.spool import OK, AuditActor, Spool
from ctxfs.fuse.directory_fds import DirectoryFds
from ctxfs.fuse.inodes import Area, Node, NodeTable
from ctxfs.fuse.interfaces import Caches, Loop
from ctxfs.fuse.lock_owners import CacheClaims, LockOwners
from ctxfs.fuse.null_interfaces import NullCaches
from ctxfs.fuse.open_file_cache import OpenFileCache
from ctxfs.fuse.passthrough import Passthrough
from ctxfs.fuse.read_audit import ReadAudit
from ctxfs.fuse.transaction_files import Call, TransactionFiles
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.model.principal import Principal
from ctxfs.model.tables import Table
from ctxfs.policy.engine import ALL, PolicyEngine
from ctxfs.policy.evaluate import Rights, is_repository
from ctxfs.versions.recording.journal import JournalWriter
from ctxfs.vfs.access_control import masked_mode
from ctxfs.vfs.handles import Handles

# The first handle of synthetic files; lower handles are file descriptors.
FIRST_SYNTHETIC_HANDLE = 1 << 40
_ALL_MODE_BITS = 0o177777


@dataclass(slots=True)
class MountTable:
    """The areas, mount points and views of the tree, as the daemon sends them."""

    areas: dict[Path, Area] = field(default_factory=dict)
    structure: frozenset[Path] = frozenset()
    views: frozenset[bytes] = frozenset()
    sealed: frozenset[str] = frozenset()
    append_only: frozenset[Path] = frozenset()


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The options of a mount that stay the same while it lasts.

    `store` is the folder of the store. `users` are the uids that are served; with None the kernel decides. With
    `audits_reads` the audit records reads. With `checks_modes` the kernel compares modes with its callers.

    With `reads_without_open` no file is opened: the kernel reads by inode number and serves later reads from its cache.
    This is safe only for a read-only mount without an audit of reads.
    """

    store: str
    users: frozenset[int] | None = None
    audits_reads: bool = True
    checks_modes: bool = False
    reads_without_open: bool = False


class State:
    """The shared state of the handlers. Used by the thread that runs them; no method waits."""

    def __init__(
        self,
        tree: Mount,
        loop: Loop,
        options: MountOptions,
        cache_seconds: float,
        principal: Principal,
        journal: JournalWriter,
        spool: Spool,
        call: Call,
        *,
        claims: CacheClaims | None = None,
    ) -> None:
        """Create the state of a mount with an empty mount table.

        `claims`: see `CacheClaims`; None if there is no other mount process.
        """
        self.tree = tree
        self.principal = principal
        self.journal = journal
        self.spool = spool
        self._actor = AuditActor(str(principal), journal.actor.session, journal.actor.tool)
        self.loop = loop
        self.options = options
        self.nodes = NodeTable()
        self._reads = ReadAudit(self.nodes)
        self.handles = Handles(tree)
        self.transaction_files = TransactionFiles(call, loop)
        self.files: Table[Node] = Table(errno.EBADF)
        self.passthrough = Passthrough(lambda: self.is_unrestricted)
        self.open_file_cache = OpenFileCache()
        self.caches: Caches = NullCaches()  # until `connect`
        self.directories = DirectoryFds(self.open_file_cache.remove_directory)
        self.locks = LockOwners(loop.call)
        self.claims = claims
        # The kernel checks callers by ACLs, or admits root alone. If False, shown modes grant no more than the ACL.
        self.checks_acls = True
        self.direct_io_fds: set[int] = set()  # handles with direct I/O, without page cache
        # Descriptors with writes that the journal has not recorded yet.
        self.written: set[int] = set()
        # The last computed attributes of one file, with their expiry: `getfattr` requests them one by one.
        self.cached_metadata: tuple[Path, float, Mapping[str, bytes]] | None = None
        self.mount_table = MountTable()
        # Empty until the daemon has sent the rules; until then every request goes to the daemon anyway.
        self.policy = PolicyEngine()
        self.is_unrestricted = False
        self._epoch = 0
        self._max_cache_seconds = cache_seconds
        # Without the daemon there are no change notices, so nothing may be cached.
        self._connected, self.is_writable_elsewhere = True, False
        self.cache_seconds = self.writable_cache_seconds = cache_seconds
        self._area_count = 0
        # Paths of remaining areas that have become hidden or visible, until the kernel's caches are invalidated.
        self.changed_paths: list[tuple[Area, tuple[bytes, ...]]] = []
        self.removed_structure: frozenset[Path] = frozenset()  # by the last change of the mount table

    def connect(self, caches: Caches, *, checks_acls: bool) -> None:
        """Use the caches of the kernel from now on. `checks_acls`: it checks callers by the ACLs of files."""
        self.caches = caches
        self.checks_acls = checks_acls or not self.options.checks_modes
        if checks_acls:
            self.open_file_cache.answer_acls()

    def set_connected(self, connected: bool) -> None:
        """Let the kernel cache only while the daemon sends change notices."""
        self._connected = connected
        self._set_cache_seconds()

    def set_shared(self, shared: bool) -> None:
        """Set whether other mount points write to the same files.

        If so, their writes must be visible at once, and writable files are not cached.
        """
        self.is_writable_elsewhere = shared
        self.open_file_cache.evict_all()
        self._set_cache_seconds()

    def _set_cache_seconds(self) -> None:
        self.cache_seconds = self._max_cache_seconds if self._connected else 0.0
        self.writable_cache_seconds = 0.0 if self.is_writable_elsewhere else self.cache_seconds

    def area_cache_seconds(self, area: Area) -> float:
        """Return how many seconds the kernel may cache names and attributes of an area."""
        return self.writable_cache_seconds if area.writable else self.cache_seconds

    def is_shared(self, area: Area) -> bool:
        """Return True if other mount points write to the area: its files then bypass this mount's page cache."""
        return self.is_writable_elsewhere and area.writable

    def needs_direct_io(self, area: Area, *, maps_writable: bool) -> bool:
        """Return True if a mapping through this mount's page cache could differ from another mapping of the same file.

        Other mount points may map the files, and any program may map those of a source. Such a handle gets no page
        cache: the kernel then refuses to map it with MAP_SHARED.
        """
        if not area.writable:
            return False
        return self.is_writable_elsewhere or (maps_writable and not area.root.startswith(self.options.store + "/"))

    def apply_mount_table(
        self,
        backings: Iterable[tuple[Path, str, bool, Sequence[tuple[str, ...]], bool]],
        mountpoints: Iterable[Path],
        views: Iterable[str],
        sealed: Iterable[str] = (),
    ) -> None:
        """Apply the daemon's mount table; areas that stay keep their inode numbers."""
        self.open_file_cache.evict_all()
        areas: dict[Path, Area] = {}
        for path, root, writable, hidden_paths, versioned in backings:
            hidden = frozenset(tuple(map(os.fsencode, parts)) for parts in hidden_paths)
            area = self.mount_table.areas.get(path)
            if area is None or area.root != root:
                self._area_count += 1
                area = Area(self._area_count, path, root, writable, hidden, versioned)
            # Inode numbers must stay, or every working directory and mount below the area would be lost.
            self.changed_paths += [(area, names) for names in area.hidden ^ hidden]
            area.writable, area.hidden, area.versioned = writable, hidden, versioned
            areas[path] = area
        remaining = set(areas.values())
        for node in self.nodes:
            if node.area is not None and node.area not in remaining:
                self.directories.evict(node)  # so that the host can unmount the file system of the area
        structure = {Path(point.parts[:depth]) for point in mountpoints for depth in range(len(point.parts) + 1)}
        self.removed_structure = self.mount_table.structure - structure
        self.mount_table = MountTable(
            areas, frozenset(structure), frozenset(os.fsencode(view) for view in views), frozenset(sealed)
        )

    def apply_policy(self, rules: list[Any]) -> None:
        """Apply new rules."""
        self.policy.use_wire(rules)
        self.is_unrestricted = self.policy.is_unrestricted(self.principal)
        self.open_file_cache.evict_all()
        self.discard_decisions()

    def discard_decisions(self) -> None:
        """Discard the decisions by path after names have changed."""
        self._epoch += 1
        if not self.is_unrestricted:
            self.open_file_cache.evict_all()

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

    def forget(self, number: int, lookups: int) -> None:
        """Decrement a lookup count; with the last reference release all resources of the node."""
        if self.open_file_cache.has_opens:
            self._audit_reused_opens()  # while the node still has its name
        node = self.nodes.forget(number, lookups)
        if node is None:
            return
        self._reads.pop(number, None)
        self.open_file_cache.evict(node)  # closing its last descriptor removes the node
        if not node.descriptors:
            self.directories.evict(node)

    def mark_stale(self, node: Node) -> None:
        """Mark the kernel's cached pages of a node as stale."""
        node.cached_version = None
        self.open_file_cache.evict(node)

    def remove_name(self, parent: Node, name: bytes) -> Node | None:
        """Remove a name as `NodeTable.remove_name`, and evict its file from the open file cache."""
        node = self.nodes.remove_name(parent, name)
        if node is not None:
            self.open_file_cache.evict(node)
        return node

    def audit(self, op: str, path: str, to: str = "", outcome: str = OK) -> None:
        """Record an operation, or its refusal, in the audit."""
        if self.open_file_cache.has_opens:
            self._audit_reused_opens()
        self.spool.record_event(self._actor, op, path, to, outcome)

    def flush_audit(self) -> None:
        """Write all audit records so that they survive a kill."""
        if self.open_file_cache.has_opens:
            self._audit_reused_opens()
        self.spool.flush()

    def _audit_reused_opens(self) -> None:
        reads = self._reads
        reads.renew()
        self.spool.record_events(
            self._actor, [(when, reads[number]) for number, when in self.open_file_cache.take_opens()]
        )

    def record(self, op: str, node: Node, action: str = "write") -> None:
        """Record a change of a backed file.

        The audit records `action`. If the area is versioned, the journal records `op`.
        """
        self.cached_metadata = None
        path = node.path_text
        if op != "sync":
            self.audit(action, path)
        if node.area is not None and node.area.versioned:
            self.journal.record(op, path)

    def record_name(self, op: str, parent: Node, name: bytes, action: str, to: str = "") -> None:
        """Record a change of a name in a directory, as `record`; `to` is the path that it was moved to."""
        self.cached_metadata = None
        path = parent.path_text_below(name)
        self.audit(action, path, to)
        if parent.area is not None and parent.area.versioned:
            self.journal.record(op, path, to or None)

    def collect_written(self) -> None:
        """Add the handles to `written` that the kernel has written to by passthrough."""
        self.written.update(self.passthrough.take_written())

    def record_written(self) -> None:
        """Record the writes on all handles that are still open, so that the current content can become a version."""
        self.collect_written()
        for fd in list(self.written):
            self.record("write", self.files[fd])
        self.written.clear()

    def area_below(self, parent: Node, name: bytes) -> Area | None:
        """Return the area whose top is `name` in `parent`, or None."""
        if parent.area is not None:
            return None
        return self.mount_table.areas.get(Path((*parent.path.parts, os.fsdecode(name))))

    def is_sealed(self, path: Path) -> bool:
        """Return True below a mount point or view that is immutable, independent of the modes."""
        return not self.mount_table.sealed.isdisjoint(path.parts)

    def is_append_only(self, path: Path) -> bool:
        """Return True below a mount point whose files are append-only."""
        return any(path.is_below(mountpoint) for mountpoint in self.mount_table.append_only)

    def is_structure(self, path: Path) -> bool:
        """Return True for directories that only mounting and unmounting changes."""
        return path in self.mount_table.structure or path == ROOT

    def structure_below(self, path: Path) -> list[str]:
        """Return the visible names that lead from a structural directory to mount points, sorted."""
        depth = len(path.parts)
        names = {
            structural.parts[depth]
            for structural in self.mount_table.structure
            if len(structural.parts) > depth and structural.is_below(path)
        }
        visible = (name for name in names if self.policy.rights(self.principal, Path((*path.parts, name))).exists)
        return sorted(name for name in visible if not name.startswith("."))

    def node_for(self, parent: Node, name: bytes, area: Area, stat: os.stat_result) -> Node:
        """Return the node of a host file by its stat result."""
        return self.nodes.backed_node(parent, name, area, stat.st_dev, stat.st_ino, st.S_IFMT(stat.st_mode))

    def top_node(self, parent: Node, name: bytes, area: Area, stat: os.stat_result) -> Node:
        """Return the node of the root directory of an area."""
        node = self.node_for(parent, name, area, stat)
        node.is_top = True
        return node
