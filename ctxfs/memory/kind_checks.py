"""Comparison of a memory with the rules of its kind. Pure, and linear in the text.

A field of a memory is an attribute (`user.ctx.source`), a field of its front matter (`source:`), a line `Source: …`, or a
heading `## Source`. Some fields have a meaning: `claim` is one statement, `skill` a folder with a SKILL.md, `value` an
`attribute: value` line, `evidence` a source of such values.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ctxfs.memory.kinds import ANY_FIELD, KindRules

SKILL = "SKILL.md"
MAX_TEXT_BYTES = 65_536  # of a memory that is read for the check
_MAX_LINES = 2000
_MAX_CLAIM_SENTENCES = 2  # of one paragraph: a claim, and a sentence that explains it
_MAX_NAMES_SHOWN = 5
_LABEL = re.compile(
    r"[ \t]*(?:[-*+][ \t]+)?(?:\*\*|__)?([A-Za-z][\w .-]{0,60}?)(?:\*\*|__)?[ \t]*:(?:\*\*|__)?(?:[ \t]+\S|[ \t]*$)"
)
_HEADING = re.compile(r"#{1,6}[ \t]+([A-Za-z][\w.-]{0,60})")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t]+\S")
_SENTENCE_END = re.compile(r"[.!?][\"')\]]?[ \t]+(?=[\"'(]?[A-Z0-9])")
_TABLE_ROW = re.compile(r"[ \t]*\|[^|\n]*\|[^|\n]*\|")
# The repetitions are bounded, or begin at the start of a word only: otherwise a search takes quadratic time.
_CITATION = re.compile(r"\]\([^)\s]{1,300}\)|(?<![\w.-])[\w.-]+/[\w.-]|https?://|\[[\w.:-]{1,40}\]")
# field → other names of it
_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "time": ("date", "day", "when", "at", "created", "created_at", "said"),
    "session": ("session_id", "source"),
    "source": ("sources", "cites", "origin"),
    "outcome": ("result",),
    "action": ("actions",),
    "evidence": ("source", "sources", "cites", "from"),
}


@dataclass(frozen=True, slots=True)
class MemoryText:
    """A memory as the checks need it: names of attributes (without prefix) and of fields of its front matter, and lines.

    `lines` are those after the front matter. `has_skill` is True if a SKILL.md is in its folder or above, in memory.
    """

    attributes: Collection[str] = ()
    front_matter: Collection[str] = ()
    lines: Sequence[str] = ()
    has_skill: bool = False
    _labels: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for line in self.lines[:_MAX_LINES]:
            if match := _LABEL.match(line) or _HEADING.match(line):
                self._labels.add(match[1].strip().lower())

    def has_field(self, name: str) -> bool:
        """Return True if the memory has a field, under this name or another one."""
        names = {name, *_SYNONYMS.get(name, ())}
        return any(not names.isdisjoint(known) for known in (self.attributes, self.front_matter, self._labels))


def check_kind(rules: KindRules, memory: MemoryText) -> list[str]:
    """Return how a memory differs from the rules of its kind, a few words each; empty if it fits."""
    faults = []
    for name in rules.must:
        check = _CHECKS.get(name)
        fault = check(memory) if check is not None else "" if memory.has_field(name) else f"no {name}"
        if fault:
            faults.append(fault)
    if ANY_FIELD not in rules.may:
        known = {*rules.must, *rules.may, *COMMON_FIELDS}
        other = sorted(set(memory.front_matter) - known)
        if other:
            more = f" and {len(other) - _MAX_NAMES_SHOWN} more" if len(other) > _MAX_NAMES_SHOWN else ""
            faults.append(f"fields of no {rules.name}: {', '.join(other[:_MAX_NAMES_SHOWN])}{more}")
    return faults


# Fields that a memory of any kind may have.
COMMON_FIELDS = (
    "aliases", "author", "cites", "confidence", "created", "date", "description", "expires_at", "kind", "name", "pinned",
    "session", "source", "sources", "stale_after", "state", "status", "supersedes", "tags", "time", "title", "type",
    "updated", "valid_from", "valid_until", "verified",
)  # fmt: skip


def count_claims(lines: Sequence[str]) -> int:
    """Return the number of statements in a text: its list items and paragraphs, and the sentences of a long paragraph.

    Headings and lines `Label: …` of the text are no statements.
    """
    claims, paragraph = 0, list[str]()
    for line in (*lines[:_MAX_LINES], ""):
        is_plain = bool(line.strip()) and not (_HEADING.match(line) or _ITEM.match(line) or _is_label(line))
        if is_plain:
            paragraph.append(line)
            continue
        claims += _claims_of(" ".join(paragraph))
        paragraph = []
        claims += _ITEM.match(line) is not None and not _is_label(line)
    return claims


def _is_label(line: str) -> bool:
    """Return True for a line such as `Source: …`: one or two words before the colon."""
    match = _LABEL.match(line)
    return match is not None and match[1].count(" ") < 2


def _claims_of(paragraph: str) -> int:
    if not paragraph.strip():
        return 0
    sentences = 1 + len(_SENTENCE_END.findall(paragraph))
    return 1 if sentences <= _MAX_CLAIM_SENTENCES else sentences


def _check_claim(memory: MemoryText) -> str:
    count = count_claims(memory.lines)
    if count == 1 or (not count and memory.has_field("claim")):
        return ""
    return f"{count} claims instead of one" if count else "no claim"


def _check_skill(memory: MemoryText) -> str:
    return "" if memory.has_skill else f"no {SKILL} in its folder"


def _check_value(memory: MemoryText) -> str:
    has_values = memory.front_matter or any(_LABEL.match(line) or _TABLE_ROW.match(line) for line in memory.lines)
    return "" if has_values else "no line 'attribute: value'"


def _check_evidence(memory: MemoryText) -> str:
    has_evidence = memory.has_field("evidence") or any(_CITATION.search(line) for line in memory.lines)
    return "" if has_evidence else "no evidence"


_CHECKS: Mapping[str, Callable[[MemoryText], str]] = {
    "claim": _check_claim,
    "skill": _check_skill,
    "value": _check_value,
    "evidence": _check_evidence,
}
