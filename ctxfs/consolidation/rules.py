"""The rules of consolidation that need no model: repetition, contradiction, superseded, expired and unused memories. Pure.

Each rule makes drafts. A file leaves active memory in at most one draft of a run, and a file that stays in one does not
leave in another.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ctxfs.consolidation.candidate_pairs import candidate_pairs
from ctxfs.consolidation.draft import Draft, Evidence, digest_of, join_paths, shorten
from ctxfs.consolidation.law import COVERS, STATE, SUPERSEDES, names_in
from ctxfs.consolidation.memories import Memory, format_day, parse_time_ns
from ctxfs.context.grounding.statement_comparison import Relation, StatementComparison, compare
from ctxfs.memory.states import ARCHIVED, MERGED
from ctxfs.model.metadata import MAX_BYTES, PREFIX
from ctxfs.versions.proposals import FileEdit

MAX_BATCH_FILES = 40
_DAY_NS = 86_400 * 1_000_000_000
_LASTING_KINDS = frozenset(("procedural", "user"))  # not archived for want of use
Cosine = Callable[[str, str], float | None]


@dataclass(slots=True)
class RuleRun:
    """One run of the rules over the memories of one agent and kind."""

    memories: Sequence[Memory]
    now_ns: int
    since_ns: int = 0
    unused_days: int = 0
    cosine: Cosine | None = None
    leaving: set[str] = field(default_factory=set)
    staying: set[str] = field(default_factory=set)
    remarks: list[tuple[str, str]] = field(default_factory=list)

    def drafts(self) -> Iterator[Draft]:
        """Yield the drafts of all rules, those about single files first."""
        active = [memory for memory in self.memories if memory.is_active]
        yield from self._find_superseded(active)
        yield from self._archive("expired", self._find_expired(active))
        yield from self._find_same(active)
        pairs = self._compare(self._remaining(active))
        yield from self._find_repeated(pair for pair in pairs if pair.relation is not Relation.CONTRADICTS)
        yield from self._find_contradictions(pair for pair in pairs if pair.relation is Relation.CONTRADICTS)
        yield from self._archive("unused", self._find_unused(active))

    def _remaining(self, memories: Iterable[Memory]) -> list[Memory]:
        return [memory for memory in memories if memory.path not in self.leaving]

    def _may_leave(self, memory: Memory) -> bool:
        return not memory.is_fixed and memory.path not in self.leaving and memory.path not in self.staying

    def _is_recent(self, *memories: Memory) -> bool:
        return any(memory.changed_ns >= self.since_ns for memory in memories)

    # single files

    def _find_superseded(self, memories: Sequence[Memory]) -> Iterator[Draft]:
        by_path = {memory.path: memory for memory in memories}
        newer: dict[str, Memory] = {}
        for memory in sorted(memories, key=lambda memory: memory.changed_ns):
            for path in names_in({SUPERSEDES: memory.attributes.get(SUPERSEDES, b"")}):
                if path in by_path and path != memory.path:
                    newer[path] = memory
        for path, memory in sorted(newer.items()):
            if _is_in_cycle(path, newer):
                self.remarks.append((path, f"it and '{memory.path}' supersede each other: nothing is proposed"))
            elif self._may_leave(by_path[path]) and self._is_recent(memory) and memory.path not in self.leaving:
                reason = f"'{memory.path}' supersedes it"
                yield self._replace("superseded", memory, [(by_path[path], reason)], ARCHIVED)

    def _find_expired(self, memories: Sequence[Memory]) -> Iterator[tuple[Memory, str]]:
        for memory in memories:
            expires_ns = parse_time_ns(memory.label("expires_at"))
            if expires_ns and expires_ns <= self.now_ns:
                yield memory, f"expires_at is {memory.label('expires_at')}"

    def _find_unused(self, memories: Sequence[Memory]) -> Iterator[tuple[Memory, str]]:
        if not self.unused_days:
            return
        oldest_ns = self.now_ns - self.unused_days * _DAY_NS
        for memory in memories:
            used_ns = max(parse_time_ns(memory.label("last_used")), memory.changed_ns)
            if used_ns < oldest_ns and memory.kind not in _LASTING_KINDS:
                yield memory, f"last written or used on {format_day(used_ns)}"

    def _archive(self, rule: str, matches: Iterable[tuple[Memory, str]]) -> Iterator[Draft]:
        """Yield drafts that archive memories, each with a note that names them and the reasons."""
        candidates = [(memory, reason) for memory, reason in matches if self._may_leave(memory)]
        yield from self._archive_with_note(
            rule, [item for item in candidates if self._is_recent(item[0]) or rule == "unused"]
        )

    def _archive_with_note(self, rule: str, items: Sequence[tuple[Memory, str]]) -> Iterator[Draft]:
        for batch in _in_batches(items):
            memories = [memory for memory, _ in batch]
            self.leaving.update(memory.path for memory in memories)
            paths = [memory.path for memory in memories]
            digest = hashlib.sha256(join_paths(paths)).hexdigest()[:8]
            path = f"memory/{memories[0].owner}/archive/{rule}-{digest}.md"
            lines = [f"# Archived: {rule}", ""]
            lines += [f"- {memory.path}: {reason}" for memory, reason in batch]
            note = FileEdit(
                path,
                ("\n".join(lines) + "\n").encode("utf-8", "replace"),
                {STATE: ARCHIVED.encode(), COVERS: join_paths(paths), **_distrust(memories)},
            )
            edits = [FileEdit(item, None, {STATE: ARCHIVED.encode()}) for item in paths]
            title = f"archive {_count(len(paths), 'memory', 'memories')} of {memories[0].owner}: {rule}"
            reasons = [f"{memory.path}: {reason}" for memory, reason in batch]
            yield _draft(rule, title, [note, *edits], [(memory, "archived") for memory in memories], reasons)

    # repetition and contradiction

    def _find_same(self, memories: Sequence[Memory]) -> Iterator[Draft]:
        groups: dict[str, list[Memory]] = {}
        for memory in self._remaining(memories):
            if memory.normal:
                groups.setdefault(memory.normal, []).append(memory)
        for group in groups.values():
            if len(group) < 2 or not self._is_recent(*group):
                continue
            keeper = max(group, key=_keeping_order)
            others = [memory for memory in group if memory is not keeper and self._may_leave(memory)]
            yield from self._merge("same", keeper, [(memory, "the same text") for memory in others])

    def _compare(self, memories: Sequence[Memory]) -> list["_Pair"]:
        """Return the pairs that make the same statement, or contradict each other, in the order of the memories."""
        related = list[tuple[int, _Pair]]()
        for order, one, other in candidate_pairs(memories):
            if self._is_recent(one, other):
                compared = _compare_memories(one, other, self.cosine)
                if compared.relation is not Relation.UNRELATED:
                    # Here, while both are parsed: later, many thousand pairs would be parsed again.
                    is_conflict = compared.relation is Relation.CONTRADICTS
                    wider = frozenset(_wider_paths(one, other)) if is_conflict else frozenset[str]()
                    related.append((order, _Pair(one, other, compared.relation, compared.reason, wider)))
        return [pair for _, pair in sorted(related, key=lambda item: item[0])]

    def _find_repeated(self, pairs: Iterable["_Pair"]) -> Iterator[Draft]:
        """Yield a draft for each memory that others repeat; each of those repeats the kept one itself."""
        partners: dict[str, dict[str, _Pair]] = {}
        members: dict[str, Memory] = {}
        for pair in pairs:
            for one, other in ((pair.one, pair.other), (pair.other, pair.one)):
                partners.setdefault(one.path, {})[other.path] = pair
                members[one.path] = one
        order = sorted(
            members.values(), key=lambda item: (len(partners[item.path]), _keeping_order(item)), reverse=True
        )
        for keeper in order:
            if keeper.path in self.leaving:
                continue
            others = [
                (members[path], pair.reason)
                for path, pair in sorted(partners[keeper.path].items())
                if self._may_leave(members[path])
            ]
            yield from self._merge("repeated", keeper, others)

    def _merge(self, rule: str, keeper: Memory, others: Sequence[tuple[Memory, str]]) -> Iterator[Draft]:
        """Yield the drafts by which a memory covers others; a note covers those that its attribute has no space for."""
        batches = list(_in_batches(others, taken=len(keeper.attributes.get(COVERS, b""))))
        batch = batches[0] if batches else ()
        if batch:
            yield self._replace(rule, keeper, batch, MERGED)
        yield from self._archive_with_note(rule, others[len(batch) :])

    def _find_contradictions(self, pairs: Iterable["_Pair"]) -> Iterator[Draft]:
        for pair in pairs:
            keeper, loser, points = _prefer(pair.one, pair.other)
            if loser.is_fixed and not keeper.is_fixed:
                keeper, loser, points = loser, keeper, ("a person has fixed it",)
            if keeper.path in self.leaving or not self._may_leave(loser):
                continue
            if loser.path in pair.wider:
                self.remarks.append((loser.path, f"it contradicts '{keeper.path}', and holds other statements"))
                continue
            reason = f"{pair.reason}; '{keeper.path}' is kept: {', '.join(points) or 'in doubt'}"
            # An end is inclusive: the earlier value ends before the later one begins.
            until = {f"{PREFIX}valid_until": format_day(keeper.valid_from_ns - 1).encode()}
            extra = until if not loser.label("valid_until") and keeper.valid_from_ns > loser.valid_from_ns else {}
            yield self._replace("contradiction", keeper, [(loser, reason)], ARCHIVED, extra, is_advised=bool(points))

    def _replace(
        self,
        rule: str,
        keeper: Memory,
        others: Sequence[tuple[Memory, str]],
        state: str,
        extra: Mapping[str, bytes] | None = None,
        *,
        is_advised: bool = True,
    ) -> Draft:
        """Return the draft that gives memories a state, and makes the kept one name them."""
        paths = [memory.path for memory, _ in others]
        self.leaving.update(paths)
        self.staying.add(keeper.path)
        known = [line for line in keeper.label("covers").splitlines() if line]
        labels: dict[str, bytes | None] = {COVERS: join_paths(list(dict.fromkeys((*known, *paths))))}
        if state == ARCHIVED and SUPERSEDES not in keeper.attributes:
            labels[SUPERSEDES] = join_paths(paths[:1])
        edits = [FileEdit(keeper.path, None, labels)]
        edits += [FileEdit(path, None, {STATE: state.encode(), **(extra or {})}) for path in paths]
        evidence = [(keeper, "kept"), *((memory, state) for memory, _ in others)]
        noun = _count(len(paths), "memory", "memories")
        title = f"{_VERBS[rule].format(noun)}: {shorten(keeper.text)[:120]}"
        reasons = [f"{memory.path}: {reason}" for memory, reason in others]
        return _draft(rule, title, edits, evidence, reasons, is_advised=is_advised)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two memories; `wider` are the paths of those that hold statements about something else, of a contradiction."""

    one: Memory
    other: Memory
    relation: Relation
    reason: str
    wider: frozenset[str]


