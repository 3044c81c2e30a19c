"""JSON that ends too early, as the head of a large file does: its complete values, and the rest as text. Pure."""

import re
from collections.abc import Iterator
from typing import Any

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats.json_text import decode_escapes, parse_json
from ctxfs.index.extract.formats.source_lines import SourceLines
from ctxfs.index.extract.pieces import shorten_opaque_runs, split_text

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
_CLOSING = {"[": "]", "{": "}"}
_MAX_DEPTH = 1000
_MAX_REST_CHARACTERS = 200_000


def parse_cut_json(text: str) -> tuple[Any, str]:
    """Return (value, rest) of a JSON text; the value of one that is cut has the members before the cut.

    The rest is empty for a whole text. Return (None, "") for a text that is malformed otherwise.
    """
    value = parse_json(text)
    if value is not None or not text.lstrip("\ufeff \t\r\n").startswith(("[", "{")):
        return value, ""
    end, closing = find_last_member(text)
    if not end:
        return None, ""
    return parse_json(text[:end] + closing), text[end:][:_MAX_REST_CHARACTERS]


def find_last_member(text: str) -> tuple[int, str]:
    """Return the offset behind the last complete member of a cut JSON text, and the brackets that close it there.

    The offset is 0 if there is none, or if the brackets do not match.
    """
    stack: list[str] = []
    end, depth = 0, 0
    for match in _TOKEN.finditer(text):
        mark = match[0]
        if mark in _CLOSING:
            stack.append(_CLOSING[mark])
            if len(stack) > _MAX_DEPTH:
                return 0, ""
        elif mark in ("]", "}"):
            if not stack or stack.pop() != mark:
                return 0, ""
            end, depth = match.end(), len(stack)
        elif mark == ",":
            end, depth = match.start(), len(stack)
    return end, "".join(reversed(stack[:depth]))


def read_cut_rest(rest: str, lines: SourceLines) -> Iterator[Chunk]:
    """Yield the text behind the last complete member of a cut JSON text, with the escapes in its strings decoded."""
    text = rest.strip(" \t\r\n,")
    line = lines.find(text[:40])
    for piece in split_text(shorten_opaque_runs(decode_escapes(text))):
        yield Chunk(piece, line, line, "")
