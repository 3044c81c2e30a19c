"""The screen *Ask*: a question, its hits by file with their passages, and a context of the same question."""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from ctxfs.context.build.request_template import default_request
from ctxfs.index.search.snippets import Snippet, cut_snippet
from ctxfs.index.search.strong_hits import count_strong
from ctxfs.model.change import MakeDir, Put
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path, one_line
from ctxfs.rpc.wire import change_to_wire
from ctxfs.web.bars import Segment, colour, stack
from ctxfs.web.form_paths import decode_path, encode_path
from ctxfs.web.page import Page, Screen
from ctxfs.web.rows import MAX_ROWS
from ctxfs.web.tree_paths import path_of

_MAX_QUESTION_CHARACTERS = 4000
_HITS = 50
_SNIPPET_LINES = 8
_SNIPPET_CHARACTERS = 700
_MAX_OPERATORS = 20
_MAX_BUDGET = 10_000_000
_MAX_NAME_CHARACTERS = 40
_WORD = re.compile(r"[a-z0-9]+")
_OPERATOR = re.compile(
    r'(?<!\S)(?:[+-]?[a-z]{1,12}:(?:"[^"\n]{1,200}"|\S{1,200})|[+-]\w\S{0,100}|"[^"\n]{1,200}")(?!\S)'
)
_SUGGESTIONS = ("kind:code", "kind:markdown", "kind:dialogue", "path:memory", "since:7d", "mode:words", "mode:meaning")


@dataclass(slots=True)
class Passage:
    """A hit as the page shows it, with the signals that add up to its score."""

    rank: int
    hit: Mapping[str, Any]
    snippet: Snippet
    shares: Sequence[Segment]


@dataclass(slots=True)
class FileHits:
    """The passages of one file, best first."""

    path: str
    label: str
    form_path: str
    passages: list[Passage] = field(default_factory=list)


async def _ask(page: Page) -> Response:
    question, below = page.query.get("q", "").strip(), page.query.get("below", "")
    limit = page.number("limit", _HITS, MAX_ROWS)
    answer: dict[str, Any] | None = None
    if question:
        answer = await page.call(
            "search", question=question[:_MAX_QUESTION_CHARACTERS], below=below, limit=limit, labels=True
        )
    operators = [match[0] for match in _OPERATOR.finditer(question)][:_MAX_OPERATORS]
    values: dict[str, object] = {
        "question": question,
        "below": below,
        "chips": [(operator, _without(question, operator)) for operator in operators],
        "suggestions": [operator for operator in _SUGGESTIONS if operator not in operators] if question else [],
        "answer": answer,
        "strong": [],
        "weak": [],
        "more": min(MAX_ROWS, limit * 2) if answer and len(answer["hits"]) == limit < MAX_ROWS else 0,
    }
    if answer is not None:
        line = count_strong(answer)
        values |= {"strong": _group(answer, 0, line), "weak": _group(answer, line, len(answer["hits"]))}
    return page.render("ask_results.html" if page.is_fragment else "ask.html", **values)


async def _make_context(page: Page) -> Response:
    """Make a task of the question: a directory of context/ with its request, as `mkdir` and an editor do."""
    question, budget = page.form.get("q", "").strip(), page.form.get("budget", "")
    if not question or len(question) > _MAX_QUESTION_CHARACTERS:
        raise invalid("question", f"it has from 1 to {_MAX_QUESTION_CHARACTERS} characters")
    if not budget.isascii() or not budget.isdigit() or not 1 <= int(budget[:10]) <= _MAX_BUDGET:
        raise invalid("budget", f"a number of tokens from 1 to {_MAX_BUDGET} is needed")
    words = "-".join(_WORD.findall(question.casefold()))[:_MAX_NAME_CHARACTERS].strip("-")
    task = Path(("context", f"{words or 'question'}-{secrets.token_hex(3)}"))
    text = default_request(one_line(question), int(budget))
    await page.call("apply", change=change_to_wire(MakeDir(task)))
    await page.call("apply", change=change_to_wire(Put(task / "request.toml", text.encode("utf-8", "replace"))))
    return page.redirect("contexts/one", task=task.name)


async def _mark_right(page: Page) -> Response:
    """Record that a passage answers the question, for ctxfs eval."""
    question = page.form.get("q", "")
    relevant = f"{decode_path(page.form.get('path', ''))}:{page.form.get('lines', '')}"
    result = await page.call("add_gold", question=question[:_MAX_QUESTION_CHARACTERS], relevant=[relevant])
    return page.render("ask_gold.html", question=question, relevant=relevant, result=result)


def _without(question: str, operator: str) -> str:
    start = question.index(operator)
    return " ".join((question[:start] + question[start + len(operator) :]).split())


def _group(answer: Mapping[str, Any], start: int, end: int) -> list[FileHits]:
    """Return the hits of these ranks by file, in the order of the best hit of each."""
    files: dict[str, FileHits] = {}
    for rank, hit in enumerate(answer["hits"][start:end], start + 1):
        path = path_of(hit)
        file = files.setdefault(path, FileHits(path, answer["labels"].get(hit["path"], ""), encode_path(path)))
        file.passages.append(
            Passage(rank, hit, cut_snippet(hit, answer["terms"], _SNIPPET_LINES, _SNIPPET_CHARACTERS), _shares(hit))
        )
    return list(files.values())


def _shares(hit: Mapping[str, Any]) -> Sequence[Segment]:
    """Return the bar of the signals that raise a score, largest first."""
    raising = sorted(((name, share) for name, share in hit["shares"].items() if share > 0), key=lambda item: -item[1])
    return stack(
        ((name, share, colour(number)) for number, (name, share) in enumerate(raising)), sum(s for _, s in raising)
    )


SCREENS = (
    Screen("ask", _ask, "Ask"),
    Screen("contexts/new", _make_context, method="POST"),
    Screen("ask/right", _mark_right, method="POST"),
)
