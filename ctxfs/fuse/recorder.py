"""The journal and the audit of a mount."""

from ctxfs.eventlog.audit import errno_name
from ctxfs.eventlog.spool import OK, AuditActor, Spool
from ctxfs.fuse.inodes import Node
from ctxfs.fuse.metadata_cache import MetadataCache
from ctxfs.fuse.open_file_cache import OpenFileCache
from ctxfs.fuse.passthrough import Passthrough
from ctxfs.fuse.read_audit import ReadAudit
from ctxfs.model.principal import Principal
from ctxfs.model.tables import Table
from ctxfs.rpc.frames import ANSWERED
from ctxfs.versions.recording.journal import JournalWriter

# request → the operation that the audit records for its refusal
_AUDIT_OPERATIONS = {
    "lookup": "list",
    "opendir": "list",
    "readdir": "list",
    "readdirplus": "list",
    "mkdir": "create",
    "mknod": "create",
    "symlink": "create",
    "link": "create",
    "unlink": "delete",
    "rmdir": "delete",
    "readlink": "read",
    "getxattr": "read",
    "listxattr": "read",
    "copy_range": "write",
    "allocate": "write",
    "setattr": "meta",
    "setxattr": "meta",
    "removexattr": "meta",
}


class Recorder:
    """Records operations in the audit, and changes of versioned files in the journal. Used by one thread."""

    def __init__(
        self,
        reads: ReadAudit,
        files: Table[Node],
        open_file_cache: OpenFileCache,
        passthrough: Passthrough,
        metadata_cache: MetadataCache,
        principal: Principal,
        journal: JournalWriter,
        spool: Spool,
    ) -> None:
        # Descriptors with writes that the journal has not recorded yet.
        self.written: set[int] = set()
        self._files = files
        self._open_file_cache = open_file_cache
        self._passthrough = passthrough
        self._metadata_cache = metadata_cache
        self._journal = journal
        self._spool = spool
        self._actor = AuditActor(str(principal), journal.actor.session, journal.actor.tool)
        self._reads = reads

    def audit(self, op: str, path: str, to: str = "", outcome: str = OK) -> None:
        """Record an operation, or its refusal, in the audit."""
        if self._open_file_cache.has_opens:
            self.audit_reused_opens()
        self._spool.record_event(self._actor, op, path, to, outcome)

    def audit_refusal(self, request: str, error: OSError) -> None:
        """Record a refused request in the audit.

        Refusals by the daemon are left out, because the daemon has recorded them.
        """
        if ANSWERED not in getattr(error, "__notes__", ()):
            self.audit(_AUDIT_OPERATIONS.get(request, request), str(error.filename or ""), outcome=errno_name(error))

    @property
    def has_unflushed(self) -> bool:
        """Return True if `flush_audit` would write anything."""
        return self._spool.has_buffered or self._open_file_cache.has_opens

    def flush_audit(self) -> None:
        """Write all audit records so that they survive a kill."""
        if self._open_file_cache.has_opens:
            self.audit_reused_opens()
        self._spool.flush()

    def audit_reused_opens(self) -> None:
        """Record the opens that the open file cache has answered. To be called while the nodes have their names."""
        reads = self._reads
        reads.renew()
        self._spool.record_events(
            self._actor, [(when, reads[number]) for number, when in self._open_file_cache.take_opens()]
        )

    def record(self, op: str, node: Node, action: str = "write") -> None:
        """Record a change of a backed file.

        The audit records `action`. If the area is versioned, the journal records `op`.
        """
        self._metadata_cache.clear()
        path = node.path_text
        if op != "sync":
            self.audit(action, path)
        if node.area is not None and node.area.versioned:
            self._journal.record(op, path)

    def record_name(self, op: str, parent: Node, name: bytes, action: str, to: str = "") -> None:
        """Record a change of a name in a directory, as `record`; `to` is the path that it was moved to."""
        self._metadata_cache.clear()
        path = parent.path_text_below(name)
        self.audit(action, path, to)
        if parent.area is not None and parent.area.versioned:
            self._journal.record(op, path, to or None)

    def collect_written(self) -> None:
        """Add the handles to `written` that the kernel has written to by passthrough."""
        self.written.update(self._passthrough.take_written())

    def record_written(self) -> None:
        """Record the writes on all handles that are still open, so that the current content can become a version."""
        self.collect_written()
        for fd in list(self.written):
            self.record("write", self._files[fd])
        self.written.clear()

    def close(self) -> None:
        """Record the last writes, and close the journal and the spool of the audit."""
        self.record_written()
        self._journal.close()
        self.flush_audit()
        self._spool.close()