_VERBS = {
    "same": "merge {} with the same text",
    "repeated": "merge {} in other words",
    "contradiction": "archive {} that this contradicts",
    "superseded": "archive {} that this supersedes",
}


def _compare_memories(one: Memory, other: Memory, cosine: Cosine | None) -> StatementComparison:
    """Compare two memories: the same only if each statement of one of them is in the other."""
    unrelated = StatementComparison(Relation.UNRELATED)
    if not one.statements or not other.statements:
        return unrelated
    shorter, longer = sorted((one, other), key=lambda memory: len(memory.statements))
    best, repeated = unrelated, 0
    for statement in shorter.statements:
        for candidate in longer.statements:
            near = None
            compared = compare(statement, candidate)
            if (
                compared.relation is Relation.UNRELATED
                and cosine is not None
                and _is_near(statement.keys, candidate.keys)
            ):
                near = cosine(statement.text, candidate.text)
                compared = compare(statement, candidate, near) if near is not None else compared
            if compared.relation is Relation.CONTRADICTS:
                return compared
            if compared.relation is not Relation.UNRELATED:
                best, repeated = compared, repeated + 1
                break
    is_same = repeated == len(shorter.statements) and len(longer.statements) == len(shorter.statements)
    return best if is_same else unrelated


def _is_near(one: frozenset[str], other: frozenset[str]) -> bool:
    """Return True if two statements share so many words that their vectors may decide."""
    return 3 * len(one & other) >= 2 * max(len(one), len(other))


