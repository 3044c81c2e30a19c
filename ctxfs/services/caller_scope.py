"""The part of the tree, its versions and its records that the calling principal may see."""

import functools
from collections.abc import Hashable

from ctxfs.context.delivery.records import sources_of_answered
from ctxfs.context.delivery.tasks import RESPONSE
from ctxfs.model.path import ROOT, Path
from ctxfs.model.principal import Principal
from ctxfs.policy.derived_access import may_read_derived
from ctxfs.policy.engine import PolicyEngine, Reader
from ctxfs.policy.evaluate import tree_path_of
from ctxfs.policy.owners import NEVER, OWNED_AREAS, Owners
from ctxfs.policy.rules import Verb
from ctxfs.store import rooted_fs
from ctxfs.store.layout import is_versioned
from ctxfs.store.record_names import ANSWERED, is_record
from ctxfs.versions.archive import Archive
from ctxfs.vfs.caller_context import acting_principal


class CallerScope:
    """The permissions of the calling principal (`vfs.caller_context`), as searches, contexts and mounts need them.

    Implements every protocol of `policy.scope`. Every method reads the calling principal when it is called. Methods
    that read versions block.
    """

    def __init__(self, policy: PolicyEngine, owners: Owners, archive: Archive, deliveries: str) -> None:
        """`deliveries`: the host folder of the delivery records."""
        self._policy = policy
        self._owners = owners
        self._archive = archive
        self._deliveries = deliveries

    def reader(self) -> Reader | None:
        """Return the filter for search; None for a principal that may read everything."""
        return self._policy.reader(acting_principal())

    def cache_key(self) -> Hashable:
        """Return a key that is equal for principals with the same view of the tree; None for those that see everything."""
        reader = self.reader()
        return None if reader is None else reader.key

    def may(self, verb: Verb, path: Path) -> bool:
        """Return True if the calling principal has a permission at a path."""
        return self._policy.is_allowed(acting_principal(), verb, path)

    def may_read(self, path: Path) -> bool:
        """Return True if the calling principal may read a file."""
        return self.may(Verb.READ, path)

    def may_create(self, path: Path) -> bool:
        """Return True if the calling principal may create files in a directory."""
        return self.may(Verb.CREATE, path)

    def is_for_all_agents(self, path: Path) -> bool:
        """Return True if every agent may read a file."""
        return self._policy.is_for_all_agents(path)

    def restricted_principal(self) -> str:
        """Return the calling principal; empty for one that may see everything."""
        principal = acting_principal()
        return "" if self._policy.is_unrestricted(principal) else str(principal)

    def sees_all(self) -> bool:
        """Return True if no rule restricts the calling principal."""
        return self._policy.is_unrestricted(acting_principal())

    def sees_events(self, path: Path) -> bool:
        """Return True if a path below history/ exists for the calling principal."""
        return self.may(Verb.LIST, Path(("history", *path.parts)))

    def has_versions(self, path: Path) -> bool:
        """Return True for a path whose versions the calling principal may read."""
        return is_versioned(path) and self.may_read(path)

    def readable_since(self, path: Path, *, below: bool = False) -> int:
        """Return the time from which the calling principal may read the versions of a path, in nanoseconds; 0: all. Blocks.

        That is the last time at which the rules denied the path, or at which the file was moved from a path that is denied. `below`: of
        everything below the path.
        """
        principal = acting_principal()
        if principal is None or self._policy.is_allowed(principal, Verb.ADMIN, ROOT):
            return 0
        since = max(
            self._policy.readable_since(principal, path, below=below), self._owned_since(principal, path, below)
        )
        for moved_ns, source in self._archive.reader.moves_of(str(path)):
            origin = Path.parse(source)
            if moved_ns <= since:
                break
            if not self._policy.is_allowed(principal, Verb.READ, origin):
                return max(since, moved_ns)
            earlier = max(self._policy.readable_since(principal, origin), self._owned_since(principal, origin))
            if earlier > since:
                since = min(earlier, moved_ns)
        return since

    def _owned_since(self, principal: Principal, path: Path, below: bool = False) -> int:
        """Return the time since which an agent owns a task or saved question; NEVER for records, whose versions no agent reads."""
        subject = tree_path_of(path)
        if principal.is_person or not subject.parts or subject.parts[0] not in OWNED_AREAS:
            return 0
        if len(subject.parts) < 2:
            return NEVER if below else 0
        if len(subject.parts) > 2 and is_record(subject.parts[2]):
            return NEVER
        is_derived = len(subject.parts) == 2 or subject.parts[2] == RESPONSE
        if subject.parts[0] == "context" and is_derived and not self._may_read_response(principal, subject):
            return NEVER
        return self._owners.owned_since(principal, subject)

    def _may_read_response(self, principal: Principal, task: Path) -> bool:
        """Return True if an agent may read all recorded sources of a task's response. Blocks."""
        try:
            data = rooted_fs.read_file(self._deliveries, (task.parts[1], ANSWERED))
            sources = sources_of_answered(data)
        except OSError:
            sources = None
        may_read = functools.partial(self._policy.is_allowed, principal, Verb.READ)
        return may_read_derived(principal, self._owners.owners_of(task), sources, may_read)

    def has_quarantine(self) -> bool:
        """Return True if any path or content is in quarantine."""
        return not self._archive.marks.quarantine.is_empty

    def is_withheld(self, path: Path, *texts: bytes) -> bool:
        """Return True if quarantine hides a path, something below it, or one of `texts` from the calling agent. Blocks."""
        principal, marks = acting_principal(), self._archive.marks
        if principal is None or principal.is_person or marks.quarantine.is_empty:
            return False
        quarantine = marks.quarantine
        return quarantine.covers(path) or quarantine.reaches_below(path) or any(map(marks.holds, texts))
