"""The lines of a passage that match a question, for people and agents. Pure."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ctxfs.index.normal_form import unspaced_pattern
from ctxfs.model.path import one_line

if TYPE_CHECKING:
    from ctxfs.index.query import Query

_MIN_STEM = 4
_MIN_WORD = 3
_WORD = re.compile(r"\w+")
_COMMON_WORDS = frozenset(
    "a an and are as at be by do does for from how i in is it of on or our that the this to was we what when where which "
    "who why will with you".split()
)
_MAX_LINE_SNIPPET_CHARS = 160
_MAX_LEADING_LINES = 3


def question_words(query: "Query") -> list[str]:
    """Return the words that the hits of a query are searched for, without those that most texts contain.

    Corrections take the place of typos. Runs of scripts without spaces are cut into pairs of characters.
    """
    typos = {typo.casefold() for typo, _ in query.corrections}
    text = " ".join((*query.words, *query.phrases, *query.must)).casefold()
    words = [word for word in _WORD.findall(text) if word not in typos and not unspaced_pattern().search(word)]
    pairs = [
        run[position : position + 2]
        for run in unspaced_pattern().findall(text)
        for position in range(max(1, len(run) - 1))
    ]
    content = [word for word in dict.fromkeys(words) if word not in _COMMON_WORDS] or list(dict.fromkeys(words))
    return [*content, *dict.fromkeys(pairs)]


def matches_word(word: str, term: str) -> bool:
    """Return True if two words are equal or forms of each other, such as `rotate` and `rotating`."""
    if word == term:
        return True
    short, long = sorted((word, term), key=len)
    if len(long) - len(short) <= 2 and len(short) >= _MIN_WORD and long.startswith(short):
        return True
    shared = next((n for n, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return shared >= max(_MIN_STEM, len(short) - 2, len(long) - 4)


@lru_cache(maxsize=64)
def _compile_candidates(terms: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern of the words that may match a term, because their beginnings are equal."""
    spaced = [term for term in terms if not unspaced_pattern().match(term)]
    prefixes = "|".join(dict.fromkeys(re.escape(term[:_MIN_WORD]) for term in spaced))
    pairs = [re.escape(term) for term in terms if unspaced_pattern().match(term)]
    parts = [*([rf"(?<!\w)(?:{prefixes})\w*"] if prefixes else ()), *pairs]
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)


def find_matches(line: str, terms: Sequence[str]) -> list[tuple[int, int]]:
    """Return (start, end) of the words of a line that match a term."""
    return [match.span() for match, _ in _match_terms(line, terms)]


def _match_terms(line: str, terms: Sequence[str]) -> Iterator[tuple[re.Match[str], str]]:
    """Yield the matching words of a line, each with the first term that it matches."""
    for match in _compile_candidates(tuple(terms)).finditer(line):
        word = match[0].casefold()
        term = next((term for term in terms if matches_word(word, term)), None)
        if term is not None:
            yield match, term


def select_lines(text: str, terms: Sequence[str], limit: int) -> tuple[int, list[str]]:
    """Return (index of the first line, lines): the run of lines that contains the most of the terms."""
    lines = text.split("\n")
    terms_of = [{term for _, term in _match_terms(line, terms)} for line in lines]
    best, best_worth = next((index for index, line in enumerate(lines) if line.strip()), 0), 0
    for start, own in enumerate(terms_of):
        worth = len(set().union(*terms_of[start : start + limit])) if own else 0
        if worth > best_worth:
            best, best_worth = start, worth
    return best, lines[best : best + limit]


def fit_line(line: str, terms: Sequence[str], width: int) -> str:
    """Return as much of a line as a width in columns allows, around its first match."""
    if len(line) * 2 <= width or count_columns(line) <= width:
        return line
    first = next((start for start, _ in find_matches(line, terms)), 0)
    start = (
        0 if count_columns(line[:first]) < width * 2 // 3 else first - len(_cut_columns(line[:first][::-1], width // 3))
    )
    cut = ("…" if start else "") + line[start:]
    return cut if count_columns(cut) <= width else _cut_columns(cut, width - 1) + "…"


def count_columns(text: str) -> int:
    """Return the columns of a text on a terminal: two for wide characters, none for marks (UAX 11)."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _cut_columns(text: str, width: int) -> str:
    """Return the longest prefix of a text that has at most `width` columns."""
    if text.isascii():
        return text[: max(0, width)]
    used = 0
    for position, character in enumerate(text):
        used += _columns_of(character)
        if used > width:
            return text[:position]
    return text


def line_snippet(text: str, terms: Sequence[str]) -> str:
    """Return the line of a text that matches best, on one line and cut around its first match."""
    _, lines = select_lines(text, terms, 1)
    return fit_line(" ".join("".join(lines).split()), terms, _MAX_LINE_SNIPPET_CHARS)


class Snippet(NamedTuple):
    """Lines of a hit, with the numbers of the first and the last one in the file."""

    first: int
    last: int
    lines: Sequence[str]


def cut_snippet(hit: Mapping[str, Any], terms: Sequence[str], max_lines: int, max_chars: int) -> Snippet:
    """Return the lines of a hit that match best, whole if it is short, without common indentation.

    Numbers are those of the whole hit if its text does not have the lines of the file, as in a PDF. Long lines are cut
    around their first match. No line contains control characters.
    """
    text = hit["text"].expandtabs(4)
    start, lines = 0, text.split("\n")
    if len(lines) > max_lines or len(text) > max_chars:
        start, lines = select_lines(text, terms, max_lines)
        if start <= _MAX_LEADING_LINES:  # a signature or a title is worth more than the last lines
            start, lines = 0, text.split("\n")[:max_lines]
    used, shown = 0, list[str]()
    for line in lines:
        short = fit_line(line.rstrip(), terms, max_chars - used if not shown else max_chars)
        used += len(short) + 1
        if shown and used > max_chars:
            break
        shown.append(short)
    while shown and not shown[-1].strip():
        shown.pop()
    while shown and not shown[0].strip():
        shown.pop(0)
        start += 1
    indent = min((len(line) - len(line.lstrip()) for line in shown if line.strip()), default=0)
    shown = [one_line(line[indent:]) for line in shown]
    if text.count("\n") != hit["last"] - hit["first"]:
        return Snippet(hit["first"], hit["last"], shown)
    return Snippet(hit["first"] + start, hit["first"] + start + max(len(shown), 1) - 1, shown)
