"""The screen *Review*: a card for each claim or proposal that waits, with its evidence, and the verdicts of a person."""

import difflib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from ctxfs.context.grounding.review_outcome import is_override
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path
from ctxfs.web.differing_tokens import Piece, conflicts_of, differing_values, mark_values
from ctxfs.web.diffs import diff_rows
from ctxfs.web.page import Page, Screen
from ctxfs.web.rows import Rows, cut_rows

_CARDS = 10
_MAX_EVIDENCE = 20
_MAX_COMPARED_CHARACTERS = 20_000  # two such texts without a common line take a tenth of a second
_PROPOSAL, _CONFLICT = "proposal", "conflict"
_VERDICTS = ("accept", "reject", "edit", "this", "other", "both")


@dataclass(slots=True)
class Card:
    """A review: its claim and its nearest evidence with the differing tokens marked; of a proposal or conflict its change."""

    id: str
    kind: str
    task: str
    why: str
    suggested: str
    decision: str
    claim: Sequence[Piece]
    source: str = ""
    evidence: list[tuple[str, Sequence[Piece]]] = field(default_factory=list)
    reasons: str = ""
    change: Rows | None = None
    outcome: Mapping[str, Any] = field(default_factory=dict)


async def _review(page: Page) -> Response:
    reviews = await page.call("reviews")
    is_all = page.query.get("all", "") == "1"
    rows = cut_rows([item for item in reviews if bool(item["decision"]) == is_all], page.number("page", 1), _CARDS)
    decided = [item for item in reviews if item["decision"] and item["decision"] != "withdraw"]
    overridden = sum(is_override(item["decision"], item["suggested"]) for item in decided)
    done = next((item for item in decided if item["id"] == page.query.get("done", "")), None)
    return page.render(
        "review.html",
        cards=[await _card(page, item) for item in rows.items],
        rows=rows,
        is_all=is_all,
        waiting=sum(not item["decision"] for item in reviews),
        decided=len(decided),
        overridden=overridden,
        done=done,
    )


async def _card(page: Page, item: Mapping[str, Any]) -> Card:
    about = await _read_json(page, item["id"], "about.json")
    text = "" if item["kind"] == _PROPOSAL else await _read_text(page, item["id"], "evidence.md")
    quoted = [line[2:] for line in text.splitlines() if line[:2] == "> "][:_MAX_EVIDENCE]
    claimed, known = differing_values(
        conflicts_of(about.get("conflicts")), item["claim"], "\n".join(quoted), item["why"]
    )
    card = Card(
        item["id"],
        item["kind"],
        item["task"],
        item["why"],
        item["suggested"],
        item["decision"],
        mark_values(item["claim"], claimed),
        source=str(about.get("source", "")),
        outcome=await _read_json(page, item["id"], "outcome.json") if item["decision"] else {},
    )
    if item["kind"] == _CONFLICT and not item["decision"]:
        card.change = diff_rows(await _compare(page, str(about.get("of", "")), str(about.get("copy", ""))), 1)
    elif item["kind"] == _PROPOSAL:
        card.reasons = await _read_text(page, item["id"], "why.md")
        card.change = diff_rows((await _read_text(page, item["id"], "change.diff")).encode(), 1)
        lines = (await _read_text(page, item["id"], "evidence.jsonl")).splitlines()[:_MAX_EVIDENCE]
        card.evidence = [_passage(line) for line in lines]
    else:
        card.evidence = [("", mark_values(line, known)) for line in quoted]
    return card


async def _compare(page: Page, this: str, other: str) -> bytes:
    """Return the differences of two contents; a note if they are not texts that the caller may read."""
    try:
        texts = [(await page.call("read", path=path)).decode("utf-8") for path in (this, other)]
    except (OSError, UnicodeDecodeError):
        return b"The contents are not two texts that can be shown here.\n"
    if max(map(len, texts)) > _MAX_COMPARED_CHARACTERS:
        return b"The contents are too long to be compared here.\n"
    before, after = (text.splitlines(keepends=True) for text in texts)
    return "".join(difflib.unified_diff(before, after, this, other)).encode("utf-8", "replace")


def _passage(line: str) -> tuple[str, Sequence[Piece]]:
    """Return the position and the text of a line of evidence.jsonl; the line itself if it is malformed."""
    with suppress(ValueError):
        record = json.loads(line)
        if isinstance(record, dict):
            position = f"{record.get('role', '')} {record.get('path', '')}:{record.get('first', '')}"
            return position, [(str(record.get("text", "")), False)]
    return "", [(line, False)]


async def _read_text(page: Page, name: str, file: str) -> str:
    """Return a file of a review; empty if there is none."""
    try:
        data: bytes = await page.call("read", path=str(Path(("human", "review", name, file))))
    except FileNotFoundError:
        return ""
    return data.decode("utf-8", "replace")


async def _read_json(page: Page, name: str, file: str) -> Mapping[str, Any]:
    with suppress(ValueError):
        value = json.loads(await _read_text(page, name, file))
        return value if isinstance(value, dict) else {}
    return {}


async def _decide(page: Page) -> Response:
    """Apply a verdict. A review that another session has decided meanwhile is shown with that decision."""
    name, verdict = page.form.get("id", ""), page.form.get("verdict", "")
    if verdict == "undo":
        await page.call("undo_decision", id=name)
        return page.redirect("review")
    if verdict not in _VERDICTS:
        raise invalid("verdict", f"{', '.join(_VERDICTS)} or undo is needed")
    text = f"edit {page.form.get('text', '')}" if verdict == "edit" else verdict
    try:
        await page.call("decide", id=name, verdict=text)
    except PermissionError:
        outcome = await _read_json(page, name, "outcome.json")
        if not outcome:
            raise
        return page.render("review_decided.html", 409, id=name, outcome=outcome)
    return page.redirect("review", done=name)


SCREENS = (Screen("review", _review, "Review"), Screen("review/decide", _decide, method="POST"))
