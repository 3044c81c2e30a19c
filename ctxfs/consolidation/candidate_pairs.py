"""Pairs of memories that may make the same statement, by the words that they share. Pure; no all-pairs comparison.

A statement is looked up by its rarest words. A word that more than `MAX_POSTINGS` statements contain is looked up only
together with another one. So each memory has a bounded number of candidates.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

from ctxfs.consolidation.memories import Memory

MAX_POSTINGS = 64
MAX_CANDIDATES = 24
_MAX_PROBES = 6
_MAX_PAIRED_KEYS = 5

Key = str | tuple[str, str]


def candidate_pairs(memories: Sequence[Memory]) -> Iterator[tuple[Memory, Memory]]:
    """Yield pairs of different memories with similar statements, each once, in the order of the memories."""
    keys = [_keys_of(memory) for memory in memories]
    counts = Counter(key for items in keys for key in items)
    postings: dict[Key, list[int]] = defaultdict(list)
    for number, items in enumerate(keys):
        probes = _probes(items, counts)
        shared: Counter[int] = Counter()
        for probe in probes:
            entries = postings[probe]
            shared.update(entries[-MAX_POSTINGS:])
            entries.append(number)
        similar = [
            (len(items & keys[other]), other)
            for other, _ in shared.most_common(4 * MAX_CANDIDATES)
            if 2 * len(items & keys[other]) >= min(len(items), len(keys[other]))
        ]
        for _, other in sorted(similar, key=lambda pair: (-pair[0], pair[1]))[:MAX_CANDIDATES]:
            yield memories[other], memories[number]


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
