"""The evaluation of a response on the screen of its context: each claim with its source, the differing values marked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxfs.model.path import Path
from ctxfs.web.differing_tokens import Piece, conflicts_of, differing_values, mark_values
from ctxfs.web.page import Page
from ctxfs.web.rows import cut_rows

_CLAIMS = 100
_CLASSES = {"supported": "good", "contradicted": "bad", "unsupported": "warn"}


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a response, and its nearest source; `css` is the class of its verdict."""

    text: Sequence[Piece]
    lines: str
    verdict: str
    css: str
    why: str
    source: Sequence[Piece]
    at: str
    support: str


async def read_evaluation(page: Page, task: str) -> Mapping[str, Any] | None:
    """Return the evaluation of the response of a task; None without a response."""
    try:
        data: bytes = await page.call("read", path=str(Path(("context", task, "evaluation.json"))))
    except FileNotFoundError:
        return None
    body = json.loads(data)
    return body if isinstance(body, dict) else None


async def evaluation_view(page: Page, task: str) -> dict[str, object]:
    """Return the values of the view: the claims of this part, the counts of verdicts, and changed sources."""
    body = await read_evaluation(page, task)
    rows = cut_rows(body["claims"] if body else [], page.number("page", 1), _CLAIMS)
    return {"evaluation": body, "rows": rows, "claims": [_claim(record) for record in rows.items]}


def _claim(record: Mapping[str, Any]) -> Claim:
    source = record.get("source", {})
    text, known_text = str(record["claim"]), str(source.get("text", ""))
    verdict = str(record["verdict"])
    conflicts = conflicts_of(record.get("conflicts"))
    is_supported = verdict == "supported"
    claimed, known = differing_values(conflicts, text, "" if is_supported else known_text)
    judge = record.get("judge") or {}
    why = judge.get("why") or record.get("why") or record.get("doubt") or ""
    return Claim(
        mark_values(text, claimed),
        "–".join(str(line) for line in dict.fromkeys(record["lines"])),
        verdict,
        _CLASSES.get(verdict, ""),
        str(why),
        mark_values(known_text, known),
        str(source.get("at", "")),
        f"{record['support']:.2f}" if "support" in record else "",
    )
