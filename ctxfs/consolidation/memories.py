"""Memories as the rules see them: a file of memory with its statements, its labels and its times. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache

from ctxfs.context.build.sentences import sentences
from ctxfs.context.grounding.statements import Statement, parse_statement
from ctxfs.memory.kinds import kind_of
from ctxfs.memory.states import ACTIVE, GENERATED, is_frozen, state_of
from ctxfs.model.metadata import PREFIX
from ctxfs.model.periods import parse_period

# A file with more statements is a document: it is compared as a whole only.
MAX_STATEMENTS = 8
MAX_PARSED_TEXTS = 20_000  # a parsed statement takes about 4 kB
# Lines that `keep` writes below a fact.
_RECORD_LINE = re.compile(r"(?:Source|Kept|Revision): ")
_FRONT_MATTER = re.compile(r"\A---\n.{0,8000}?\n---\n", re.DOTALL)
_TRUST_RANKS = {"untrusted": 0, "normal": 1, "trusted": 2}


@dataclass(frozen=True)
class Memory:
    """A file of memory. Times are nanoseconds since the epoch: of its content, and of its path."""

    path: str
    data: bytes
    attributes: Mapping[str, bytes]
    changed_ns: int
    created_ns: int

    def label(self, name: str) -> str:
        """Return the attribute `user.ctx.<name>`; empty without it."""
        return self.attributes.get(f"{PREFIX}{name}", b"").decode("utf-8", "replace").strip()

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The components of the path."""
        return tuple(self.path.split("/"))

    @property
    def owner(self) -> str:
        """The name of the agent, or `shared`."""
        return self.parts[1]

    @cached_property
    def kind(self) -> str:
        """The kind: its attribute, else that of its folder."""
        return kind_of(self.parts, self.attributes)

    @property
    def group(self) -> tuple[str, str]:
        """The memories that it is compared with: those of the same agent and kind."""
        return self.owner, self.kind or self.parts[2]

    @cached_property
    def is_active(self) -> bool:
        """True if it is in search and contexts."""
        return state_of(self.attributes) in (ACTIVE, GENERATED)

    @property
    def is_fixed(self) -> bool:
        """True if no rule may archive it: a person has frozen or pinned it."""
        return is_frozen(self.attributes) or self.label("pinned") == "true"

    @cached_property
    def text(self) -> str:
        """The text without front matter and without the lines of its record."""
        text = _FRONT_MATTER.sub("", self.data.decode("utf-8", "replace"))
        return "\n".join(line for line in text.splitlines() if not _RECORD_LINE.match(line)).strip()

    @cached_property
    def normal(self) -> str:
        """The text with single spaces, without case."""
        return " ".join(self.text.casefold().split()).rstrip(".")

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The statements; none for a document. A bounded number of texts stays parsed."""
        return _parse_text(self.text, " ".join(self.parts[3:-1]))

    @cached_property
    def line(self) -> int:
        """The number of the first line that is no heading, from 1."""
        lines = self.data.decode("utf-8", "replace").splitlines()
        return next((n for n, line in enumerate(lines, 1) if line.strip() and not line.startswith(("#", "---"))), 1)

    @cached_property
    def trust(self) -> int:
        """The rank of its trust: 0 for untrusted, 2 for trusted."""
        return _TRUST_RANKS.get(self.label("trust") or "normal", 1)

    @cached_property
    def citations(self) -> int:
        """The number of sources that it names; 0 if one of them does not hold any more."""
        if self.label("holds") in ("changed", "gone"):
            return 0
        return len([line for name in ("source", "cites") for line in self.label(name).splitlines() if line])

    @cached_property
    def confidence(self) -> float:
        """The confidence that its writer gave; 0.5 without one."""
        try:
            return float(self.label("confidence") or 0.5)
        except ValueError:
            return 0.5

    @cached_property
    def valid_from_ns(self) -> int:
        """The time from which it holds in the world; without one, when its content was written."""
        period = parse_period(self.label("valid_from"))
        return period[0] * 1_000_000_000 if period is not None else self.changed_ns


@lru_cache(MAX_PARSED_TEXTS)
def _parse_text(text: str, context: str) -> tuple[Statement, ...]:
    parsed = list[Statement]()
    for sentence in sentences(text, code=True):
        if sentence.text.lstrip().startswith("#"):
            context = sentence.text.lstrip("# ")
        elif len(parsed) == MAX_STATEMENTS:
            return ()
        else:
            parsed.append(parse_statement(sentence.text, context))
    return tuple(parsed)


def drop_parsed() -> None:
    """Free the parsed texts, after a run."""
    _parse_text.cache_clear()


def parse_time_ns(text: str) -> int:
    """Return an ISO date or time in nanoseconds since the epoch; 0 for another text."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000_000)


def format_day(time_ns: int) -> str:
    """Return the day of a time, in UTC."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).date().isoformat()
