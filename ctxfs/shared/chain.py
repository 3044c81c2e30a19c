"""The chain of a shared log, as one node has read it. An engine that was restored from a backup breaks it."""

from collections.abc import Sequence

from ctxfs.shared.log import Entry, Head, LogRefused

_REMEDY = "restore the engine's newest state; or begin again: ctxfs leave, then ctxfs join"


def check_head(seen: Head, newest: Head) -> None:
    """Raise `LogRefused` if the newest entry cannot follow the last entry that the node has read."""
    if newest.number < seen.number:
        raise LogRefused(
            f"the log of the shared store was rewound: it ends at entry {newest.number}, and this node has read"
            f" entry {seen.number}",
            _REMEDY,
        )
    if newest.number == seen.number and newest.commit != seen.commit:
        raise _split(seen.number)


def check_entries(seen: Head, entries: Sequence[Entry]) -> None:
    """Raise `LogRefused` if entries do not continue the chain after the last entry that the node has read."""
    for entry in entries:
        if entry.previous != seen.commit or entry.number != seen.number + 1:
            raise _split(seen.number)
        seen = Head(entry.number, entry.head)


def check_names(entries: Sequence[Entry], store: str, name: str, instance: str) -> None:
    """Raise `LogRefused` if an entry is of another instance with the name of this node."""
    if any(entry.node == name and entry.instance != instance for entry in entries):
        raise LogRefused(
            f"another store has joined '{store}' as '{name}'",
            "ctxfs leave, then join under another name: ctxfs join URL --node NAME",
        )


def _split(number: int) -> LogRefused:
    return LogRefused(
        f"the log of the shared store was split: its entry {number} is not the one that this node has read", _REMEDY
    )
