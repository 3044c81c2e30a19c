"""The status of a store: the answer of `ctxfs status`, and the files of `.ctxfs/`."""

import errno
import itertools
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from ctxfs import __version__
from ctxfs.context.grounding.review import Curator
from ctxfs.index.options import IndexedRoot
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.errors import path_error
from ctxfs.model.installation import install_command, missing_modules
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path, printable
from ctxfs.model.principal import Principal
from ctxfs.mounts.control import ControlMount, as_json
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import Verb
from ctxfs.services.citations import Citations
from ctxfs.services.kind_remarks import KindRemarks
from ctxfs.services.sources import Sources
from ctxfs.store.control_file import ControlFile
from ctxfs.store.layout import Layout
from ctxfs.store.lost_and_found import list_stray_files
from ctxfs.store.memory_file import MemoryFile
from ctxfs.threads import blocking
from ctxfs.toolbox import Toolbox
from ctxfs.versions.archive import Archive
from ctxfs.vfs.caller_context import acting_branch, acting_principal
from ctxfs.vfs.namespace import Namespace

_KIND_SECONDS = 0.2  # in which a request for the status checks memories
_MAX_REMARKS = 20


class MountListing(Protocol):
    """The mount points that a daemon serves."""

    def listing(self) -> list[Mapping[str, object]]:
        """Return the mount points as plain values."""
        ...


class SecretFindings(Protocol):
    """The likely secrets that a daemon has detected."""

    @property
    def findings(self) -> Mapping[str, list[str]]:
        """Return {path in the tree: [`line 3: AWS Access Key`, …]} of the files with likely secrets."""
        ...


class SpooledEvents(Protocol):
    """The number of waiting events, and of events that did not fit, in a capture spool."""

    @property
    def waiting(self) -> int:
        """Return the number of events that are not in the event log yet."""
        ...

    @property
    def dropped(self) -> int:
        """Return the number of events that were not recorded, because the spool was full."""
        ...


class CaptureSpool(Protocol):
    """The events of clients that the event log does not have yet."""

    def count_waiting(self) -> SpooledEvents:
        """Return the numbers of events in the spool. Blocks."""
        ...


class SharedMembership(Protocol):
    """The membership in a shared store."""

    def status(self) -> Mapping[str, object]:
        """Return the state as plain values; empty without a membership. Blocks."""
        ...


class _NoDaemon:
    """The substitute while this process is no daemon."""

    findings: Mapping[str, list[str]] = MappingProxyType({})

    def listing(self) -> list[Mapping[str, object]]:
        return []


class DaemonState:
    """The daemon's part of the status; without a daemon everything is empty."""

    def __init__(self) -> None:
        self.progress: dict[str, object] = {}
        # Of each remote with `auto`: the fault, and when it was last reached, in seconds since 1970 (None: never).
        self.remotes: dict[str, dict[str, Any]] = {}
        self._mounts: MountListing = _NoDaemon()
        self._secrets: SecretFindings = _NoDaemon()

    def connect(self, mounts: MountListing, secrets: SecretFindings) -> None:
        """Use the parts of the daemon."""
        self._mounts = mounts
        self._secrets = secrets

    def mountpoints(self) -> list[Mapping[str, object]]:
        """Return the mount points as plain values."""
        return self._mounts.listing()

    def secrets(self) -> Mapping[str, list[str]]:
        """Return {path in the tree: [`line 3: AWS Access Key`, …]} of the files with likely secrets."""
        return self._secrets.findings


