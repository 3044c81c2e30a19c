"""Proposals of a command: the question that it gets, and the check of its response. Pure.

The command reads one JSON object on stdin and writes one on stdout:

    {"proposals": [{"title": …, "why": …, "evidence": [PATH, …],
                    "changes": [{"path": …, "text": …, "state": "merged" | "archived", "covers": [PATH, …]}]}]}

A change names a memory of the question, or a new file of the same agent. A text needs evidence: each of its statements
must be in the memories that the proposal names. A memory leaves only if a memory that stays makes its statements.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxfs.consolidation.draft import COMMAND, Draft, Evidence, digest_of, join_paths, shorten
from ctxfs.consolidation.law import COVERS, STATE
from ctxfs.consolidation.memories import Memory, format_day
from ctxfs.consolidation.text_units import units_of
from ctxfs.context.grounding.statement_comparison import Relation, compare
from ctxfs.context.grounding.statements import Statement, parse_statement
from ctxfs.memory.states import ARCHIVED, MERGED
from ctxfs.model.errors import CommandError
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path, printable
from ctxfs.versions.proposals import FileEdit

MAX_MEMORIES = 2_000
MAX_TEXT_CHARS = 4_000
MAX_PROPOSALS = 100
MAX_CHANGES = 100
_MAX_QUESTION_CHARS = 4_000_000
_MIN_SHARED_SHARE = 0.75  # of the words of a statement, in the memories that are its evidence
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_MEMBERS = frozenset(("title", "why", "evidence", "changes"))
_CHANGE_MEMBERS = frozenset(("path", "text", "state", "covers"))


class _Refused(Exception):
    """The reason why a proposal of the command cannot be used."""


def command_question(memories: Sequence[Memory], drafts: Sequence[Draft]) -> Mapping[str, Any]:
    """Return the question to the command: the newest active memories, and the drafts of the rules."""
    newest = sorted((memory for memory in memories if memory.is_active), key=lambda item: -item.changed_ns)
    entries, size = [], 0
    for memory in newest[:MAX_MEMORIES]:
        entry = {
            "path": printable(memory.path),
            "kind": memory.kind,
            "text": memory.text[:MAX_TEXT_CHARS],
            "source": memory.label("source"),
            "confidence": memory.confidence,
            "changed": format_day(memory.changed_ns),
            "fixed": memory.is_fixed,
        }
        size += len(str(entry))
        if size > _MAX_QUESTION_CHARS:
            break
        entries.append(entry)
    rules = [{"rule": draft.rule, "title": draft.title, "paths": [*map(printable, draft.paths)]} for draft in drafts]
    return {"task": "consolidate", "memories": entries, "drafts": rules[:MAX_MEMORIES]}


def parse_proposals(text: str, memories: Sequence[Memory]) -> tuple[list[Draft], list[tuple[str, str]]]:
    """Return the drafts of a response, and (title, reason) of those that are refused.

    Raise CommandError if the response has another form.
    """
    try:
        response = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"it did not write JSON: {error}", "see docs/memory.md") from error
    proposals = response.get("proposals") if isinstance(response, dict) else None
    if not isinstance(proposals, list) or len(proposals) > MAX_PROPOSALS:
        raise CommandError(f"it has to write a list 'proposals' of at most {MAX_PROPOSALS}", "see docs/memory.md")
    by_path = {memory.path: memory for memory in memories}
    drafts, refusals = list[Draft](), list[tuple[str, str]]()
    for number, value in enumerate(proposals, 1):
        title = value.get("title") if isinstance(value, dict) else None
        name = shorten(title)[:120] if isinstance(title, str) and title.strip() else f"proposal {number}"
        try:
            drafts.append(_parse_proposal(name, value, by_path))
        except _Refused as refusal:
            refusals.append((name, str(refusal)))
    return drafts, refusals


@dataclass(frozen=True, slots=True)
class _Change:
    path: str
    text: str | None
    state: str
    covers: tuple[str, ...]


def _parse_proposal(title: str, value: object, memories: Mapping[str, Memory]) -> Draft:
    if not isinstance(value, dict) or not value.keys() <= _MEMBERS:
        raise _Refused(f"a proposal has the members {', '.join(sorted(_MEMBERS))}")
    items = value.get("changes")
    if not isinstance(items, list) or not 0 < len(items) <= MAX_CHANGES:
        raise _Refused(f"'changes' is a list of 1 to {MAX_CHANGES}")
    owners = {memory.owner for memory in memories.values()}
    changes = {change.path: change for change in (_parse_change(item, memories, owners) for item in items)}
    if len(changes) != len(items):
        raise _Refused("a path is changed twice")
    evidence = _texts(value.get("evidence", []), "evidence")
    named = dict.fromkeys((*evidence, *(path for change in changes.values() for path in change.covers)))
    unknown = [path for path in named if path not in memories]
    if unknown:
        raise _Refused(f"'{printable(unknown[0])}' is none of the memories that it got")
    sources = [memories[path] for path in named]
    for change in changes.values():
        _require_evidence(change, memories.get(change.path), sources)
    _require_successors(changes, memories)
    edits = tuple(_edit_of(change, memories.get(change.path), sources) for change in changes.values())
    why = value.get("why", "")
    reasons = tuple(map(shorten, str(why).splitlines()[:20])) if isinstance(why, str) else ()
    shown = [*sources, *(memories[path] for path in changes if path in memories and path not in named)]
    return Draft(
        COMMAND,
        title,
        edits,
        tuple(Evidence(item.path, item.line, item.line, shorten(item.text), "named") for item in shown),
        reasons or ("proposed by a command",),
        tuple((item.path, digest_of(item.data)) for item in shown),
    )


def _parse_change(item: object, memories: Mapping[str, Memory], owners: set[str]) -> _Change:
    if not isinstance(item, dict) or not item.keys() <= _CHANGE_MEMBERS or not isinstance(item.get("path"), str):
        raise _Refused(f"a change has the members {', '.join(sorted(_CHANGE_MEMBERS))}")
    try:
        path = str(Path.parse(item["path"]))
    except OSError as error:
        raise _Refused(f"'{printable(item['path'])[:200]}' is no path") from error
    parts = path.split("/")
    if path not in memories and (len(parts) < 4 or parts[0] != "memory" or parts[1] not in owners or "\n" in path):
        raise _Refused(f"'{printable(path)[:200]}' is neither one of its memories nor a new one of the same agent")
    text, state = item.get("text"), item.get("state", "")
    if text is not None and not isinstance(text, str):
        raise _Refused(f"'{printable(path)}': 'text' is no text")
    if state not in ("", ARCHIVED, MERGED) or (state and path not in memories):
        raise _Refused(f"'{printable(path)}': 'state' is archived or merged, of a memory that exists")
    if path not in memories and not (text or "").strip():
        raise _Refused(f"'{printable(path)}' is new and has no text")
    return _Change(path, text, state, tuple(_texts(item.get("covers", []), "covers")))


def _texts(value: object, name: str) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_CHANGES or not all(isinstance(item, str) for item in value):
        raise _Refused(f"'{name}' is a list of at most {MAX_CHANGES} paths")
    return [item.strip("/") for item in value]


def _require_evidence(change: _Change, old: Memory | None, sources: Sequence[Memory]) -> None:
    """Refuse a text with a statement that is neither in the file already nor in the memories that the proposal names."""
    if change.text is None:
        return
    try:
        data = change.text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _Refused(f"'{printable(change.path)}': the text is not Unicode") from error
    old_units = units_of(old.data) if old is not None else frozenset[str]()
    for unit in sorted(units_of(data) - old_units):
        if not unit.endswith(":") and not any(_is_supported(unit, source) for source in sources):
            raise _Refused(f"no evidence for '{shorten(unit)[:200]}'")


def _is_supported(unit: str, source: Memory) -> bool:
    if unit in units_of(source.data):
        return True
    statement = parse_statement(unit)
    if any(compare(statement, known).relation in (Relation.SAME, Relation.REPEATED) for known in source.statements):
        return True
    shared = {key for known in source.statements for key in known.all_keys}
    has_words = bool(statement.keys) and len(statement.keys & shared) >= _MIN_SHARED_SHARE * len(statement.keys)
    numbers = set(_NUMBER.findall(unit)) <= set(_NUMBER.findall(source.text))
    is_denied = any(known.denials == statement.denials for known in source.statements if known.keys & statement.keys)
    conflicts = any(compare(statement, known).relation is Relation.CONTRADICTS for known in source.statements)
    return has_words and numbers and is_denied and not conflicts


def _require_successors(changes: Mapping[str, _Change], memories: Mapping[str, Memory]) -> None:
    """Refuse a memory that leaves although no memory that stays covers it and makes its statements."""
    for change in changes.values():
        if not change.state:
            continue
        coverers = [item for item in changes.values() if change.path in item.covers and not item.state]
        if not coverers:
            raise _Refused(f"'{printable(change.path)}' would leave, and no memory that stays covers it")
        kept = [statement for item in coverers for statement in _statements_of(item, memories)]
        for statement in memories[change.path].statements or (parse_statement(memories[change.path].text),):
            if not any(_is_answered(statement, other) for other in kept):
                raise _Refused(f"no memory that stays is about '{shorten(statement.text)[:200]}'")


def _statements_of(change: _Change, memories: Mapping[str, Memory]) -> Iterator[Statement]:
    if change.text is not None:
        yield from map(parse_statement, sorted(units_of(change.text.encode("utf-8"))))
    elif change.path in memories:
        yield from memories[change.path].statements


def _is_answered(statement: Statement, other: Statement) -> bool:
    """Return True if another statement repeats or contradicts one, or has most of its words and its numbers."""
    if compare(statement, other).relation is not Relation.UNRELATED:
        return True
    has_numbers = set(_NUMBER.findall(statement.text)) <= set(_NUMBER.findall(other.text))
    return (
        has_numbers
        and bool(statement.keys)
        and len(statement.keys & other.all_keys) >= _MIN_SHARED_SHARE * len(statement.keys)
    )


def _edit_of(change: _Change, old: Memory | None, sources: Sequence[Memory]) -> FileEdit:
    labels: dict[str, bytes | None] = {}
    if change.covers:
        known = old.label("covers").splitlines() if old is not None else []
        labels[COVERS] = join_paths(list(dict.fromkeys((*filter(None, known), *change.covers))))
    if change.state:
        labels[STATE] = change.state.encode()
    if old is None:
        labels[f"{PREFIX}tags"] = b"derived"
        if sources:
            labels[f"{PREFIX}source"] = f"{sources[0].path}:{sources[0].line}".encode("utf-8", "replace")
        if any(source.trust == 0 for source in sources):
            labels[f"{PREFIX}trust"] = b"untrusted"
    data = None if change.text is None else change.text.rstrip("\n").encode() + b"\n"
    return FileEdit(change.path, data, labels)
