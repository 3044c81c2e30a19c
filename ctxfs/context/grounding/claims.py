"""Claims of a response: its sentences, their citations, and the ones that cannot be checked. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ctxfs.context.build.sentences import sentences

MAX_CLAIMS = 2000
_CITATION = re.compile(r"\[(\d{1,4})(?::(\d{1,9})(?:-(\d{1,9}))?)?\]")
_MARKS = re.compile(r"^(?:\s{0,8}(?:[-*+•>|#]+|\d{1,3}[.)])\s+)+|(?<!\w)[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}(?!\w)|\|")
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_HEDGE = re.compile(
    r"^(?:i (?:think|guess|hope|believe)|let me|sure|thanks?(?! to)|thank you|please(?! note)|here (?:is|are)|hope this|feel free)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Citation:
    """A citation `[n]` or `[n:first-last]`; `first` is 0 if it names no lines."""

    number: int
    first: int = 0
    last: int = 0

    def __str__(self) -> str:
        lines = f":{self.first}-{self.last}" if self.first != self.last else f":{self.first}" if self.first else ""
        return f"[{self.number}{lines}]"


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence without its marks and citations.

    Lines are those of the response. `unchecked` is the reason why the sentence is no claim.
    """

    text: str
    first: int
    last: int
    citations: tuple[Citation, ...] = ()
    unchecked: str = ""


def claims_of(response: str) -> Iterator[Claim]:
    """Yield every sentence of a response, in order."""
    for sentence in sentences(response):
        cited = tuple(
            Citation(int(match[1]), int(match[2] or 0), int(match[3] or match[2] or 0))
            for match in _CITATION.finditer(sentence.text)
        )
        text = " ".join(_MARKS.sub("", _CITATION.sub("", sentence.text)).split()).replace(" .", ".")
        if text.strip(".:;-= ") or cited:
            yield Claim(text, sentence.first, sentence.last, cited, _unchecked_reason(text, sentence.text))


def _unchecked_reason(text: str, raw: str) -> str:
    if raw.lstrip().startswith("#"):
        return "a heading"
    if text.endswith("?"):
        return "a question"
    if text.endswith(":"):
        return "an introduction"
    if _HEDGE.match(text):
        return "says nothing about the sources"
    if len(_LETTERS.findall(text)) < 2 and not any(character.isdigit() for character in text):
        return "too short"
    return ""