class Status:
    """Collects the status from the parts of a store."""

    def __init__(
        self,
        layout: Layout,
        owner: Principal,
        daemon: DaemonState,
        searcher: Searcher,
        sources: Sources,
        policy: PolicyEngine,
        tools: Toolbox,
        archive: Archive,
        curator: Curator,
        memory_file: MemoryFile,
        citations: Citations,
        kinds: KindRemarks,
        capture: CaptureSpool,
        sharing: SharedMembership,
    ) -> None:
        self._sharing = sharing
        self._citations = citations
        self._layout = layout
        self._owner = owner
        self._daemon = daemon
        self._searcher = searcher
        self._sources = sources
        self._policy = policy
        self._tools = tools
        self._archive = archive
        self._curator = curator
        self._memory_file = memory_file
        self._kinds = kinds
        self._capture = capture

    async def read(self) -> dict[str, object]:
        """Return the status as plain values, with the paths that the calling principal may read."""
        index = await blocking(self._searcher.state)
        counts = index.counts
        captured = await blocking(self._capture.count_waiting)
        return {
            "version": __version__,
            "store": str(self._layout.root),
            "pid": os.getpid(),
            "principal": str(self._owner),
            "mounts": list(self._daemon.mountpoints()),
            "sources": [_source_status(root) for root in self._sources.indexed_roots()],
            "providers": self._sources.providers.status(),
            "index": {
                "files": counts.files if counts else 0,
                "searchable": counts.searchable if counts else 0,
                "skipped": dict(index.skipped),
                "partial": index.partial,
                "skipped_files": self._readable(index.skipped_files),
                "behind": self._searcher.behind(),
                "chunks": counts.chunks if counts else 0,
                "embeddable": counts.embeddable if counts else 0,
                "noise": dict(index.noise),
                "ignored_folders": dict(index.ignored_folders),
                "waiting_for_meaning": counts.waiting if counts else 0,
                "chunks_per_second": index.chunks_per_second,
                "device": index.device,
                # Without those that no chunk uses any more, which stay until the next cleaning.
                "vectors": min(index.vectors, counts.embeddable - counts.waiting) if counts else 0,
                "meaning": index.meaning or "ok",
                "model": index.model,
                "graph": _graph_note(index.vectors, self._sources.indexer_options().exact_below),
                "damaged": index.damaged,
                **self._daemon.progress,
            },
            "policy": {"rules": len(self._policy.rules), "fault": self._policy.fault},
            "memory": await blocking(self._memory),
            "tools": self._tools.status(),
            "found": [folder.text for folder in await blocking(list_stray_files, self._layout.root)],
            "secrets": dict(sorted(self._daemon.secrets().items())),
            "versions": await blocking(self._versions),
            "remotes": dict(self._daemon.remotes),
            "shared": await blocking(self._sharing.status),
            "review": await self._curator.status(),
            "citations": await self._citations.summary(),
            "capture": {"waiting": captured.waiting, "dropped": captured.dropped},
        }

    async def skipped(self) -> bytes:
        """Return skipped.jsonl: each file that is not indexed, or in part, with the reason."""
        index = await blocking(self._searcher.state)
        files = self._readable(index.skipped_files)
        lines = (json.dumps({"path": path, "why": why}, ensure_ascii=False) for path, why in files.items())
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")

    def _readable(self, files: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Return {path: reason} of the files that the calling principal may read."""
        principal = acting_principal()
        return {
            printable(path): why
            for path, why in files
            if self._policy.is_allowed(principal, Verb.READ, Path.parse(path))
        }

    def _memory(self) -> dict[str, object]:
        report = self._kinds.check(_KIND_SECONDS)
        remarks = self._readable(sorted(report.remarks.items()))
        return {
            "kinds": len(self._memory_file.rules.kinds),
            "fault": self._memory_file.fault,
            "checked": report.checked,
            "complete": report.is_complete,
            "remarked": len(remarks),
            "remarks": dict(itertools.islice(remarks.items(), _MAX_REMARKS)),
        }

    def _versions(self) -> dict[str, object]:
        try:
            return self._archive.status()
        except OSError as error:
            return {"state": f"down: {error.strerror}"}


def control_mount(
    layout: Layout,
    owner: Principal,
    status: Status,
    namespace: Namespace,
    policy: PolicyEngine,
    rules: Iterable[ControlFile],
) -> Mount:
    """Return the mount of `.ctxfs/`."""

    async def read_status() -> bytes:
        return as_json(await status.read())

    async def whoami() -> bytes:
        branch = acting_branch()
        work = f"branch {branch.name}\n" if branch is not None else ""
        return f"{acting_principal() or owner}\n{work}".encode()

    async def mounts() -> bytes:
        return as_json([f"/{path}" for path in sorted(namespace.mountpoints)])

    async def errors() -> bytes:
        try:
            return await blocking(layout.errors.read_bytes)
        except FileNotFoundError:
            return b""

    def may_edit() -> bool:
        return policy.is_allowed(acting_principal(), Verb.ADMIN, ROOT)

    files = {
        "status": read_status,
        "whoami": whoami,
        "mounts": mounts,
        "errors.jsonl": errors,
        "skipped.jsonl": status.skipped,
    }
    writers = {file.file.name: _writer_of(file, may_edit) for file in rules}
    readers = {file.file.name: _reader_of(file) for file in rules}
    return ControlMount({**files, **readers}, writers, may_edit)


def _reader_of(file: ControlFile) -> Callable[[], Awaitable[bytes]]:
    async def read_rules() -> bytes:
        return await blocking(file.read)

    return read_rules


def _writer_of(file: ControlFile, may_edit: Callable[[], bool]) -> Callable[[bytes], Awaitable[None]]:
    async def write_rules(data: bytes) -> None:
        if not may_edit():
            raise path_error(errno.EACCES, file.file.name, "only who administers everything writes rules")
        await blocking(file.write, data)

    return write_rules


def _source_status(root: IndexedRoot) -> dict[str, object]:
    is_there = os.path.isdir(root.root)
    return {"at": root.prefix, "path": root.root, "state": "ok" if is_there else "down: the folder does not exist"}


def _graph_note(vectors: int, exact_below: int) -> str:
    """Return a remark on slower search if the graph is due, and hnswlib is not installed; else an empty text."""
    if vectors < exact_below or not missing_modules("graph"):
        return ""
    return f"every question is compared with {vectors} vectors, because hnswlib is not installed: {install_command('graph')}"
