"""The collaborators that the handlers of one mount share."""

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctxfs.eventlog.spool import Spool
from ctxfs.fuse.access import Access
from ctxfs.fuse.cache_policy import CachePolicy
from ctxfs.fuse.directory_fds import DirectoryFds
from ctxfs.fuse.engine_durability import EngineDurability
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
    call: Call  # calls a method of the daemon
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
    durability: EngineDurability

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
            call=call,
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
            durability=EngineDurability(loop, call),
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
        self.mount_table.apply(backings, mountpoints, views, sealed, append_only)
        self.node_fds.retain_areas(self.mount_table.areas.values())
