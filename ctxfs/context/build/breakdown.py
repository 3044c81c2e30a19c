"""The breakdown of a context's budget, from its manifest: sources, headers, free room, reasons of exclusion. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ctxfs.context.build.manifest_items import item_path

FRAMING = "headers and citations"
SUMMARY = "summary of what did not fit"
COLOURS = 8  # classes part0 … part7 of the style sheets
REASONS: Mapping[str, str] = {
    "budget": "no room in the budget",
    "quota": "over the quota of its kind",
    "origin": "already there by another passage",
    "duplicate": "the same text as another passage",
    "recalled": "the reader had it before",
    "superseded": "superseded by a newer memory",
    "conflict": "the other side of a conflict",
    "expired": "no longer valid",
    "deprecated": "deprecated",
    "stale": "its cited source has changed",
    "low-score": "seems not to answer",
    "quarantined": "in quarantine",
    "untrusted": "untrusted",
    "source-changed": "changed while the context was built",
}


@dataclass(slots=True)
class Source:
    """A source of a context: its pieces and its part of the budget. `number` counts from 1."""

    path: str
    number: int
    tokens: int = 0
    pieces: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def css(self) -> str:
        """The class of its colour."""
        return f"part{(self.number - 1) % COLOURS}"


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The parts of a budget in tokens, and (count, name, description) of each reason of exclusion, the most frequent first."""

    sources: Sequence[Source]
    framing: int
    free: int
    reasons: Sequence[tuple[int, str, str]]


def break_down(manifest: Mapping[str, Any]) -> Breakdown:
    """Return the breakdown of a manifest as `json.loads` returns it."""
    sources = sources_of(manifest["items"])
    tokens, budget = manifest["context"]["tokens"], manifest["context"]["budget"]
    framing = max(0, tokens - sum(source.tokens for source in sources))
    counts = Counter(item["reason"] for item in manifest["excluded"])
    reasons = [(count, name, describe_reason(name)) for name, count in counts.most_common()]
    return Breakdown(sources, framing, max(0, budget - tokens), reasons)


def sources_of(items: Sequence[Mapping[str, Any]]) -> list[Source]:
    """Return the sources of the items of a manifest, in the order of their best pieces."""
    sources: dict[str, Source] = {}
    for item in items:
        path = item_path(item)
        source = sources.setdefault(path, Source(path or SUMMARY, len(sources) + 1))
        source.tokens += item["tokens"]
        source.pieces.append(item)
    return list(sources.values())


def describe_reason(name: str) -> str:
    """Return a reason of exclusion in words."""
    return REASONS.get(name, name)
