"""The store as a node of a shared store: membership, exchanges and their state. Off without `[shared] url`.

Engines are imported at the first exchange.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from ctxfs.model.clocks import now_seconds
from ctxfs.model.credentials import without_passwords
from ctxfs.model.errors import EXIT_USAGE, CommandError, path_error
from ctxfs.model.path import printable
from ctxfs.policy.rule_history import RuleHistory
from ctxfs.services.agent_grace import AgentGrace
from ctxfs.services.conflict_files import ConflictFiles
from ctxfs.services.engine_connection import connect_engine, host_node_name
from ctxfs.services.erasure import DerivedErasure
from ctxfs.services.sources import SettingsFile, embedder_of
from ctxfs.store.config import set_section
from ctxfs.store.layout import Layout
from ctxfs.store.settings import SharedSettings
from ctxfs.threads import run_in_loop
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.phrases import Phrases
from ctxfs.versions.recording.pathindex import PathChange

if TYPE_CHECKING:
    from ctxfs.services.shared_index import SharedIndex
    from ctxfs.shared.anchor_check import NodeChains
    from ctxfs.shared.certificates import CertificateTopic, ErasureReport
    from ctxfs.shared.exchanges import Exchanged, NodeErasure
    from ctxfs.shared.health import HealthCheck
    from ctxfs.shared.node import Node

_WAIT_SECONDS = 1.0
_STATUS_WAIT_SECONDS = 0.1  # for the versions, which another operation may use


@dataclass(frozen=True, slots=True)
class SharingState:
    """The outcome of the last exchange: the time since when it is the same, the fault (empty: none), and its remedy."""

    fault: str = ""
    remedy: str = ""
    since: float = 0.0
    is_reachable: bool = False


class Sharing:
    """The membership of one store in a shared store."""

    def __init__(
        self,
        layout: Layout,
        settings_file: SettingsFile,
        archive: Archive,
        rule_history: RuleHistory,
        principal: str,
        derived: Callable[[], DerivedErasure],
    ) -> None:
        """Take the parts of a store. `derived` is called when an entry of the log orders an erasure."""
        self._layout = layout
        self._settings_file = settings_file
        self._archive = archive
        self._rule_history = rule_history
        self._principal = principal
        self._derived = derived
        self._unreported = tuple[PathChange, ...]()  # changes during an erasure, unknown to the kernel
        self._is_purge_due = False
        self._certificates: CertificateTopic | None = None
        self.grace = AgentGrace(layout.repo, lambda: self.settings)
        self._node: Node | None = None
        self._index: SharedIndex | None = None
        self._state = SharingState()
        self._waiting = 0  # versions, at the last exchange that failed
        self.conflicts = ConflictFiles(archive)

    @property
    def settings(self) -> SharedSettings:
        """Return the settings in force."""
        return self._settings_file.current.shared

    @property
    def is_on(self) -> bool:
        """Return True if this store is a node of a shared store."""
        return bool(self.settings.url)

    @property
    def is_durable_by_engine(self) -> bool:
        """Return True if fsync waits for the engine."""
        return self.is_on and self.settings.durable == "engine" and not self.settings.read_only

    @property
    def newest_entry(self) -> int:
        """Return the number of the newest entry that was read, or appended. Takes no lock."""
        return self._node.seen.number if self._node is not None else 0

    def is_published(self, revision: str) -> bool:
        """Return True if the engine has a version. Blocks."""
        node = self._node
        return node is not None and bool(node.seen.commit) and self._archive.shared.contains(node.seen.commit, revision)

    @property
    def fault(self) -> str:
        """Return the fault of the last exchange; empty without one."""
        return self._state.fault

    def read_only_reason(self) -> str:
        """Return why this node changes nothing; empty if it may."""
        settings = self.settings
        if not (settings.url and settings.read_only):
            return ""
        until = f" as of entry {settings.at}" if settings.at else ""
        return f"this store follows '{settings.store}' read-only{until}: write at another node, or first: ctxfs leave"

    def check_writable(self) -> None:
        """Raise OSError EROFS if this node is read-only."""
        if reason := self.read_only_reason():
            raise path_error(errno.EROFS, self.settings.store, reason)

    def exchange(self) -> Exchanged:
        """Take, follow and publish versions now. Raise OSError or CommandError, whose text is also in the status."""
        if not self.is_on:
            raise CommandError("this store is not shared", "ctxfs share URL, or ctxfs join URL")
        from ctxfs.shared.log import Unreachable

        node = self._open_node()
        try:
            result = node.exchange()
        except OSError as error:
            self._waiting = self._count_waiting(-1.0)
            self._set_state(error.strerror or str(error), is_reachable=not isinstance(error, Unreachable))
            raise
        except CommandError as error:
            self._set_state(error.message, error.remedy, is_reachable=True)
            raise
        finally:
            if node.current_at:
                self.grace.record(node.current_at)
        self._set_state(node.topic_fault, is_reachable=True)
        return self._with_erasures(result)

    def _with_erasures(self, result: Exchanged) -> Exchanged:
        """Return a result whose changes include the tombstones of erasures."""
        unreported, self._unreported = self._unreported, ()
        if result.erased:
            self._prepare_purge()
        tombstones = [
            PathChange(path, "edit", 0, "", "", 0) for erased in result.erased for path in erased.result.paths
        ]
        return replace(result, changes=(*unreported, *tombstones, *result.changes))

    def erase(self, path: str | None, principal: str, actor: Actor) -> NodeErasure:
        """Erase a path, or all contents of a principal, on all nodes. Raise OSError or CommandError as `exchange` does.

        Nothing is erased if the engine does not answer, or if this node is read-only.
        """
        self.check_writable()
        erasure = self._open_node().erase(path, principal, actor)
        self._unreported += erasure.changes
        self._prepare_purge()
        return erasure

    def _prepare_purge(self) -> None:
        self._is_purge_due = True
        if self._index is not None:
            self._index.erase()

    def record_purge(self) -> None:
        """Record that the index no longer has erased contents, for the certificates of erasures."""
        if self._certificates is not None:
            self._certificates.record_purge()

    def erasures(self) -> tuple[Sequence[ErasureReport], Sequence[str]]:
        """Return all erasures of the shared store with the answers of its nodes, and the names of all nodes."""
        if not self.is_on:
            raise CommandError("this store is not shared", "certificates are for shared stores: ctxfs share URL")
        from ctxfs.shared.certificates import read_reports

        log = connect_engine(self.settings)
        try:
            return read_reports(log)
        finally:
            log.close()

    def read_chains(self) -> list[NodeChains]:
        """Return the checked anchors of all nodes in the log. Raise errors as `exchange` does."""
        from ctxfs.shared.anchor_check import read_chains
        from ctxfs.shared.node_state import NodeStateFile

        log = connect_engine(self.settings)
        try:
            seen = NodeStateFile(self._layout.repo).read(self.settings.store).seen
            return read_chains(log, seen, self._archive.shared.store_id())
        finally:
            log.close()

    def _answer_for_copies(self) -> Mapping[str, str]:
        """Return the answers of this node for copies that it cannot erase."""
        names = ", ".join(sorted(printable(name) for name in self._archive.remotes.urls()))
        return {
            "remotes": f"may hold it until they are replaced: {names}" if names else "none",
            "exports": "not traced: bundles and exported files are outside of the store",
        }

    def pop_purge(self) -> bool:
        """Return True if contents were erased since the last call, which the index still has."""
        is_due, self._is_purge_due = self._is_purge_due, False
        return is_due

    def wait(self) -> bool:
        """Wait for an entry of another node, at most a second. Return True for one; False also without a connection."""
        node, last = self._node, self.settings.at
        if node is not None and last and node.seen.number >= last:
            time.sleep(_WAIT_SECONDS)
            return False
        if node is None or node.connection is None or not self._state.is_reachable:
            time.sleep(_WAIT_SECONDS)
            return True
        try:
            asked = now_seconds()
            if node.connection.wait(node.seen.number, _WAIT_SECONDS):
                return True
            self.grace.record(asked)
            return False
        except OSError as error:
            self._set_state(error.strerror or str(error), is_reachable=False)
            return True
        except CommandError:
            return True  # the exchange that follows reports the fault

    def has_news(self) -> bool:
        """Return True if the newest version differs from the newest entry, or rules may have changed. Takes no lock."""
        node = self._node
        is_due = self._is_purge_due or bool(self._unreported)
        if node is not None and self.settings.read_only:
            return is_due
        return is_due or node is None or self._archive.newest != node.seen.commit or node.has_topic_news()

    def exchange_vectors(self) -> None:
        """Fetch the vectors that other nodes have published, and publish those of this index.

        The next exchange appends the entry about them. Raise OSError or CommandError as `exchange` does.
        """
        is_purged = self._certificates is None or not self._certificates.is_purge_due()
        if self._index is not None and is_purged:  # otherwise vectors of erased texts would be published
            self._index.fetch()
            if not self.settings.read_only:
                self._index.publish()

    def join(self, settings: SharedSettings, *, is_new: bool) -> Exchanged:
        """Make this store a node, and exchange versions; with `is_new` begin the shared store.

        Nothing is changed if the engine refuses.
        """
        if self.is_on:
            shown = without_passwords(self.settings.url)
            raise CommandError(f"this store is a node of '{self.settings.store}' at {shown}", "first: ctxfs leave")
        if settings.at < 0 or (settings.at and not settings.read_only):
            raise CommandError("only a read-only node follows up to an entry", "add --read-only", EXIT_USAGE)
        settings = replace(settings, node=settings.node or host_node_name(), index=self.settings.index)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", settings.node):
            raise CommandError(
                f"'{settings.node}' cannot name a node", "use letters, digits, '.', '_' and '-'", EXIT_USAGE
            )
        from ctxfs.shared.log import LogRefused, Unreachable

        try:
            connect_engine(settings, create=is_new).close()
        except Unreachable as error:
            remedy = "check the URL, and that the engine runs and is reached from here"
            raise CommandError(error.strerror or str(error), remedy) from error
        set_section(self._layout.config, "shared", settings)
        self._settings_file.reload()
        try:
            return self.exchange()
        except LogRefused:
            self.leave()
            raise

    def leave(self) -> None:
        """End the membership. The versions stay, here and there."""
        from ctxfs.services.shared_index import forget_generation
        from ctxfs.shared.node_state import NodeStateFile
        from ctxfs.shared.records_topic import remove_states

        self.close()
        set_section(self._layout.config, "shared", SharedSettings())
        self._settings_file.reload()
        NodeStateFile(self._layout.repo).remove()
        remove_states(self._layout.repo)
        self.grace.forget()
        forget_generation(self._layout.repo)
        self._archive.shared.forget()
        self._state = SharingState()

    def check_may_erase(self) -> None:
        """Raise CommandError if this is a node: other nodes would bring a content of one version back."""
        if self.is_on:
            raise CommandError(
                "this store is shared: its other nodes still have that version, and would bring it back",
                "forget the whole file, on all nodes: ctxfs forget PATH",
            )

    def note(self) -> str:
        """Return a line for readers while the engine is not reached: since when, and how many versions wait; else "".

        It takes no lock and no time.
        """
        state = self._state
        if state.is_reachable or not state.since or not self.is_on:
            return ""
        since = datetime.fromtimestamp(state.since).strftime("%Y-%m-%d %H:%M")
        waiting = f", {self._waiting} version{' waits' if self._waiting == 1 else 's wait'}" if self._waiting else ""
        return f"shared: not reached since {since}{waiting}"

    def status(self) -> Mapping[str, object]:
        """Return the state as plain values; empty if this is not a node."""
        if not self.is_on:
            return {}
        return {
            "url": without_passwords(self.settings.url),
            "store": self.settings.store,
            "node": self.settings.node,
            "read_only": self.settings.read_only,
            "at": self.settings.at,
            "entry": self._node.seen.number if self._node else 0,
            "reachable": self._state.is_reachable,
            "since": self._state.since,
            "fault": self._state.fault,
            "remedy": self._state.remedy,
            "waiting": self._count_waiting(_STATUS_WAIT_SECONDS),
            "grace_seconds": self.settings.grace_seconds,
            "agents_refused": self.grace.refusal(),
            "conflicts": [printable(conflict.path) for conflict in self.conflicts.list(_STATUS_WAIT_SECONDS)],
        }

    def health(self) -> list[HealthCheck]:
        """Check this node and its engine, for `ctxfs doctor`; an empty list if this is not a node."""
        if not self.is_on:
            return []
        from ctxfs.shared.health import HealthCheck, Member, check_engine
        from ctxfs.shared.node_state import NodeStateFile

        settings, state = self.settings, self._state
        seen = NodeStateFile(self._layout.repo).read(settings.store).seen
        member = Member(settings.store, settings.node, self._archive.shared.store_id(), seen)
        checks = check_engine(lambda: connect_engine(settings), member)
        if state.fault and all(check.is_ok for check in checks):
            checks.append(HealthCheck("exchange", False, state.fault, state.remedy or "see: ctxfs sync"))
        if settings.grace_seconds and not settings.at:
            detail, _, remedy = self.grace.refusal().partition(" → ")
            served = f"agents are served until {settings.grace_seconds} seconds without the engine"
            checks.append(HealthCheck("agents", not detail, detail or served, remedy))
        waiting = 0 if settings.read_only else self._archive.shared.count_unpublished(seen.commit)
        is_sending = not waiting or all(check.is_ok for check in checks)
        remedy = "" if is_sending else "they are sent when the faults above are mended: ctxfs sync --wait"
        checks.append(HealthCheck("versions", is_sending, f"{waiting} wait for the engine", remedy))
        if conflicts := self.conflicts.list():
            example = printable(conflicts[0].path)
            detail = f"{len(conflicts)} other contents are kept beside their files, as '{example}'"
            checks.append(HealthCheck("conflicts", False, detail, "decide which contents stay: ctxfs review"))
        return checks

    def _count_waiting(self, wait_seconds: float) -> int:
        """Return the number of versions that wait for the engine; 0 if the versions are in use for `wait_seconds`."""
        if self._node is None or not self.has_news() or not self._archive.lock.acquire(timeout=wait_seconds):
            return 0
        try:
            return self._node.count_unpublished() if self._archive.is_open else 0
        finally:
            self._archive.lock.release()

    def close(self) -> None:
        """Close the connection to the engine."""
        if self._node is not None:
            self._node.close()
            self._node = self._index = None

    def _open_node(self) -> Node:
        if self._node is None:
            from ctxfs.services.shared_index import SharedIndex
            from ctxfs.shared.certificates import CertificateTopic
            from ctxfs.shared.erasures import Erasures
            from ctxfs.shared.log import EntryKind
            from ctxfs.shared.node import Node
            from ctxfs.shared.node_state import NodeStateFile
            from ctxfs.shared.policy_records import open_topics

            settings, repo = self.settings, self._layout.repo
            self._index = SharedIndex(
                self._layout.index,
                self._layout.repo,
                lambda: embedder_of(self._settings_file.current),
                lambda: self.settings.index,
                lambda: connect_engine(settings),
            )
            name = settings.node or host_node_name()
            certificates = self._certificates = CertificateTopic(repo, name, self._answer_for_copies)
            self._node = Node(
                self._archive.shared,
                NodeStateFile(repo),
                settings.store,
                name,
                self._principal,
                lambda: connect_engine(settings),
                {
                    **open_topics(self._layout, self._rule_history),
                    EntryKind.INDEX: self._index,
                    EntryKind.CERTIFICATE: certificates,
                },
                Erasures(self._archive.shared_erasure, self._archive.shared, repo, self._erase_derived, certificates),
                last_entry=settings.at or None,
                is_read_only=settings.read_only,
            )
            self._is_purge_due = self._is_purge_due or certificates.is_purge_due()
        return self._node

    def _erase_derived(self, phrases: Phrases, by: str) -> dict[str, int]:
        return run_in_loop(self._derived().erase, phrases, by)

    def _set_state(self, fault: str, remedy: str = "", *, is_reachable: bool) -> None:
        if not self._state.since or (fault, is_reachable) != (self._state.fault, self._state.is_reachable):
            is_same = self._state.since and is_reachable == self._state.is_reachable
            since = self._state.since if is_same else time.time()
            self._state = SharingState(fault, remedy, since, is_reachable)
