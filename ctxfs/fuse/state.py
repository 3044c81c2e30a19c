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
SYNTHETIC = 1 << 40
_ALL_BITS = 0o177777


@dataclass(slots=True)
class MountTable:
    """The areas, mount points and views of the tree, as the daemon sends them."""

    areas: dict[Path, Area] = field(default_factory=dict)
    structure: frozenset[Path] = frozenset()
    views: frozenset[bytes] = frozenset()
    sealed: frozenset[str] = frozenset()
    grows: frozenset[Path] = frozenset()


class State:
    """The shared state of the handlers. Used by the thread that runs them; no method waits."""

    def __init__(
        self,
        tree: Mount,
        loop: Loop,
        store: str,
        keep_seconds: float,
        principal: Principal,
        journal: JournalWriter,
        spool: Spool,
        call: Call,
        *,
        notes_reads: bool = True,
        claims: CacheClaims | None = None,
    ) -> None:
        """Create the state of a mount with an empty mount table.

        `notes_reads`: the audit records reads. `claims`: see `CacheClaims`; None if there is no other mount process.
        """
        self.tree = tree
        self.principal = principal
        self.journal = journal
        self.spool = spool
        self._doer = AuditActor(str(principal), journal.actor.session, journal.actor.tool)
        self.loop = loop
        self.store = store
        self.nodes = NodeTable()
        self._reads = ReadAudit(self.nodes)
        self.handles = Handles(tree)
        self.conversations = TransactionFiles(call, loop)
        self.notes_reads = notes_reads
        # If True, no file is opened: the kernel reads by inode number and serves later reads from its cache. This is
        # safe only for a read-only mount without an audit of reads.
        self.unopened = False
        self.users: frozenset[int] | None = None  # the uids that are served; None: the kernel decides
        self.files: Table[Node] = Table(errno.EBADF)
        self.handed_over = Passthrough(lambda: self.free)
        self.kept = OpenFileCache()
        self.caches: Caches | None = None  # None until it is mounted
        self.directories = DirectoryFds(self.kept.closed)
        self.locks = LockOwners(loop.call)
        self.claims = claims
        self.compares_modes = False  # the kernel compares modes with its callers
        # The kernel checks callers by ACLs, or admits root alone. If False, shown modes grant no more than the ACL.
        self.judges_acls = True
        self.uncached: set[int] = set()  # handles with direct I/O, without page cache
        # Descriptors with writes that the journal has not recorded yet.
        self.written: set[int] = set()
        # The last computed attributes of one file, with their expiry: `getfattr` requests them one by one.
        self.described: tuple[Path, float, Mapping[str, bytes]] | None = None
        self.shape = MountTable()
        # Empty until the daemon has sent the rules; until then every request goes to the daemon anyway.
        self.policy = PolicyEngine()
        self.free = False
        self._epoch = 0
        self._wanted_seconds = keep_seconds
        # Without the daemon there are no change notices, so nothing may be cached.
        self._connected, self.shared = True, False
        self.keep_seconds = self.keep_written_seconds = keep_seconds
        self._areas_made = 0
        # Paths of remaining areas that have become hidden or visible, until the kernel's caches are invalidated.
        self.changed_places: list[tuple[Area, tuple[bytes, ...]]] = []
        self.removed_structure: frozenset[Path] = frozenset()  # by the last change of the mount table

    def set_connected(self, connected: bool) -> None:
        """Let the kernel cache only while the daemon sends change notices."""
        self._connected = connected
        self._set_keeping()

    def set_shared(self, shared: bool) -> None:
        """Set whether other mount points write to the same files.

        If so, their writes must be visible at once, and writable files are not cached.
        """
        self.shared = shared
        self.kept.end_all()
        self._set_keeping()

    def _set_keeping(self) -> None:
        self.keep_seconds = self._wanted_seconds if self._connected else 0.0
        self.keep_written_seconds = 0.0 if self.shared else self.keep_seconds

    def keeps(self, area: Area) -> float:
        """Return how many seconds the kernel may cache names and attributes of an area."""
        return self.keep_written_seconds if area.writable else self.keep_seconds

    def is_shared(self, area: Area) -> bool:
        """Return True if other mount points write to the area: its files then bypass this mount's page cache."""
        return self.shared and area.writable

    def may_be_apart(self, area: Area, *, maps_writable: bool) -> bool:
        """Return True if a mapping through this mount's page cache could differ from another mapping of the same file.

        Other mount points may map the files, and any program may map those of a source. Such a handle gets no page
        cache: the kernel then refuses to map it with MAP_SHARED.
        """
        if not area.writable:
            return False
        return self.shared or (maps_writable and not area.root.startswith(self.store + "/"))

    def reshape(
        self,
        backings: Iterable[tuple[Path, str, bool, Sequence[tuple[str, ...]], bool]],
        mountpoints: Iterable[Path],
        views: Iterable[str],
        sealed: Iterable[str] = (),
    ) -> None:
        """Apply the daemon's mount table; areas that stay keep their inode numbers."""
        self.kept.end_all()
        areas: dict[Path, Area] = {}
        for path, root, writable, places, versioned in backings:
            hidden = frozenset(tuple(map(os.fsencode, parts)) for parts in places)
            area = self.shape.areas.get(path)
            if area is None or area.root != root:
                self._areas_made += 1
                area = Area(self._areas_made, path, root, writable, hidden, versioned)
            # Inode numbers must stay, or every working directory and mount below the area would be lost.
            self.changed_places += [(area, names) for names in area.hidden ^ hidden]
            area.writable, area.hidden, area.versioned = writable, hidden, versioned
            areas[path] = area
        staying = set(areas.values())
        for node in self.nodes:
            if node.area is not None and node.area not in staying:
                self.directories.forget(node)  # so that the host can unmount the file system of the area
        structure = {Path(point.parts[:depth]) for point in mountpoints for depth in range(len(point.parts) + 1)}
        self.removed_structure = self.shape.structure - structure
        self.shape = MountTable(
            areas, frozenset(structure), frozenset(os.fsencode(view) for view in views), frozenset(sealed)
        )

    def take_policy(self, rules: list[Any]) -> None:
        """Apply new rules."""
        self.policy.use_wire(rules)
        self.free = self.policy.is_free(self.principal)
        self.kept.end_all()
        self.moved()

    def moved(self) -> None:
        """Discard the decisions by path after names have changed."""
        self._epoch += 1
        if not self.free:
            self.kept.end_all()

    def rights(self, node: Node) -> Rights:
        """Return the rights of the principal on a node."""
        return ALL if self.free else self._decided(node)[1]

    def may(self, node: Node, verb: int) -> bool:
        """Return True if the principal has all permissions of the bit set `verb` on a node.

        Every open and read calls this.
        """
        return self.free or self._decided(node)[2] & verb == verb

    def true_mode(self, node: Node, mode: int) -> int:
        """Return the mode of a file, masked by the principal's rights."""
        return mode if self.free else mode & self._decided(node)[3]

    def _decided(self, node: Node) -> tuple[int, Rights, int, int]:
        known = node.rights
        if known is None or known[0] != self._epoch:
            rights = self.policy.rights(self.principal, node.path)
            known = node.rights = (self._epoch, rights, int(rights.verbs), masked_mode(_ALL_BITS, rights, is_dir=False))
        return known

    def rights_below(self, parent: Node, name: bytes) -> Rights:
        """Return the rights of the principal on a name in a directory, which need not exist."""
        if self.free:
            return ALL
        return self.policy.rights(self.principal, Path((*parent.path.parts, os.fsdecode(name))))

    def existing(self, parent: Node, names: list[bytes]) -> list[bytes]:
        """Return those of the names in a directory that exist for the principal.

        The result for the last list of names is cached.
        """
        if self.rights(parent).lists_below:
            if parent.path.parts[:1] != ("knowledge",):
                return names
            found = [name for name in names if not is_repository(name)]
            return names if len(found) == len(names) else found
        known = parent.listed
        if known is not None and known[0] == self._epoch and known[1] == names:
            return known[2]
        at, rights = parent.path.parts, self.policy.rights
        found = [name for name in names if rights(self.principal, Path((*at, os.fsdecode(name)))).exists]
        parent.listed = self._epoch, names, names if len(found) == len(names) else found
        return parent.listed[2]

    def forget(self, number: int, lookups: int) -> None:
        """Decrement a lookup count; with the last reference release all resources of the node."""
        if self.kept.noted:
            self._note_kept()  # while the node still has its name
        node = self.nodes.forget(number, lookups)
        if node is None:
            return
        self._reads.pop(number, None)
        self.kept.end(node)  # closing its last descriptor removes the node
        if not node.descriptors:
            self.directories.forget(node)

    def stale(self, node: Node) -> None:
        """Mark the kernel's cached pages of a node as stale."""
        node.cached = None
        self.kept.end(node)

    def unlinked(self, parent: Node, name: bytes) -> Node | None:
        """Remove a name as `NodeTable.unlinked`, and evict its file from the open file cache."""
        node = self.nodes.unlinked(parent, name)
        if node is not None:
            self.kept.end(node)
        return node

    def note(self, op: str, path: str, to: str = "", outcome: str = OK) -> None:
        """Record an operation, or its refusal, in the audit."""
        if self.kept.noted:
            self._note_kept()
        self.spool.note(self._doer, op, path, to, outcome)

    def flush_audit(self) -> None:
        """Write all audit records so that they survive a kill."""
        if self.kept.noted:
            self._note_kept()
        self.spool.flush()

    def _note_kept(self) -> None:
        reads = self._reads
        reads.renew()
        self.spool.note_said(self._doer, [(when, reads[number]) for number, when in self.kept.opened()])

    def record(self, op: str, node: Node, done: str = "write") -> None:
        """Record a change of a backed file.

        The audit records `done`. If the area is versioned, the journal records `op`.
        """
        self.described = None
        path = node.text
        if op != "sync":
            self.note(done, path)
        if node.area is not None and node.area.versioned:
            self.journal.record(op, path)

    def record_name(self, op: str, parent: Node, name: bytes, done: str, to: str = "") -> None:
        """Record a change of a name in a directory, as `record`; `to` is the path that it was moved to."""
        self.described = None
        path = parent.text_below(name)
        self.note(done, path, to)
        if parent.area is not None and parent.area.versioned:
            self.journal.record(op, path, to or None)

    def notice_written(self) -> None:
        """Add the handles to `written` that the kernel has written to by passthrough."""
        self.written.update(self.handed_over.written())

    def record_written(self) -> None:
        """Record the writes on all handles that are still open, so that the current content can become a version."""
        self.notice_written()
        for fd in list(self.written):
            self.record("write", self.files[fd])
        self.written.clear()

    def area_below(self, parent: Node, name: bytes) -> Area | None:
        """Return the area whose top is `name` in `parent`, or None."""
        if parent.area is not None:
            return None
        return self.shape.areas.get(Path((*parent.path.parts, os.fsdecode(name))))

    def is_sealed(self, path: Path) -> bool:
        """Return True below a mount point or view that is immutable, independent of the modes."""
        return not self.shape.sealed.isdisjoint(path.parts)

    def only_grows(self, path: Path) -> bool:
        """Return True below a mount point whose files are append-only."""
        return any(path.is_below(at) for at in self.shape.grows)

    def is_structure(self, path: Path) -> bool:
        """Return True for directories that only mounting and unmounting changes."""
        return path in self.shape.structure or path == ROOT

    def structure_below(self, path: Path) -> list[str]:
        """Return the visible names that lead from a structural directory to mount points, sorted."""
        depth = len(path.parts)
        names = {at.parts[depth] for at in self.shape.structure if len(at.parts) > depth and at.is_below(path)}
        seen = (name for name in names if self.policy.rights(self.principal, Path((*path.parts, name))).exists)
        return sorted(name for name in seen if not name.startswith("."))

    def node_for(self, parent: Node, name: bytes, area: Area, found: os.stat_result) -> Node:
        """Return the node of a host file by its stat result."""
        return self.nodes.on_disk(parent, name, area, found.st_dev, found.st_ino, st.S_IFMT(found.st_mode))

    def top_node(self, parent: Node, name: bytes, area: Area, found: os.stat_result) -> Node:
        """Return the node of the root directory of an area."""
        node = self.node_for(parent, name, area, found)
        node.top = True
        return node
