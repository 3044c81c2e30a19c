"""What the handlers of one mount share: the nodes, the descriptors, the areas on disk, the way to the daemon."""

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

# Handles of synthetic files are numbered from here; below are real descriptors.
SYNTHETIC = 1 << 40
_ALL_BITS = 0o177777


@dataclass(slots=True)
class MountTable:
    """What the daemon says the tree is made of."""

    areas: dict[Path, Area] = field(default_factory=dict)
    structure: frozenset[Path] = frozenset()
    views: frozenset[bytes] = frozenset()
    sealed: frozenset[str] = frozenset()
    grows: frozenset[Path] = frozenset()


class State:
    """Used by the thread that runs the handlers; nothing here waits."""

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
        """`notes_reads`: the audit wants to know who reads what. `claims`: see there; None where there is no other mount process."""
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
        # Nothing is opened: the kernel reads by number, and what it has read it does not ask for again. Where nobody writes and no
        # reading is noted nothing is missed by it.
        self.unopened = False
        self.users: frozenset[int] | None = None  # None: the kernel decides
        self.files: Table[Node] = Table(errno.EBADF)
        self.handed_over = Passthrough(lambda: self.free)
        self.kept = OpenFileCache()
        self.caches: Caches | None = None  # known once it is mounted
        self.directories = DirectoryFds(self.kept.closed)
        self.locks = LockOwners(loop.call)
        self.claims = claims
        self.compares_modes = False  # the kernel compares them with its callers
        # The kernel judges callers by ACLs, or lets none in but root: otherwise modes are shown that open no more than the ACL.
        self.judges_acls = True
        self.uncached: set[int] = set()  # handles whose bytes the kernel keeps none of
        # Descriptors that were written to since the journal last heard of them.
        self.written: set[int] = set()
        # What the tree said last of one file's attributes, and until when: `getfattr` asks for them one by one.
        self.described: tuple[Path, float, Mapping[str, bytes]] | None = None
        self.shape = MountTable()
        # Until the daemon has said what the rules are, everything is asked of it anyway.
        self.policy = PolicyEngine()
        self.free = False
        self._epoch = 0
        self._wanted_seconds = keep_seconds
        # No daemon, no word of changes: then nothing may be cached.
        self._connected, self.shared = True, False
        self.keep_seconds = self.keep_written_seconds = keep_seconds
        self._areas_made = 0
        # Places that have been hidden, or are no longer, of areas that stay: until the kernel's caches are invalidated.
        self.changed_places: list[tuple[Area, tuple[bytes, ...]]] = []
        self.removed_structure: frozenset[Path] = frozenset()  # by the last change of the mount table

    def set_connected(self, connected: bool) -> None:
        """Cache only while changes are heard of."""
        self._connected = connected
        self._set_keeping()

    def set_shared(self, shared: bool) -> None:
        """Others write to the same files, and what they do must be seen at once: of files that can be written nothing is kept."""
        self.shared = shared
        self.kept.end_all()
        self._set_keeping()

    def _set_keeping(self) -> None:
        self.keep_seconds = self._wanted_seconds if self._connected else 0.0
        self.keep_written_seconds = 0.0 if self.shared else self.keep_seconds

    def keeps(self, area: Area) -> float:
        """For how many seconds the kernel may keep names and attributes there."""
        return self.keep_written_seconds if area.writable else self.keep_seconds

    def is_shared(self, area: Area) -> bool:
        """True where other mount points write: then the page cache of this one holds nothing of what is there."""
        return self.shared and area.writable

    def may_be_apart(self, area: Area, *, maps_writable: bool) -> bool:
        """True where a mapping of a file through the page cache of this mount could differ from a mapping that another door made.

        Other mount points map the same files, and any program those of a source. Then such a handle has no page cache: the kernel
        refuses to map it with MAP_SHARED.
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
        """Take over the daemon's mount table; areas that stay keep their numbers."""
        self.kept.end_all()
        areas: dict[Path, Area] = {}
        for path, root, writable, places, versioned in backings:
            hidden = frozenset(tuple(map(os.fsencode, parts)) for parts in places)
            area = self.shape.areas.get(path)
            if area is None or area.root != root:
                self._areas_made += 1
                area = Area(self._areas_made, path, root, writable, hidden, versioned)
            # The numbers of its files stay, or every working directory and mount in it would be lost.
            self.changed_places += [(area, names) for names in area.hidden ^ hidden]
            area.writable, area.hidden, area.versioned = writable, hidden, versioned
            areas[path] = area
        staying = set(areas.values())
        for node in self.nodes:
            if node.area is not None and node.area not in staying:
                self.directories.forget(node)  # the host may want to unmount what was behind it
        structure = {Path(point.parts[:depth]) for point in mountpoints for depth in range(len(point.parts) + 1)}
        self.removed_structure = self.shape.structure - structure
        self.shape = MountTable(
            areas, frozenset(structure), frozenset(os.fsencode(view) for view in views), frozenset(sealed)
        )

    def take_policy(self, rules: list[Any]) -> None:
        """These rules are in force."""
        self.policy.use_wire(rules)
        self.free = self.policy.is_free(self.principal)
        self.kept.end_all()
        self.moved()

    def moved(self) -> None:
        """Names have changed: what was decided by path is decided again."""
        self._epoch += 1
        if not self.free:
            self.kept.end_all()

    def rights(self, node: Node) -> Rights:
        """What whoever mounted may do to a node."""
        return ALL if self.free else self._decided(node)[1]

    def may(self, node: Node, verb: int) -> bool:
        """True if they may do all of `verb`, a number, to a node: asked at every open and read."""
        return self.free or self._decided(node)[2] & verb == verb

    def true_mode(self, node: Node, mode: int) -> int:
        """The mode of a file without the bits that are not true for them."""
        return mode if self.free else mode & self._decided(node)[3]

    def _decided(self, node: Node) -> tuple[int, Rights, int, int]:
        known = node.rights
        if known is None or known[0] != self._epoch:
            rights = self.policy.rights(self.principal, node.path)
            known = node.rights = (self._epoch, rights, int(rights.verbs), masked_mode(_ALL_BITS, rights, is_dir=False))
        return known

    def rights_below(self, parent: Node, name: bytes) -> Rights:
        """What they may do to a name in a directory, whether it is there or not."""
        if self.free:
            return ALL
        return self.policy.rights(self.principal, Path((*parent.path.parts, os.fsdecode(name))))

    def existing(self, parent: Node, names: list[bytes]) -> list[bytes]:
        """Those of the names in a directory that exist for them; what it said of the same names before is remembered."""
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
        """The kernel dropped references; with the last one goes everything that was kept for the node."""
        if self.kept.noted:
            self._note_kept()  # while its name is known
        node = self.nodes.forget(number, lookups)
        if node is None:
            return
        self._reads.pop(number, None)
        self.kept.end(node)  # and with its last descriptor it is forgotten
        if not node.descriptors:
            self.directories.forget(node)

    def stale(self, node: Node) -> None:
        """What the kernel has read of it is not what is there."""
        node.cached = None
        self.kept.end(node)

    def unlinked(self, parent: Node, name: bytes) -> Node | None:
        """See NodeTable. Nothing of ours keeps alive what nobody can reach any more."""
        node = self.nodes.unlinked(parent, name)
        if node is not None:
            self.kept.end(node)
        return node

    def note(self, op: str, path: str, to: str = "", outcome: str = OK) -> None:
        """Tell the audit what was done, or refused."""
        if self.kept.noted:
            self._note_kept()
        self.spool.note(self._doer, op, path, to, outcome)

    def flush_audit(self) -> None:
        """Everything noted until now survives a kill."""
        if self.kept.noted:
            self._note_kept()
        self.spool.flush()

    def _note_kept(self) -> None:
        reads = self._reads
        reads.renew()
        self.spool.note_said(self._doer, [(when, reads[number]) for number, when in self.kept.opened()])

    def record(self, op: str, node: Node, done: str = "write") -> None:
        """Tell the journal what was done to a file on disk, if its area has a past, and the audit what that was (`done`)."""
        self.described = None
        path = node.text
        if op != "sync":
            self.note(done, path)
        if node.area is not None and node.area.versioned:
            self.journal.record(op, path)

    def record_name(self, op: str, parent: Node, name: bytes, done: str, to: str = "") -> None:
        """The same, of a name in a directory; `to` is where it was moved."""
        self.described = None
        path = parent.text_below(name)
        self.note(done, path, to)
        if parent.area is not None and parent.area.versioned:
            self.journal.record(op, path, to or None)

    def notice_written(self) -> None:
        """Ask what the kernel has written by itself."""
        self.written.update(self.handed_over.written())

    def record_written(self) -> None:
        """Everything written on handles that are still open: a version of it as it is now."""
        self.notice_written()
        for fd in list(self.written):
            self.record("write", self.files[fd])
        self.written.clear()

    def area_below(self, parent: Node, name: bytes) -> Area | None:
        """The area that `name` in `parent` is the top of, if any."""
        if parent.area is not None:
            return None
        return self.shape.areas.get(Path((*parent.path.parts, os.fsdecode(name))))

    def is_sealed(self, path: Path) -> bool:
        """True below a mountpoint or view in which nothing can be changed, whatever the modes say."""
        return not self.shape.sealed.isdisjoint(path.parts)

    def only_grows(self, path: Path) -> bool:
        """True below a mountpoint whose files are only added to."""
        return any(path.is_below(at) for at in self.shape.grows)

    def is_structure(self, path: Path) -> bool:
        """True for directories that only mounting and unmounting changes."""
        return path in self.shape.structure or path == ROOT

    def structure_below(self, path: Path) -> list[str]:
        """Names that lead from a structural directory to mountpoints, hidden ones left out."""
        depth = len(path.parts)
        names = {at.parts[depth] for at in self.shape.structure if len(at.parts) > depth and at.is_below(path)}
        seen = (name for name in names if self.policy.rights(self.principal, Path((*path.parts, name))).exists)
        return sorted(name for name in seen if not name.startswith("."))

    def node_for(self, parent: Node, name: bytes, area: Area, found: os.stat_result) -> Node:
        """The node of a host file that was just looked at."""
        return self.nodes.on_disk(parent, name, area, found.st_dev, found.st_ino, st.S_IFMT(found.st_mode))

    def top_node(self, parent: Node, name: bytes, area: Area, found: os.stat_result) -> Node:
        """The node of an area's root directory."""
        node = self.node_for(parent, name, area, found)
        node.top = True
        return node
