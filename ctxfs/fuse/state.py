"""The collaborators that the handlers of one mount share."""

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctxfs.eventlog.spool import Spool
from ctxfs.fuse.access import Access
from ctxfs.fuse.cache_policy import CachePolicy
from ctxfs.fuse.directory_fds import DirectoryFds
from ctxfs.fuse.inodes import Node, NodeTable
from ctxfs.fuse.interfaces import Loop
from ctxfs.fuse.lock_owners import CacheClaims, LockOwners
from ctxfs.fuse.metadata_cache import MetadataCache
from ctxfs.fuse.mount_table import MountTable
from ctxfs.fuse.node_fds import NodeFds
from ctxfs.fuse.open_file_cache import OpenFileCache
from ctxfs.fuse.passthrough import Passthrough
from ctxfs.fuse.read_audit import ReadAudit
from ctxfs.fuse.recorder import Recorder
from ctxfs.fuse.transaction_files import Call, TransactionFiles
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.model.tables import Table
from ctxfs.versions.recording.journal import JournalWriter
from ctxfs.vfs.handles import Handles

# The first handle of synthetic files; lower handles are file descriptors.
FIRST_SYNTHETIC_HANDLE = 1 << 40


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


@dataclass(frozen=True, slots=True)
class State:
    """The collaborators of one mount. The thread of the handlers uses them; no method waits.

    Each handler takes the ones that it uses when it is constructed.
    """

    tree: Mount
    loop: Loop
    options: MountOptions
    nodes: NodeTable
    files: Table[Node]  # open backed files by handle, which is the descriptor
    directories: DirectoryFds
    node_fds: NodeFds
    open_file_cache: OpenFileCache
    passthrough: Passthrough
    mount_table: MountTable
    access: Access
    cache_policy: CachePolicy
    metadata_cache: MetadataCache
    recorder: Recorder
    locks: LockOwners
    claims: CacheClaims | None  # None if there is no other mount process
    handles: Handles
    transaction_files: TransactionFiles

    @classmethod
    def create(
        cls,
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
    ) -> "State":
        """Create the collaborators of a mount with an empty mount table.

        `cache_seconds` is the longest validity of the kernel's caches. `call` calls a method of the daemon.
        """
        nodes, files, open_file_cache = NodeTable(), Table[Node](errno.EBADF), OpenFileCache()
        directories = DirectoryFds(open_file_cache.remove_directory)
        access, metadata_cache = Access(principal, open_file_cache), MetadataCache()
        passthrough, reads = Passthrough(access), ReadAudit(nodes)
        recorder = Recorder(reads, files, open_file_cache, passthrough, metadata_cache, principal, journal, spool)
        return cls(
            tree=tree,
            loop=loop,
            options=options,
            nodes=nodes,
            files=files,
            directories=directories,
            node_fds=NodeFds(nodes, directories, open_file_cache, recorder, reads),
            open_file_cache=open_file_cache,
            passthrough=passthrough,
            mount_table=MountTable(),
            access=access,
            cache_policy=CachePolicy(open_file_cache, options.store, cache_seconds),
            metadata_cache=metadata_cache,
            recorder=recorder,
            locks=LockOwners(loop.call),
            claims=claims,
            handles=Handles(tree),
            transaction_files=TransactionFiles(call, loop),
        )

    def apply_mount_table(
        self,
        backings: Iterable[tuple[Path, str, bool, Sequence[tuple[str, ...]], bool]],
        mountpoints: Iterable[Path],
        views: Iterable[str],
        sealed: Iterable[str] = (),
        append_only: Iterable[Path] = (),
    ) -> None:
        """Apply the daemon's mount table as `MountTable.apply`, and close the files of areas that are gone."""
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