def _wider_paths(one: Memory, other: Memory) -> Iterator[str]:
    """Yield the paths of two memories of which one holds statements that it does not share with the other."""
    for memory, partner in ((one, other), (other, one)):
        if len(memory.statements) > 1 and not _is_contained(memory, partner):
            yield memory.path


def _is_contained(loser: Memory, keeper: Memory) -> bool:
    """Return True if each statement of a memory is compared with one of another: none is about something else."""
    return all(
        any(compare(statement, candidate).relation is not Relation.UNRELATED for candidate in keeper.statements)
        for statement in loser.statements
    )


def _keeping_order(memory: Memory) -> tuple[object, ...]:
    """Return the sort key of the memory to keep among repetitions: fixed, trusted, cited, sure, oldest."""
    return memory.is_fixed, memory.trust, memory.citations, memory.confidence, -memory.created_ns, memory.path


def _prefer(one: Memory, other: Memory) -> tuple[Memory, Memory, tuple[str, ...]]:
    """Return the memory to keep of two that contradict each other, the other one, and why."""
    scores: list[list[str]] = [[], []]
    criteria = (
        ("newer", one.valid_from_ns, other.valid_from_ns),
        ("more trusted", one.trust, other.trust),
        ("better cited", one.citations, other.citations),
        ("more sure", one.confidence, other.confidence),
    )
    for name, ours, theirs in criteria:
        if ours != theirs:
            scores[0 if ours > theirs else 1].append(name)
    if len(scores[0]) == len(scores[1]):
        is_first = (one.valid_from_ns, one.path) > (other.valid_from_ns, other.path)
        return (one, other, ()) if is_first else (other, one, ())
    winner = 0 if len(scores[0]) > len(scores[1]) else 1
    return (one, other, tuple(scores[0])) if winner == 0 else (other, one, tuple(scores[1]))


