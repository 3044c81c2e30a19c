"""The records of the event log in which the user of an agent states something: evidence for the agent's profile of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ctxfs.eventlog.record_text import parse_line
from ctxfs.eventlog.session_files import SessionFile, SessionFiles, lines_of_file
from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import Verb

if TYPE_CHECKING:
    from ctxfs.consolidation.user_statements import UserStatement  # the rules take a while to import

_MAX_DAYS = 366
_MAX_FILES = 2_000
_MAX_BYTES = 64_000_000  # of the newest files
_MAX_STATEMENTS = 2_000


class UserRecords:
    """Finds statements in sessions of an agent that both the agent and the calling principal may read. Blocks."""

    def __init__(self, files: SessionFiles, policy: PolicyEngine) -> None:
        self._files = files
        self._policy = policy
        self._silent: dict[
            str, tuple[int, int, int]
        ] = {}  # files without a statement, with the identity of their content

    def statements(self, principal: Principal, owner: str) -> list[UserStatement]:
        """Return the statements of the user of the agent `owner`, oldest first; none if there is no such agent."""
        try:
            agent = parse_principal(f"agent:{owner}")
        except CommandError:
            return []
        found: list[UserStatement] = []
        for file in self._newest_files():
            if self._may_read(principal, file, is_author=False) or principal == agent:
                found += self._statements_of(file, principal, agent)
        found.sort(key=lambda item: (item.time_ns, item.cite))
        return found[-_MAX_STATEMENTS:]

    def _newest_files(self) -> Iterator[SessionFile]:
        count = size = 0
        for day in sorted(self._files.days(), reverse=True)[:_MAX_DAYS]:
            for file in self._files.of_day(day):
                count, size = count + 1, size + file.size
                if count > _MAX_FILES or size > _MAX_BYTES:
                    return
                yield file

    def _statements_of(self, file: SessionFile, principal: Principal, agent: Principal) -> list[UserStatement]:
        """Return the statements of a file in which the agent took part, if both may read all of it."""
        from ctxfs.consolidation.user_statements import statements_in

        identity = (file.inode, file.size, file.mtime_ns)
        if self._silent.get(file.name) == identity:
            return []
        principals = set[str]()
        found: list[UserStatement] = []
        for number, _, line in lines_of_file(file):
            record = parse_line(line.data, is_head=line.is_head)
            if record is not None:
                principals.add(str(record.get("principal", "")))
                found += statements_in(record, f"{file.name}:{number}")
        if not found:
            if len(self._silent) >= _MAX_FILES:
                self._silent.clear()
            self._silent[file.name] = identity
        is_own = str(agent) in principals
        is_author = principals == {str(agent)}
        readers = [agent] if principal == agent else [agent, principal]
        return found if is_own and all(self._may_read(one, file, is_author) for one in readers) else []

    def _may_read(self, principal: Principal, file: SessionFile, is_author: bool) -> bool:
        """Return True for a permission, and for the author of all records of a file, if no rule denies it."""
        decision = self._policy.decide(principal, Verb.READ, Path.parse(file.name))
        return decision.allowed or (is_author and principal.kind == "agent" and decision.rule is None)
