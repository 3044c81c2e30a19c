"""Repeated experiences as a procedure: a draft of a SKILL.md whose every line cites the experiences that it is from. Pure.

An experience has the fields situation, action and outcome, as `Action: …` lines or as sections. Those that describe the
same action in the same situation, and none of which failed, are one procedure if there are at least `MIN_EXPERIENCES`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ctxfs.consolidation.draft import Draft, Evidence, digest_of, shorten
from ctxfs.consolidation.memories import Memory
from ctxfs.context.build.sentences import sentences
from ctxfs.context.grounding.statement_comparison import Relation, compare
from ctxfs.context.grounding.statements import Statement, parse_statement
from ctxfs.memory.kinds import EXPERIENTIAL, PROCEDURAL
from ctxfs.memory.states import GENERATED
from ctxfs.model.metadata import PREFIX
from ctxfs.versions.proposals import FileEdit

MIN_EXPERIENCES = 3
_MAX_EXPERIENCES = 2_000
_MAX_CITED = 12
_MIN_SHARED_SHARE = 0.75
_FIELD = re.compile(r"\W{0,6}(situation|action|outcome)\W{0,4}[:：]?\W{0,3}(.*)", re.IGNORECASE)
_FAILURE = re.compile(
    r"\b(?:fail(?:s|ed|ure)?|error|broke(?:n)?|crash(?:ed|es)?|wrong|worse|did(?: not|n't)|does(?: not|n't)|unable|rejected|lost)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Experience:
    """An experience: its memory, and its fields as (statements, number of the first line)."""

    memory: Memory
    situation: tuple[Statement, ...]
    action: tuple[Statement, ...]
    outcome: tuple[Statement, ...]
    lines: tuple[int, int, int]

    @property
    def has_failed(self) -> bool:
        """True if a word of its outcome is one of failure."""
        return any(_FAILURE.search(statement.text) for statement in self.outcome)


def find_procedures(memories: Sequence[Memory], exists: Callable[[str], bool]) -> Iterator[Draft]:
    """Yield a draft for each procedure of the experiences that is no file yet."""
    parsed = (parse_experience(memory) for memory in memories if memory.kind == EXPERIENTIAL and memory.is_active)
    experiences = [item for item in parsed if item is not None][:_MAX_EXPERIENCES]
    groups: list[list[Experience]] = []
    by_key: dict[str, list[list[Experience]]] = {}
    for item in experiences:
        candidates = [group for key in sorted(_keys(item.action)) for group in by_key.get(key, ())]
        group = next((group for group in candidates if _is_repeated(group[0], item)), None)
        if group is None:
            group = [item]
            groups.append(group)
            for key in _keys(item.action):
                by_key.setdefault(key, []).append(group)
        else:
            group.append(item)
    for group in groups:
        if len(group) >= MIN_EXPERIENCES and not any(item.has_failed for item in group):
            draft = _draft_of(group)
            if not exists(draft.edits[0].path):
                yield draft


def parse_experience(memory: Memory) -> Experience | None:
    """Return the experience in a memory; None if a field is missing."""
    fields: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    current = ""
    for number, line in enumerate(memory.data.decode("utf-8", "replace").splitlines(), 1):
        match = _FIELD.fullmatch(line)
        if match is not None and len(line) < 4_000:
            current = match[1].lower()
            fields.setdefault(current, []).append(match[2])
            lines.setdefault(current, number)
        elif current and not line.startswith("#"):
            fields[current].append(line)
    if not {"situation", "action", "outcome"} <= fields.keys():
        return None
    statements = {name: tuple(_statements("\n".join(texts))) for name, texts in fields.items()}
    if not all(statements[name] for name in ("situation", "action", "outcome")):
        return None
    return Experience(
        memory,
        statements["situation"],
        statements["action"],
        statements["outcome"],
        (lines["situation"], lines["action"], lines["outcome"]),
    )


def _statements(text: str) -> Iterator[Statement]:
    for sentence in sentences(text):
        yield parse_statement(sentence.text)


def _keys(statements: Sequence[Statement]) -> frozenset[str]:
    return frozenset(key for statement in statements for key in statement.keys)


def _is_repeated(one: Experience, other: Experience) -> bool:
    return _is_alike(one.situation, other.situation) and _is_alike(one.action, other.action)


def _is_alike(ours: Sequence[Statement], theirs: Sequence[Statement]) -> bool:
    """Return True if each statement of the shorter text is repeated by one of the other."""
    shorter, longer = sorted((ours, theirs), key=len)
    return all(any(_repeats(statement, candidate) for candidate in longer) for statement in shorter)


def _repeats(one: Statement, other: Statement) -> bool:
    relation = compare(one, other).relation
    if relation is not Relation.UNRELATED:
        return relation is not Relation.CONTRADICTS
    shared = len(one.keys & other.keys)
    return (
        shared > 1
        and shared >= _MIN_SHARED_SHARE * max(len(one.keys), len(other.keys))
        and one.denials == other.denials
    )


def _draft_of(group: Sequence[Experience]) -> Draft:
    first = max(group, key=lambda item: (item.memory.trust, item.memory.changed_ns, item.memory.path))
    title = shorten(first.situation[0].text).rstrip(".")[:100]
    name = re.sub(r"[^a-z0-9]+", "-", shorten(first.action[0].text).lower()).strip("-")[:50].strip("-") or "procedure"
    lines = [
        "---", f"name: {name}", f"description: {_yaml_text(f'{title}: {shorten(first.action[0].text)}')}", "---", "",
        f"# {title} {_cite(group, 0)}", "",
    ]  # fmt: skip
    for number, step in enumerate(first.action, 1):
        users = [item for item in group if any(_repeats(step, other) for other in item.action)]
        lines.append(f"{number}. {shorten(step.text)} {_cite(users, 1)}")
    lines += ["", f"Outcome: {shorten(first.outcome[0].text)} {_cite([first], 2)}"]
    owner, memories = first.memory.owner, [item.memory for item in group]
    labels: dict[str, bytes | None] = {
        f"{PREFIX}kind": PROCEDURAL.encode(),
        f"{PREFIX}state": GENERATED.encode(),
        f"{PREFIX}source": f"{first.memory.path}:{first.lines[1]}".encode("utf-8", "replace"),
    }
    if any(memory.trust == 0 for memory in memories):
        labels[f"{PREFIX}trust"] = b"untrusted"
    path = f"memory/{owner}/{PROCEDURAL}/skills/{name}/SKILL.md"
    return Draft(
        "procedure",
        f"a procedure from {len(group)} experiences: {title}",
        (FileEdit(path, ("\n".join(lines) + "\n").encode("utf-8", "replace"), labels),),
        tuple(Evidence(m.path, m.line, m.line + m.text.count("\n"), shorten(m.text), "kept") for m in memories),
        (f"{len(group)} experiences describe the same action in the same situation, and none failed",),
        tuple((memory.path, digest_of(memory.data)) for memory in memories),
    )


def _cite(group: Sequence[Experience], field: int) -> str:
    return " ".join(f"[{item.memory.path}:{item.lines[field]}]" for item in group[:_MAX_CITED])


def _yaml_text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"')[:900] + '"'