def _is_in_cycle(path: str, newer: Mapping[str, Memory]) -> bool:
    seen, current = set[str](), path
    while current in newer and current not in seen:
        seen.add(current)
        current = newer[current].path
    return current in seen


def _in_batches(items: Sequence[tuple[Memory, str]], taken: int = 0) -> Iterator[Sequence[tuple[Memory, str]]]:
    """Yield the items in parts whose paths fit the attribute `covers`, of which `taken` bytes are in use."""
    batch: list[tuple[Memory, str]] = []
    size = taken
    for item in items:
        needed = len(item[0].path.encode("utf-8", "surrogateescape")) + 1
        if batch and (size + needed > MAX_BYTES or len(batch) == MAX_BATCH_FILES):
            yield batch
            batch, size = [], taken
        if size + needed <= MAX_BYTES:
            batch.append(item)
            size += needed
    if batch:
        yield batch


def _distrust(memories: Iterable[Memory]) -> dict[str, bytes]:
    """Return the mark of a text that is derived from memories: untrusted if one of them is."""
    return {f"{PREFIX}trust": b"untrusted"} if any(memory.trust == 0 for memory in memories) else {}


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _draft(
    rule: str,
    title: str,
    edits: Sequence[FileEdit],
    sources: Sequence[tuple[Memory, str]],
    reasons: Sequence[str],
    *,
    is_advised: bool = True,
) -> Draft:
    evidence = tuple(
        Evidence(memory.path, memory.line, memory.line + memory.text.count("\n"), shorten(memory.text), role)
        for memory, role in sources
    )
    base = tuple((memory.path, digest_of(memory.data)) for memory, _ in sources)
    return Draft(rule, title, tuple(edits), evidence, tuple(reasons), base, is_advised)
