"""Answers of `ctx_search`: passages that an agent can go on from, with few other tokens. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ctxfs.eventlog.record_marks import RECORD_LABEL, is_record_path
from ctxfs.index.search.snippets import Snippet, cut_snippet
from ctxfs.model.path import one_line

DEFAULT_HITS = 8
_MAX_UNKNOWN_HITS = 3  # shown of an unknown answer, because a few such verdicts are wrong
_MIN_KNOWN_HITS = 3
_MAX_SHOWN_LINES = 16
_MAX_SHOWN_CHARS = 800
# A line of a passage that resembles a line between passages, here or in a context, is indented, so that no file can
# imitate those.
_FRAME = re.compile(r"(answer|note): |\[|## \[|.*:\d+(-\d+)?(\s|$)")

Hit = Mapping[str, Any]


class _Passage(NamedTuple):
    rank: int
    snippet: Snippet
    hit: Hit


def format_answer(results: Mapping[str, Any], start: int, limit: int | None) -> str:
    """Return verdict, remarks, and the passages of the hits from `start` on.

    Without a limit, hits that probably do not help are left out of a known answer, and most hits of an unknown one.
    """
    hits, answer = results["hits"], results["answer"]
    end = start + (limit or DEFAULT_HITS)
    if limit is None and answer["verdict"] == "unknown":
        end = min(end, start + _MAX_UNKNOWN_HITS)
    elif limit is None and answer["verdict"] == "known":
        relevant = [rank for rank, hit in enumerate(hits, 1) if hit["relevant"]]
        end = min(end, max(start + _MIN_KNOWN_HITS, *relevant, 0))
    head: list[str] = []
    if not start:
        head = [_format_verdict(answer, bool(hits))] if hits or results["complete"] else []
        head += [f"note: {one_line(note)}" for note in (*results["notes"], *results["remarks"])]
    if not hits and not results["complete"]:
        head.append("nothing found so far: the search is incomplete")
    more = [f"[more: cursor={end}]"] if len(hits) > end else []
    return "\n".join([*head, *_format_passages(hits[start:end], results["terms"], results["labels"]), *more])


def _format_verdict(answer: Mapping[str, Any], has_hits: bool) -> str:
    p = "" if answer["p"] is None else f" (p {answer['p']:.2f})"
    verdict = f"answer: {answer['verdict']}{p}"
    if answer["verdict"] != "unknown":
        return verdict
    nearest = "; the nearest, which probably do not answer:" if has_hits else ""
    return f"{verdict}: nothing found that answers this{nearest}"


def _format_passages(hits: Sequence[Hit], terms: Sequence[str], labels: Mapping[str, str]) -> list[str]:
    """Return the lines of the passages, files in the order of their best hits, adjacent passages of a file joined."""
    files: dict[str, list[_Passage]] = {}
    for rank, hit in enumerate(hits):
        snippet = cut_snippet(hit, terms, _MAX_SHOWN_LINES, _MAX_SHOWN_CHARS)
        files.setdefault(hit["path"], []).append(_Passage(rank, snippet, hit))
    out: list[str] = []
    for path, passages in files.items():
        name = one_line(path)
        for _, snippet, hit in _join_adjacent(passages):
            out.append(_format_place(name, snippet, hit, labels.get(path, "")))
            out += [f" {line}" if _FRAME.match(line) else line for line in snippet.lines]
            name = name.rpartition("/")[2]  # of further passages of the file
    return out


def _join_adjacent(passages: Sequence[_Passage]) -> list[_Passage]:
    """Return the passages of a file, best first, those that follow each other as one."""
    out: list[_Passage] = []
    for passage in sorted(passages, key=lambda item: item.snippet[:2]):
        before = out[-1] if out else None
        if before is not None and passage.snippet.first == before.snippet.last + 1:
            lines = [*before.snippet.lines, *passage.snippet.lines]
            joined = Snippet(before.snippet.first, passage.snippet.last, lines)
            out[-1] = _Passage(min(before.rank, passage.rank), joined, before.hit)
        else:
            out.append(passage)
    return sorted(out, key=lambda item: item.rank)


def _format_place(name: str, snippet: Snippet, hit: Hit, label: str) -> str:
    """Return `path:first-last`, the day, the mark or label of the file, and the heading unless path or passage contains it."""
    is_record = is_record_path(hit["path"])
    heading = one_line(hit["heading"].rpartition(" > ")[2])
    is_shown = heading in hit["path"] or heading in "\n".join(snippet.lines)
    parts = (
        f"{name}:{snippet.first}" + (f"-{snippet.last}" if snippet.last > snippet.first else ""),
        hit["date"],
        RECORD_LABEL if is_record else label,
        "" if is_shown else f"({heading})",
    )
    return " ".join(part for part in parts if part)
