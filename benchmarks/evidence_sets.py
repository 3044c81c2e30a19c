"""Questions with their evidence, for `benchmarks.evidence`: LoCoMo, functions of Python's library, and any folder.

A folder contains `documents/`, text files in UTF-8, and `questions.jsonl`, a question a line:

    {"id": "q1", "question": "…", "evidence": [{"path": "a/keys.md", "text": "…"}], "group": "a", "category": "dates"}

`path` is relative to `documents/`. `text` is a passage of that file, as long as the evidence: it is matched after
`normalise_text`, so that white space, case and punctuation may differ. All of the evidence is needed to answer. `group`
is the unit that confidence intervals resample, for example a conversation; `category` is free. Both are optional.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.locomo import numbered_questions_of, write_conversation
from benchmarks.quality import COLLECTIONS
from ctxfs.context.retrieval_metrics import Gold, LineRange, parse_line_range
from ctxfs.index.normal_form import fold

_WORDS = re.compile(r"\w+")
_LINE_NUMBER = re.compile(r"^[ \t]*\d+[:|\t→]", re.MULTILINE)
_SOURCE = "documents"
_FUNCTION_SOURCE = "library"
MAX_FUNCTION_LINES = 40


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the lines and the texts of its evidence; `group` is the unit of resampling, `half` even or odd."""

    id: str
    gold: Gold
    texts: tuple[str, ...]
    group: str
    half: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A store: its folder, its sources by name, and the questions about it."""

    folder: Path
    sources: dict[str, Path]
    questions: Sequence[Question]


@dataclass(frozen=True, slots=True)
class EvidenceSet:
    """A set of questions over one or more stores."""

    name: str
    parts: Sequence[Part]


def normalise_text(text: str) -> str:
    """Return the words of a text, folded (NFKC, case) and separated by spaces, without line numbers at line starts."""
    return " ".join(_WORDS.findall(fold(_LINE_NUMBER.sub("", text))))


def contains_text(normalised_context: str, normalised_text: str) -> bool:
    """Return True if a text occurs in a context as whole words; both are normalised."""
    return f" {normalised_text} " in f" {normalised_context} "


def locate_text(document: str, text: str) -> tuple[int, int] | None:
    """Return the first and last line, counted from 1, of the first occurrence of a text; None if there is none."""
    lines = [(number, words) for number, line in enumerate(document.split("\n"), 1) if (words := normalise_text(line))]
    starts = list(accumulate((len(words) + 1 for _, words in lines), initial=0))
    wanted = normalise_text(text)
    offset = f" {' '.join(words for _, words in lines)} ".find(f" {wanted} ") if wanted else -1
    if offset < 0:
        return None
    first, last = (bisect_right(starts, position) - 1 for position in (offset, offset + len(wanted) - 1))
    return lines[first][0], lines[last][0]


def locomo_set(data: Path, root: Path, errors: dict[str, Any], conversations: int | None) -> EvidenceSet:
    """Return LoCoMo with a store a conversation; a text of evidence is a turn without its speaker and its picture."""
    parts = []
    for index, sample in enumerate(json.loads((data / "locomo10.json").read_text())[:conversations]):
        name = sample["sample_id"]
        places = write_conversation(sample, root / "corpus" / name)
        texts = {
            parse_line_range(f"knowledge/{name}/{places[turn['dia_id']]}"): turn["text"]
            for turns in sample["conversation"].values()
            if isinstance(turns, list)
            for turn in turns
        }
        questions = [
            Question(f"{name}:{number}", gold, tuple(texts[item] for item in gold.relevant), name, _half_of(index))
            for number, gold in numbered_questions_of(sample, index, places, f"knowledge/{name}", errors)
        ]
        parts.append(Part(root / name, {name: root / "corpus" / name}, questions))
    return EvidenceSet("locomo", parts)


def function_set(root: Path, modules: int) -> EvidenceSet:
    """Return functions of Python's library without docstrings; a question is the first line of a docstring.

    The evidence is the whole function, of at most MAX_FUNCTION_LINES lines. Only questions with an odd number take part:
    weights of ranking were chosen on the others.
    """
    texts = root / _FUNCTION_SOURCE
    texts.mkdir(parents=True, exist_ok=True)
    questions = []
    for number, gold in enumerate(COLLECTIONS["functions"](texts, modules)):
        (line_range,) = gold.relevant
        module = line_range.path.removeprefix(f"knowledge/{_FUNCTION_SOURCE}/")
        lines = (texts / module).read_text(encoding="utf-8").split("\n")[line_range.first - 1 : line_range.last]
        if number % 2 and len(lines) <= MAX_FUNCTION_LINES:
            questions.append(Question(f"functions:{number}", gold, ("\n".join(lines),), module))
    return EvidenceSet("functions", [Part(root, {_FUNCTION_SOURCE: texts}, questions)])


def folder_set(folder: Path, root: Path) -> EvidenceSet:
    """Return the set of a folder. Exit if a line is malformed, or the text of evidence is not in its document."""
    questions = []
    for number, line in enumerate((folder / "questions.jsonl").read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                questions.append(_question_of(json.loads(line), folder / "documents"))
            except (ValueError, KeyError, TypeError, OSError) as error:
                raise SystemExit(f"'{folder / 'questions.jsonl'}' line {number}: {error!r}") from error
    return EvidenceSet(folder.name, [Part(root, {_SOURCE: folder / "documents"}, questions)])


def write_folder(chosen: EvidenceSet, target: Path) -> None:
    """Write a set as a folder that `folder_set` reads; documents of several stores go into one folder each."""
    records = []
    for part in chosen.parts:
        (source,) = part.sources.values()
        prefix = f"{next(iter(part.sources))}/" if len(chosen.parts) > 1 else ""
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            copy = target / "documents" / f"{prefix}{path.relative_to(source)}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        records += [_record_of(question, prefix) for question in part.questions]
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (target / "questions.jsonl").write_text("".join(lines), encoding="utf-8")


def _record_of(question: Question, prefix: str) -> dict[str, object]:
    evidence = [
        {"path": prefix + item.path.split("/", 2)[2], "text": text}
        for item, text in zip(question.gold.relevant, question.texts, strict=True)
    ]
    record = {"id": question.id, "question": question.gold.question, "evidence": evidence, "group": question.group}
    return {**record, "category": question.gold.category}


def _question_of(record: dict[str, Any], documents: Path) -> Question:
    ranges, texts = [], []
    for path, text in _evidence_of(record):
        lines = locate_text((documents / path).read_text(encoding="utf-8"), text)
        if lines is None:
            raise ValueError(f"this text is not in '{path}': {text[:80]}")
        ranges.append(LineRange(f"knowledge/{_SOURCE}/{path}", *lines))
        texts.append(text)
    if not ranges:
        raise ValueError("no evidence")
    gold = Gold(str(record["question"]), tuple(ranges), str(record.get("category", "")))
    return Question(str(record["id"]), gold, tuple(texts), str(record.get("group", "")) or str(record["id"]))


def _evidence_of(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for item in record["evidence"]:
        path, text = str(item["path"]), str(item["text"])
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"a path below documents/ is needed, not '{path}'")
        yield path, text


def _half_of(index: int) -> str:
    return "odd" if index % 2 else "even"
