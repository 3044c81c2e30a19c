"""The checks of a node for `ctxfs doctor`: each with its result and the command that repairs a fault.

They read the engine through a connection of their own, and change nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctxfs.model.errors import CommandError
from ctxfs.shared.chain import check_entries, check_head
from ctxfs.shared.log import Entry, Head, SharedLog

_MAX_CLOCK_OFFSET_SECONDS = 1.0
_MAX_UNREAD_SECONDS = 60.0
_MAX_ENTRIES = 100  # of others, among which a node of the same name is looked for
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One check: its name, True without a fault, the finding, and the repair."""

    name: str
    is_ok: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A node of a shared store: both names, the id of its own store, and the newest entry that it has read."""

    store: str
    node: str
    instance: str
    seen: Head


def check_engine(connect: Callable[[], SharedLog], member: Member) -> list[HealthCheck]:
    """Check that the engine is reachable and holds this store's log, the clocks, the node's name, and unread entries."""
    try:
        engine = connect()
    except (OSError, CommandError) as error:
        return [_failed("engine", error)]
    try:
        return _check_log(engine, member)
    except (OSError, CommandError) as error:
        return [_failed("engine", error)]
    finally:
        engine.close()


def _check_log(engine: SharedLog, member: Member) -> list[HealthCheck]:
    newest = engine.head()
    checks = [HealthCheck("engine", True, f"'{member.store}' answers; its newest entry is {newest.number}")]
    checks.append(_check_clock(engine.now(), time.time_ns()))
    try:
        check_head(member.seen, newest)
        unread = engine.entries(member.seen.number, _MAX_ENTRIES) if newest.number > member.seen.number else []
        check_entries(member.seen, unread)
    except (OSError, CommandError) as error:
        return [*checks, _failed("log", error)]
    return [*checks, _check_name(unread, member), _check_unread(unread, newest, engine.now(), member)]


def _check_clock(engine_ns: int, machine_ns: int) -> HealthCheck:
    offset = (machine_ns - engine_ns) / _SECOND_NS
    if abs(offset) <= _MAX_CLOCK_OFFSET_SECONDS:
        return HealthCheck("clock", True, "this machine's clock agrees with the engine's")
    side = "ahead of" if offset > 0 else "behind"
    return HealthCheck(
        "clock",
        False,
        f"this machine's clock is {abs(offset):.0f} s {side} the engine's, which dates versions",
        "set the clock, as by: timedatectl set-ntp true; then restart the daemon",
    )


def _check_name(unread: Sequence[Entry], member: Member) -> HealthCheck:
    if any(entry.node == member.node and entry.instance != member.instance for entry in unread):
        return HealthCheck(
            "node",
            False,
            f"another store has joined '{member.store}' as '{member.node}'",
            "ctxfs leave, then join under another name: ctxfs join URL --node NAME",
        )
    return HealthCheck("node", True, f"'{member.node}' is the name of this node alone")


def _check_unread(unread: Sequence[Entry], newest: Head, now_ns: int, member: Member) -> HealthCheck:
    behind = newest.number - member.seen.number
    detail = f"entry {member.seen.number} is read, {behind} behind the newest"
    if unread and now_ns - unread[0].time_ns > _MAX_UNREAD_SECONDS * _SECOND_NS:
        return HealthCheck("entries", False, detail, "ctxfs sync shows the cause; a daemon follows by itself")
    return HealthCheck("entries", True, detail)


def _failed(name: str, error: Exception) -> HealthCheck:
    if isinstance(error, CommandError):
        return HealthCheck(name, False, error.message, error.remedy)
    cause = error.strerror if isinstance(error, OSError) else ""
    return HealthCheck(
        name, False, cause or str(error), "check the network and the engine; versions wait, and nothing is lost"
    )
