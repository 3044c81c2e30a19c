"""Output of an answer of search: its notes, its hits, and the exit code. It imports few modules, for a fast start."""

from __future__ import annotations

from ctxfs.cli.hit_output import host_path, print_plain, show_hit
from ctxfs.cli.output import print_json, print_line, warn
from ctxfs.index.search.strong_hits import count_strong
from ctxfs.model.errors import EXIT_NOT_KNOWN, EXIT_NOTHING_FOUND

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

DEFAULT_HITS = 10
MAX_HITS = 200
_WEAK_LINE = "── weak: these may not answer ──"


def print_notes(answer: Mapping[str, Any]) -> None:
    """Print the notes and remarks of an answer on standard error."""
    for note in (*answer["notes"], *answer["remarks"]):
        warn(note)


def print_hits(
    answer: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    *,
    form: str,
    group_by: str | None = None,
    explain: bool = False,
    weak: bool = False,
) -> None:
    """Print the hits of an answer in a form (`text`, `path`, `line` or `json`).

    Hits of an unknown answer appear in JSON, or if `weak`. Paths below one of the sources are host paths.
    """
    groups = _group_hits(answer["hits"], group_by)
    if form == "json":
        print_json({**answer, "groups": groups} if group_by else answer)
        return
    if _is_unknown(answer) and not weak:
        return
    paths, terms = [host_path(hit["path"], sources) for hit in answer["hits"]], answer["terms"]
    if form == "text":
        _show_groups(answer, groups, paths, terms, has_names=bool(group_by), explain=explain)
    else:
        print_plain(answer["hits"], paths, terms, form)


def report_outcome(answer: Mapping[str, Any], form: str) -> int:
    """Return the exit code of an answer. Print the reason on standard error if it has no hits, except for JSON."""
    if answer["hits"] and not _is_unknown(answer):
        return 0
    if form != "json":
        warn(_explain_nothing(answer))
    return EXIT_NOTHING_FOUND if answer["complete"] else EXIT_NOT_KNOWN


def _is_unknown(answer: Mapping[str, Any]) -> bool:
    return bool(answer["answer"]["verdict"] == "unknown")


def _show_groups(
    answer: Mapping[str, Any],
    groups: Mapping[str, Sequence[int]],
    paths: Sequence[str],
    terms: Sequence[str],
    *,
    has_names: bool,
    explain: bool,
) -> None:
    # A group shows its hits in order, so that the line is drawn in a plain list only.
    strong = len(answer["hits"]) if has_names else count_strong(answer)
    for name, ranks in groups.items():
        if has_names:
            print_line(f"{name or '(none)'}  {len(ranks)}", bold=True)
        for rank in ranks:
            if rank == strong + 1:
                print_line(_WEAK_LINE, dim=True)
            show_hit(rank, answer["hits"][rank - 1], paths[rank - 1], terms)
            if explain:
                _explain_hit(answer["hits"][rank - 1])


def _explain_nothing(answer: Mapping[str, Any]) -> str:
    if not answer["complete"]:
        return "not known: not everything could be looked at"
    if not answer["hits"]:
        return "nothing found"
    return f"unknown: nothing here seems to answer this (p {answer['answer']['p']:.2f}) → --weak shows the nearest hits"


def _group_hits(hits: Sequence[Mapping[str, Any]], by: str | None) -> dict[str, list[int]]:
    """Return the ranks of the hits by group, in order; one group without a name if `by` is None."""
    groups: dict[str, list[int]] = {}
    for rank, hit in enumerate(hits, 1):
        name = "" if by is None else hit["path"].rpartition("/")[0] if by == "dir" else hit[by]
        groups.setdefault(name, []).append(rank)
    return groups


def _explain_hit(hit: Mapping[str, Any]) -> None:
    for name, share in sorted(hit["shares"].items(), key=lambda item: -abs(item[1])):
        measured = hit["signals"].get(name)
        print_line(f"     {share:+7.2f}  {name} {'not found' if measured is None else f'{measured:.3g}'}")
