"""Memories as rows of a table: the labels that readers see of each, filters, and sums by folder. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ctxfs.memory.states import state_of
from ctxfs.memory.validity import FROM, UNTIL
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import printable

QUARANTINED, UNTRUSTED, NORMAL, TRUSTED = TRUST_LEVELS = ("quarantined", "untrusted", "normal", "trusted")
SHARED = "shared"
_FENCES = {"---": ("---", "..."), "+++": ("+++",)}
_MAX_EXCERPT_CHARACTERS = 2000
_MAX_FRONT_MATTER_LINES = 200
_RECORD_PREFIXES = ("Source: ", "Kept: ", "Revision: ", "Corrected: ", "Corrects: ", "Because: ")


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """A memory: the labels of its path and attributes, and the first characters of its text.

    `agent` is empty for a file beside the folders of agents, `kind` for one without a kind. `tokens` is an estimate for a
    text that is longer than the part that was read.
    """

    path: str
    agent: str
    kind: str
    folder: str
    state: str
    trust: str
    is_pinned: bool
    source: str
    cites: bytes
    confidence: str
    valid_from: str
    valid_until: str
    tokens: int
    changed_ns: int
    excerpt: str

    @property
    def order(self) -> tuple[str, str, str]:
        """The place in the table: by agent, kind and path."""
        return self.agent, self.kind, self.path


@dataclass(frozen=True, slots=True)
class MemoryFilter:
    """Conditions on rows, each empty for any. `words` must all be in the path, the source or the excerpt, in any case."""

    agent: str = ""
    kind: str = ""
    state: str = ""
    trust: str = ""
    words: tuple[str, ...] = ()

    def matches(self, row: MemoryRow) -> bool:
        """Return True for a row that satisfies all conditions."""
        wanted = ((self.agent, row.agent), (self.kind, row.kind), (self.state, row.state), (self.trust, row.trust))
        if not all(condition in ("", value) for condition, value in wanted):
            return False
        if not self.words:
            return True
        text = f"{printable(row.path)}\n{row.source}\n{row.excerpt}".casefold()
        return all(word in text for word in self.words)


@dataclass(slots=True)
class FolderSum:
    """The memories of one agent, kind and folder: their number, tokens, newest change, and tokens without trust."""

    agent: str
    kind: str
    folder: str
    files: int = 0
    tokens: int = 0
    changed_ns: int = 0
    untrusted_tokens: int = 0


def row_of(
    parts: tuple[str, ...], attributes: Mapping[str, bytes], kind: str, text: str, tokens: int, changed_ns: int
) -> MemoryRow:
    """Return the row of a memory; `parts` is its path, `text` the head of its content."""

    def label(name: str) -> str:
        return attributes.get(f"{PREFIX}{name}", b"").decode("utf-8", "replace").strip()

    trust = QUARANTINED if label("quarantined") == "true" else label("trust")
    return MemoryRow(
        path="/".join(parts),
        agent=printable(parts[1]) if len(parts) > 2 else "",
        kind=kind,
        folder=printable("/".join(parts[:-1])),
        state=state_of(attributes),
        trust=trust if trust in TRUST_LEVELS else NORMAL,
        is_pinned=label("pinned") == "true",
        source=label("source"),
        cites=attributes.get(f"{PREFIX}cites", b""),
        confidence=label("confidence"),
        valid_from=label(FROM),
        valid_until=label(UNTIL),
        tokens=tokens,
        changed_ns=changed_ns,
        excerpt=excerpt_of(text),
    )


def excerpt_of(text: str) -> str:
    """Return the first characters of a text without front matter, empty lines and the lines of its record."""
    lines = text.split("\n")
    ends = _FENCES.get(lines[0].strip())
    if ends is not None:
        for number, line in enumerate(lines[1:_MAX_FRONT_MATTER_LINES], 1):
            if line.strip() in ends:
                lines = lines[number + 1 :]
                break
    shown = (line.strip() for line in lines)
    return "\n".join(line for line in shown if line and not line.startswith(_RECORD_PREFIXES))[:_MAX_EXCERPT_CHARACTERS]


def sum_folders(rows: Iterable[MemoryRow]) -> Sequence[FolderSum]:
    """Return the sums of rows by agent, kind and folder, the most tokens first."""
    sums: dict[tuple[str, str, str], FolderSum] = {}
    for row in rows:
        key = row.agent, row.kind, row.folder
        part = sums.setdefault(key, FolderSum(*key))
        part.files += 1
        part.tokens += row.tokens
        part.changed_ns = max(part.changed_ns, row.changed_ns)
        part.untrusted_tokens += row.tokens if row.trust in (UNTRUSTED, QUARANTINED) else 0
    return sorted(sums.values(), key=lambda part: (-part.tokens, part.folder, part.kind))


def count_values(rows: Iterable[MemoryRow]) -> dict[str, dict[str, int]]:
    """Return the number of rows for each agent, kind, state and trust."""
    counts: dict[str, dict[str, int]] = {name: defaultdict(int) for name in ("agent", "kind", "state", "trust")}
    for row in rows:
        for name, values in counts.items():
            values[getattr(row, name)] += 1
    return {name: dict(sorted(values.items())) for name, values in counts.items()}
