"""The analysers of the full-text index: its terms, its trigrams, and the stems of languages other than English."""

from collections.abc import Sequence
from functools import cache, lru_cache

import tantivy

MAX_WORD_BYTES = 80
_CACHED_STEMS = 1 << 16


def build_analyzer() -> tantivy.TextAnalyzer:
    """Build the analyser of words, which have been split."""
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.remove_long(MAX_WORD_BYTES))
        .filter(tantivy.Filter.stemmer("english"))
        .build()
    )


def build_gram_analyzer() -> tantivy.TextAnalyzer:
    """Build an analyser for lower-case character trigrams, which index the literals of regular expressions."""
    return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.ngram(3, 3, False)).filter(tantivy.Filter.lowercase()).build()


@lru_cache(maxsize=1)
def _get_shared_analyzer() -> tantivy.TextAnalyzer:
    return build_analyzer()


def analyse_split(words: str) -> list[str]:
    """Return the index terms of words that are separated by spaces."""
    return list(_get_shared_analyzer().analyze(words))


@cache
def _get_stemmer(language: str) -> tantivy.TextAnalyzer:
    return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).filter(tantivy.Filter.stemmer(language)).build()


@lru_cache(maxsize=_CACHED_STEMS)
def stem(language: str, word: str) -> str:
    """Return the stem of a lower-case word in a language of `languages`."""
    stems: Sequence[str] = _get_stemmer(language).analyze(word)
    return stems[0] if len(stems) == 1 else word


def stem_all(language: str, words: Sequence[str]) -> Sequence[str]:
    """Return the stems of lower-case words without white space in a language of `languages`."""
    stems: Sequence[str] = _get_stemmer(language).analyze(" ".join(words))
    return stems
