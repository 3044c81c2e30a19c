"""The words of a line that match a question. Pure. It imports few modules, so that commands start fast."""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Sequence

_MIN_STEM = 4
MIN_WORD = 3
_SEPARATORS = {code: " " for code in range(128) if not chr(code).isalnum() and chr(code) != "_"}  # ASCII but \w


def matches_word(word: str, term: str) -> bool:
    """Return True if two words are equal or forms of each other, such as `rotate` and `rotating`."""
    if word == term:
        return True
    short, long = sorted((word, term), key=len)
    if len(long) - len(short) <= 2 and len(short) >= MIN_WORD and long.startswith(short):
        return True
    shared = next((n for n, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return shared >= max(_MIN_STEM, len(short) - 2, len(long) - 4)


def find_matches(line: str, terms: Sequence[str]) -> list[tuple[int, int]]:
    """Return (start, end) of the words of a line that match a term."""
    return [match.span() for match, _ in _match_terms(line, terms)]


def _match_terms(line: str, terms: Sequence[str]) -> Iterator[tuple[re.Match[str], str]]:
    """Yield the matching words of a line, each with the first term that it matches."""
    from ctxfs.index.search.word_pattern import compile_candidates

    for match in compile_candidates(tuple(terms)).finditer(line):
        word = match[0].casefold()
        term = next((term for term in terms if matches_word(word, term)), None)
        if term is not None:
            yield match, term


def _matched_terms(line: str, terms: Sequence[str]) -> set[str]:
    """Return the terms that `_match_terms` yields. ASCII needs no regular expression, whose import takes milliseconds."""
    if not line.isascii() or not all(term.isascii() and term.replace("_", "").isalnum() for term in terms):
        return {term for _, term in _match_terms(line, terms)}
    prefixes = tuple(term[:MIN_WORD] for term in terms)
    words = {word for word in line.lower().translate(_SEPARATORS).split() if word.startswith(prefixes)}
    matches = (next((term for term in terms if matches_word(word, term)), None) for word in words)
    return {term for term in matches if term is not None}


def select_lines(text: str, terms: Sequence[str], limit: int) -> tuple[int, list[str]]:
    """Return (index of the first line, lines): the run of lines that contains the most of the terms."""
    lines = text.split("\n")
    terms_of = [_matched_terms(line, terms) for line in lines]
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
    import unicodedata

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
