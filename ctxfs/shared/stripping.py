"""The removal of objects from a log, for engines: an entry without them keeps its number, head and place in the chain."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ctxfs.shared.generation import published_packs
from ctxfs.shared.log import Entry


def stripped(entry: Entry) -> Entry:
    """Return an entry without its objects, as an erasure leaves it in the log."""
    return replace(entry, objects=b"", packs=())


def erase_entries(
    entries: Callable[[int], Sequence[Entry]],
    before: int,
    replace_entry: Callable[[Entry], None],
    delete: Callable[[str], None],
) -> None:
    """Remove objects, their packs and packs of vectors from all entries before a number.

    `entries` returns those after a number. Vectors may be those of erased texts: a node publishes the others again.
    """
    if before <= 1:
        return  # there are none
    kept = {name for entry in _all(entries, before - 1) for name in entry.packs}
    for entry in _all(entries, 0):
        if entry.number >= before:
            return
        for name in published_packs(entry):
            delete(name)
        if entry.objects or entry.packs:
            for name in entry.packs:  # before the entry, so that a kill leaves no content without a name
                if name not in kept:
                    delete(name)
            replace_entry(stripped(entry))


def _all(entries: Callable[[int], Sequence[Entry]], after: int) -> Iterator[Entry]:
    while batch := entries(after):
        yield from batch
        after = batch[-1].number
