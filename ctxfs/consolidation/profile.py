"""The profile of an agent's user: `memory/<agent>/user/profile.md`, kept from memories and records. Pure.

    - Time zone: CET
      - since 2026-03-01
      - from memory/alice/user/2026-03-01.md:3
      - until 2026-10-05

Evidence are the memories in the same folder, and statements of the user in the records of sessions. Each entry is an
attribute with a value, since when, and from which line. A change of mind adds an entry and the end of the earlier one:
no line of the profile is ever changed or removed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ctxfs.consolidation.draft import Draft, Evidence, digest_of, shorten
from ctxfs.consolidation.memories import Memory, format_day
from ctxfs.consolidation.user_statements import UserStatement
from ctxfs.memory.kinds import USER
from ctxfs.model.metadata import PREFIX
from ctxfs.model.periods import parse_period
from ctxfs.versions.proposals import FileEdit

PROFILE = "profile.md"
_PAIR = re.compile(r"\s{0,8}(?:[-*+]\s{1,4})?\*{0,2}([^\W\d_][^:=\n*]{0,50}?)\*{0,2}\s?[:=]\*{0,2}\s{1,4}(\S.{0,300})")
_SENTENCES = (
    (
        re.compile(
            r"(?:my|(?:the )?user's|his|her|their)\s+([\w ]{2,40}?)\s+(?:is|are)\s+(?:now\s+)?(\S.{0,200})", re.I
        ),
        "",
    ),
    (re.compile(r"(?:i|(?:the )?user|he|she|they)\s+(?:now\s+)?lives?\s+in\s+(\S.{0,200})", re.I), "Home"),
    (re.compile(r"(?:i|(?:the )?user|he|she|they)\s+(?:now\s+)?works?\s+(?:at|for)\s+(\S.{0,200})", re.I), "Employer"),
    (re.compile(r"(?:i am|i'm|(?:the )?user is)\s+(?:called|named)\s+(\S.{0,200})", re.I), "Name"),
)
_RECORDS = frozenset("source kept revision since from until session time evidence".split())
_ENTRY = re.compile(r"- ([^:\n]{1,60}): (.{1,400})")
_DETAIL = re.compile(r"  - (since|from|until) (.{1,400})")
_MAX_ENTRIES = 2_000
_MAX_LINE_CHARS = 500


@dataclass(slots=True)
class Entry:
    """A value of an attribute, with the day since when and until when it holds, and the line that it is from."""

    attribute: str
    value: str
    since: str = ""
    source: str = ""
    until: str = ""

    @property
    def key(self) -> str:
        """The attribute without case."""
        return " ".join(self.attribute.casefold().split())


@dataclass(slots=True)
class Profile:
    """A profile: the lines of its file, and the entries with the number of their last line."""

    lines: list[str] = field(default_factory=list)
    entries: list[tuple[Entry, int]] = field(default_factory=list)

    def current(self, key: str) -> tuple[Entry, int] | None:
        """Return the entry of an attribute that has not ended."""
        return next(((entry, end) for entry, end in self.entries if entry.key == key and not entry.until), None)


def parse_profile(text: str) -> Profile:
    """Return the profile in a file; other lines are kept as they are."""
    profile = Profile(text.splitlines())
    for number, line in enumerate(profile.lines):
        if len(line) > _MAX_LINE_CHARS:
            continue
        entry, detail = _ENTRY.fullmatch(line), _DETAIL.fullmatch(line)
        if entry is not None:
            profile.entries.append((Entry(entry[1], entry[2]), number))
        elif detail is not None and profile.entries:
            last = profile.entries[-1][0]
            setattr(last, "source" if detail[1] == "from" else detail[1], detail[2])
            profile.entries[-1] = (last, number)
    return profile


class _Source(NamedTuple):
    """The memory or the record that an entry is from."""

    time_ns: int
    path: str
    evidence: Evidence
    digest: str
    is_trusted: bool


def find_profile(
    memories: Sequence[Memory], statements: Sequence[UserStatement] = (), owner: str = ""
) -> Iterator[Draft]:
    """Yield the draft of the profile if the memories of a user's folder, or statements, have something that it lacks.

    `owner` is the agent whose user it is; by default, that of the memories.
    """
    users = [memory for memory in memories if len(memory.parts) == 4 and memory.parts[2] == USER]
    old = next((memory for memory in users if memory.parts[-1] == PROFILE), None)
    if old is not None and (old.is_fixed or not old.is_active):
        return
    active = [memory for memory in users if memory is not old and memory.is_active]
    sources = sorted([*_entries_of(active), *_entries_in(statements)], key=lambda item: item[1][:2])
    if old is not None and old.trust > 0:  # else the mark of the profile would be lifted
        sources = [(entry, source) for entry, source in sources if source.is_trusted]
    owner = owner or next((memory.owner for memory in users), "")
    profile = parse_profile(old.data.decode("utf-8", "replace") if old is not None else f"# User of {owner}\n")
    used = {source.path: source for entry, source in sources if _add(profile, entry)}
    if not used:
        return
    path = f"memory/{owner}/{USER}/{PROFILE}"
    labels: dict[str, bytes | None] = {}
    if old is None:
        first = next(iter(used))
        labels = {f"{PREFIX}kind": USER.encode(), f"{PREFIX}source": first.encode("utf-8", "replace")}
        if not all(source.is_trusted for source in used.values()):
            labels[f"{PREFIX}trust"] = b"untrusted"
    shown = [*used.values(), *([_source_of(old)] if old is not None else [])]
    yield Draft(
        "profile",
        f"the profile of the user of {owner}: {len(used)} sources",
        (FileEdit(path, ("\n".join(profile.lines).rstrip("\n") + "\n").encode("utf-8", "replace"), labels),),
        tuple(source.evidence for source in shown),
        ("attributes and values that memories and records of the user state; earlier values keep their time",),
        tuple((source.path, source.digest) for source in shown),
    )


def _source_of(memory: Memory) -> _Source:
    evidence = Evidence(memory.path, memory.line, memory.line, shorten(memory.text), "evidence")
    return _Source(memory.valid_from_ns, memory.path, evidence, digest_of(memory.data), memory.trust > 0)


def _entries_in(statements: Sequence[UserStatement]) -> Iterator[tuple[Entry, _Source]]:
    """Yield the entries of records: each names its record."""
    for item in statements:
        path, _, number = item.cite.rpartition(":")
        evidence = Evidence(path, int(number), int(number), shorten(item.text), "evidence")
        source = _Source(item.time_ns, item.cite, evidence, digest_of(item.text.encode()), item.is_trusted)
        yield Entry(item.attribute, item.value, format_day(item.time_ns), item.cite), source


def _entries_of(memories: Sequence[Memory]) -> Iterator[tuple[Entry, _Source]]:
    """Yield the entries that memories state."""
    for memory in memories:
        source = _source_of(memory)
        for number, line in enumerate(memory.data.decode("utf-8", "replace").splitlines(), 1):
            pair = _pair_in(line) if len(line) <= _MAX_LINE_CHARS else None
            if pair is not None:
                period = parse_period(memory.label("valid_until"))
                until = format_day(period[1] * 1_000_000_000) if period is not None else ""
                yield Entry(*pair, format_day(memory.valid_from_ns), f"{memory.path}:{number}", until), source


def _pair_in(line: str) -> tuple[str, str] | None:
    text = line.strip().rstrip(".")
    if text.startswith(("#", "---", "```")):
        return None
    for pattern, name in _SENTENCES:
        match = pattern.fullmatch(text.lstrip("-* "))
        if match is not None:
            return (name, match[1]) if name else (match[1].capitalize(), match[2])
    match = _PAIR.fullmatch(text)
    if match is None or match[1].strip().casefold() in _RECORDS or match[2].startswith("//"):
        return None
    return match[1].strip(), match[2].strip()


def _add(profile: Profile, new: Entry) -> bool:
    """Add an entry to a profile; return False if it has the value already, or if it is full."""
    same = [entry for entry, _ in profile.entries if entry.key == new.key and _is_equal(entry.value, new.value)]
    current = profile.current(new.key)
    if any(not entry.until or entry.until >= new.since for entry in same) or len(profile.entries) >= _MAX_ENTRIES:
        return False
    if current is not None and not new.until:
        entry, end = current
        if entry.since <= new.since:
            _insert(profile, end + 1, [f"  - until {new.since}"])
            entry.until = new.since
        else:
            new.until = entry.since
    lines = [f"- {new.attribute}: {new.value}", f"  - since {new.since}", f"  - from {new.source}"]
    lines += [f"  - until {new.until}"] if new.until else []
    if profile.lines and profile.lines[-1].startswith("#"):
        profile.lines.append("")
    profile.lines += lines
    profile.entries.append((new, len(profile.lines) - 1))
    return True


def _insert(profile: Profile, position: int, lines: list[str]) -> None:
    profile.lines[position:position] = lines
    profile.entries = [(entry, end + len(lines) if end >= position - 1 else end) for entry, end in profile.entries]


def _is_equal(one: str, other: str) -> bool:
    return " ".join(one.casefold().split()).rstrip(".") == " ".join(other.casefold().split()).rstrip(".")
