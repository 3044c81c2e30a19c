"""The pattern of the words of a line that may match a question. Pure."""

import re
from functools import lru_cache

from ctxfs.index.normal_form import unspaced_pattern
from ctxfs.index.search.word_matches import MIN_WORD


@lru_cache(maxsize=64)
def compile_candidates(terms: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern of the words that may match a term, because their beginnings are equal."""
    spaced = [term for term in terms if not _is_unspaced(term)]
    prefixes = "|".join(dict.fromkeys(re.escape(term[:MIN_WORD]) for term in spaced))
    pairs = [re.escape(term) for term in terms if _is_unspaced(term)]
    parts = [*([rf"(?<!\w)(?:{prefixes})\w*"] if prefixes else ()), *pairs]
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)


def _is_unspaced(term: str) -> bool:
    """Return True for a term of a script that puts no spaces between words."""
    return not term.isascii() and unspaced_pattern().match(term) is not None
