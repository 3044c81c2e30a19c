"""The line between hits that answer a question and those that may not. Pure."""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def count_strong(answer: Mapping[str, Any]) -> int:
    """Return the number of leading hits above the line: none of a weak answer, else up to the last relevant hit.

    `answer` is the response to the method `search`.
    """
    if answer["answer"]["p"] is None:  # the hits of tools are not judged
        return len(answer["hits"])
    if answer["answer"]["verdict"] != "known":
        return 0
    ranks = [rank for rank, hit in enumerate(answer["hits"], 1) if hit["relevant"]]
    return max(ranks, default=0)
