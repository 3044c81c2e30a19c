"""Pairs of memories that may make the same statement, by the words that they share. Pure; no all-pairs comparison.

A statement is looked up by its rarest words. A word that more than `MAX_POSTINGS` statements contain is looked up only
together with another one. So each memory has a bounded number of candidates.

The pairs come in groups that share a word, and not in the order of the memories: many thousand memories are parsed for a
comparison again and again if only the newest stay parsed, and the members of a group are needed together.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from ctxfs.consolidation.memories import Memory

MAX_POSTINGS = 64
MAX_CANDIDATES = 24
_MAX_PROBES = 6
_MAX_PAIRED_KEYS = 5

# A pair as one number: the later memory, the rank of the earlier one among its candidates, and the earlier one.
_RANK_SHIFT, _LATER_SHIFT = 32, 37
_EARLIER_MASK = (1 << _RANK_SHIFT) - 1

Key = str | tuple[str, str]


class CandidatePair(NamedTuple):
    """Two memories with similar statements. Sorted by `order`, pairs are in the order of the memories."""

    order: int
    one: Memory
    other: Memory


def candidate_pairs(memories: Sequence[Memory]) -> Iterator[CandidatePair]:
    """Yield pairs of different memories with similar statements, each once, grouped by their rarest shared word."""
    keys = [_keys_of(memory) for memory in memories]
    counts = Counter(key for items in keys for key in items)
    postings: dict[Key, list[int]] = defaultdict(list)
    groups: dict[Key, array[int]] = {}
    for number, items in enumerate(keys):
        shared: dict[int, Key] = {}  # the rarest shared probe; with more of them, the candidate comes first
        frequencies: Counter[int] = Counter()
        for probe in _probes(items, counts):
            entries = postings[probe]
            for other in entries[-MAX_POSTINGS:]:
                shared.setdefault(other, probe)
                frequencies[other] += 1
            entries.append(number)
        similar = [
            (len(items & keys[other]), other)
            for other, _ in frequencies.most_common(4 * MAX_CANDIDATES)
            if 2 * len(items & keys[other]) >= min(len(items), len(keys[other]))
        ]
        nearest = sorted(similar, key=lambda pair: (-pair[0], pair[1]))[:MAX_CANDIDATES]
        for rank, (_, other) in enumerate(nearest):
            packed = number << _LATER_SHIFT | rank << _RANK_SHIFT | other
            groups.setdefault(shared[other], array("Q")).append(packed)
    for group in groups.values():
        for packed in group:
            yield CandidatePair(packed, memories[packed & _EARLIER_MASK], memories[packed >> _LATER_SHIFT])


def _keys_of(memory: Memory) -> frozenset[str]:
    return frozenset(key for statement in memory.statements for key in statement.keys)


def _probes(keys: frozenset[str], counts: Counter[str]) -> list[Key]:
    """Return the lookup keys of a memory: its rare words, and pairs of those that are not so rare."""
    ordered = sorted(keys, key=lambda key: (counts[key], key))
    rare = [key for key in ordered if counts[key] <= MAX_POSTINGS][:_MAX_PROBES]
    pairs = combinations(ordered[: _MAX_PAIRED_KEYS if len(rare) < 3 else 3], 2)
    probes: list[Key] = [*rare]
    probes += [(min(pair), max(pair)) for pair in pairs]
    if len(ordered) == 1 and not rare:
        probes += ordered
    return probes
