"""Split of a long text into even pieces in linear time. Pure."""

import re
from collections.abc import Iterator

from ctxfs.index.extract.blocks import MAX_CHUNK_CHARACTERS, TARGET_CHARACTERS

_OPAQUE_RUN = re.compile(r"[A-Za-z0-9+/=_-]{400,}+")
_MAX_RUN_HEAD = 100
CUT_MARK = "\u22ef"  # stands for text that is left out
_CUT_DEVIATION = 0.2


def shorten_opaque_runs(text: str) -> str:
    """Return a text with only the head of each run of 400 letters and digits, such as base64: nothing searches for its rest."""
    return _OPAQUE_RUN.sub(lambda match: f"{match[0][:_MAX_RUN_HEAD]}{CUT_MARK}", text) if len(text) >= 400 else text


def split_text(text: str, most: int = MAX_CHUNK_CHARACTERS) -> Iterator[str]:
    """Yield even pieces of a text of at most `most` characters, cut at line ends or spaces where there are any."""
    start, end = 0, len(text)
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    while end - start > most:
        ideal = (end - start) / max(2, round((end - start) / min(TARGET_CHARACTERS, most)))
        low, high = start + int(ideal * (1 - _CUT_DEVIATION)), start + min(int(ideal * (1 + _CUT_DEVIATION)), most)
        cut = max(text.rfind("\n", low, high), text.rfind(" ", low, high))
        cut = cut if cut > 0 else max(text.rfind(",", low, high) + 1, 0) or high
        yield text[start:cut].rstrip()
        start = cut
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield text[start:end]
