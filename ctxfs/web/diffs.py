"""Lines of text and of unified diffs, cut to the size of a page. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from ctxfs.web.rows import Rows, cut_rows

MAX_SHOWN_BYTES = 2_000_000
MAX_PART_CHARACTERS = 120_000
_CLASSES = {"+": "added", "-": "removed", "@": "place"}


def cut_lines(lines: Sequence[str]) -> Sequence[str]:
    """Return lines that fit into a page together: the long ones are cut."""
    limit = MAX_PART_CHARACTERS // max(1, len(lines))
    return [line if len(line) <= limit else f"{line[:limit]}… {len(line)} characters" for line in lines]


def diff_rows(data: bytes, number: int) -> Rows:
    """Return a part of a unified diff, as (class, line)."""
    part = cut_rows(data[:MAX_SHOWN_BYTES].decode("utf-8", "replace").split("\n"), number)
    return replace(part, items=[(_CLASSES.get(line[:1], ""), line) for line in cut_lines(part.items)])
