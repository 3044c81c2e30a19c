"""The split of text into words (camelCase, snake_case, CJK bigrams), which the full-text index stems."""

import re
from collections.abc import Sequence

from ctxfs.index.query import strip_word
from ctxfs.model.path import printable

_WORD = re.compile(r"\w+")
_IDENTIFIER_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_IDENTIFIER = re.compile(r"\b[a-z0-9]*[A-Z_][A-Za-z0-9_]*", re.ASCII)
_ASCII_SEPARATORS = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+")
# Function words. In prose they are common and would weigh nothing, but in headings and paths (`do_get`) they are rare
# and would weigh most. A query of function words alone keeps them.
_FUNCTION_WORDS = frozenset(
    "a an and are as at be been but by can could did do does for from had has have how i if in into is it its may me my "
    "of on or our should so some such than that the their them then there these they this to us was we were what when "
    "where which who whom whose why will with would you your".split()
)


def split_words(text: str) -> str:
    """Return the words of `text` separated by spaces.

    Identifiers are followed by their parts; CJK runs become bigrams.
    """
    if text.isascii():
        # The fast path for nearly every text: only words with a capital or an underscore are split one by one.
        return _IDENTIFIER.sub(_append_parts, text.translate(_ASCII_SEPARATORS))
    out: list[str] = []
    for word in _WORD.findall(text):
        if word.isascii():
            out.append(_IDENTIFIER.sub(_append_parts, word))
        elif _CJK.search(word):
            out.extend(_split_cjk(word))
        else:
            out.append(word)
    return " ".join(out)


def _append_parts(match: re.Match[str]) -> str:
    word = match[0]
    if "_" in word or not (word.islower() or word.isdigit() or word.istitle()):
        parts = _IDENTIFIER_PART.findall(word)
        if len(parts) > 1:
            return f"{word} {' '.join(parts)}"
    return word


def author_terms(name: str) -> list[str]:
    """Return the terms that an `author:` filter matches: the whole name and each of its words, in lower case."""
    whole = printable(name).lower()
    return list(dict.fromkeys((whole, *_WORD.findall(whole))))


def content_words(words: Sequence[str]) -> Sequence[str]:
    """Return `words` without function words, or all of them if there are no others."""
    return [word for word in words if strip_word(word.lower()) not in _FUNCTION_WORDS] or words


def _split_cjk(word: str) -> list[str]:
    """Return the overlapping bigrams of a CJK run: CJK text has no spaces, and most words have two characters."""
    out: list[str] = []
    offset = 0
    for run in _CJK.finditer(word):
        out.extend(part for part in (word[offset : run.start()],) if part)
        characters = run[0]
        out.extend(characters[i : i + 2] for i in range(len(characters) - 1))
        if len(characters) == 1:
            out.append(characters)
        offset = run.end()
    out.extend(part for part in (word[offset:],) if part)
    return out
