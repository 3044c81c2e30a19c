"""Corrections of words of a question that no visible file contains and that are one edit from words that files contain.

An edit is a letter too many, too few, wrong, or two in the wrong order (Damerau 1964). The index contains stems, so that
all edits of a word are stemmed and looked up: about 0.3 ms a word, however many terms the index has.
A correction is the likeliest word by a noisy channel (Kernighan and others 1990): frequency, and the kind of the edit.

Only visible chunks count, so that no correction shows a word of a hidden file.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ctxfs.index.engines.analyzers import analyse_split, stem_all
from ctxfs.index.engines.languages import script_language
from ctxfs.index.engines.question_terms import count_question_terms
from ctxfs.index.normal_form import fold, normalise, strip_accents, unspaced_pattern, word_pattern
from ctxfs.index.query import Query

if TYPE_CHECKING:
    # Imported by the view: see `searcher`.
    from ctxfs.index.search.view import IndexView

_FIELDS = ("text", "heading", "symbol", "path")
_MIN_CHARS, _MAX_CHARS = 4, 30
# Most words so short are one edit from others: only swapped and missing letters are corrected, and only into words
# of the vocabulary.
_SHORT_CHARS = 4
_MAX_CORRECTED_WORDS = 4
_MAX_ALPHABET = 96
_BLOCK_BITS = 7
_LATIN = "abcdefghijklmnopqrstuvwxyz"
# Log-likelihoods of kinds of edits, relative to a wrong letter: a certain letter is wrong, or too many, 25 times as
# rarely as any letter is missing.
_MISSING, _SWAPPED, _DOUBLED, _WRONG = 3.3, 2.0, 2.4, 0.0
_FIRST_LETTER = -2.0  # people seldom mistake the first letter
_MAX_SPELLINGS = 5

# A word of a query and (typo, spellings of the correction) of its parts. All spellings have one stem.
Corrections = Mapping[str, Sequence[tuple[str, Sequence[str]]]]


def find_corrections(view: IndexView, query: Query, exact: bool) -> Corrections:
    """Return the likeliest corrections of the likely typos among the words of a query, at most four.

    Required words and phrases are never corrected. `view` is open, under its lock, as the reader sees it.
    """
    # All words at once: few questions have a typo, and the terms of the whole question are needed anyway.
    if query.mode == "exact" or _are_known(view, query.words, exact):
        return {}
    words = [word for word in dict.fromkeys(query.words) if not _are_known(view, (word,), exact)]
    if words and query.text.count('"') > 1:
        quoted = {word for part in query.text.split('"')[1::2] for word in part.split()}
        words = [word for word in words if word not in quoted]
    corrections: dict[str, list[tuple[str, Sequence[str]]]] = {}
    remaining = _MAX_CORRECTED_WORDS
    for word in words:
        for part in word_pattern().findall(word):
            if remaining and is_correctable(part) and not _are_known(view, (part,), exact):
                remaining -= 1
                if spellings := _correct_word(view, part, exact):
                    corrections.setdefault(word, []).append((part, spellings))
    return corrections


def correct_query(query: Query, corrections: Corrections, is_word: Callable[[str], bool | None]) -> Query:
    """Return a query with the corrections in the place of the typos.

    `is_word` returns True for a word of the model's vocabulary, which is no typo, and None without a vocabulary.
    """
    words: dict[str, str] = {}
    accepted: dict[str, str] = {}
    for word, pairs in corrections.items():
        for typo, spellings in pairs:
            is_in_vocabulary = is_word(typo)
            correction = next((spelling for spelling in spellings if is_word(spelling)), spellings[0])
            is_likely = len(typo) > _SHORT_CHARS or (
                is_in_vocabulary is False and (is_word(correction) or len(query.words) == 1)
            )
            if not is_in_vocabulary and is_likely:
                accepted[typo] = correction
                words[word] = words.get(word, word).replace(typo, correction, 1)
    if not accepted:
        return query
    return replace(
        query, words=tuple(words.get(word, word) for word in query.words), corrections=tuple(accepted.items())
    )


def is_correctable(word: str) -> bool:
    """Return True for a word or identifier of letters; False for acronyms, numbers and scripts without spaces."""
    letters = word.replace("_", "")
    if not _MIN_CHARS <= len(letters) <= len(word) <= _MAX_CHARS or (letters.isascii() and letters.isupper()):
        return False
    is_letters = letters.isalpha() or all(c.isalpha() or unicodedata.category(c)[0] == "M" for c in letters)
    return is_letters and not unspaced_pattern().search(letters)


def find_edits(word: str, alphabet: str = _LATIN) -> Iterator[tuple[str, float]]:
    """Yield (word, log-likelihood of the edit) of each word that is one edit from a word; the likeliest kinds first."""
    is_short = len(word) <= _SHORT_CHARS
    pieces = [(word[:position], word[position:]) for position in range(len(word) + 1)]
    for head, tail in pieces:
        penalty = 0.0 if head else _FIRST_LETTER
        for letter in alphabet:
            yield f"{head}{letter}{tail}", _MISSING + penalty
    for head, tail in pieces:
        penalty = 0.0 if head else _FIRST_LETTER
        if len(tail) > 1 and tail[0] != tail[1]:
            yield f"{head}{tail[1]}{tail[0]}{tail[2:]}", _SWAPPED + penalty
        if tail and not is_short:
            yield f"{head}{tail[1:]}", (_DOUBLED if head.endswith(tail[0]) else _WRONG) + penalty
            for letter in alphabet:
                if letter != tail[0]:
                    yield f"{head}{letter}{tail[1:]}", _WRONG + penalty


def _are_known(view: IndexView, words: tuple[str, ...], exact: bool) -> bool:
    """Return True if visible chunks contain each part of each word, in any form; function words need not occur."""
    return all(
        any(
            view.count_chunks_with(term, exact, field)[0] or (bool(view.overlay) and view.overlay.has_term(term))
            for field in _FIELDS
            for term in group
        )
        for group in count_question_terms(words)
    )


def _correct_word(view: IndexView, word: str, exact: bool) -> Sequence[str]:
    """Return the spellings, likeliest first, of the likeliest term within one edit that a visible chunk contains.

    The first letter of an identifier stays, because many differ in it alone: `getitem` and `setitem`.
    """
    base = strip_accents(normalise(word))
    is_identifier = "_" in word or not (word.islower() or word.istitle())
    likelihoods: dict[str, float] = {}
    for edit, likelihood in find_edits(base, _letters_near(base.lower())):
        if not is_identifier or edit[0] == base[0]:
            likelihoods.setdefault(edit, likelihood)
    likelihoods.pop(base, None)
    edits = list(likelihoods)
    forms = [edit.lower() for edit in edits]
    language = script_language(base.lower())
    terms = stem_all(language, forms) if language else analyse_split(" ".join(forms))
    if len(terms) != len(edits):
        return ()
    counts = {term: view.count_chunks_with(term, exact)[0] for term in view.full_text.select_indexed(terms)}
    ranked = [
        (-math.log(counts[term]) - likelihoods[edit], position, term)
        for position, (term, edit) in enumerate(zip(terms, edits, strict=True))
        if counts.get(term)
    ]
    best = min(ranked, default=None)
    return [edits[position] for _, position, term in sorted(ranked) if best and term == best[2]][:_MAX_SPELLINGS]


def _letters_near(word: str) -> str:
    """Return the letters and marks of the scripts of a word, in lower case."""
    return "".join(
        dict.fromkeys(letter for block in {ord(c) >> _BLOCK_BITS for c in word} for letter in _letters_of(block))
    )


@lru_cache(maxsize=64)
def _letters_of(block: int) -> Sequence[str]:
    if block == 0:
        return _LATIN
    characters = map(chr, range(block << _BLOCK_BITS, (block + 1) << _BLOCK_BITS))
    letters = [
        c for c in characters if unicodedata.category(c) in ("Ll", "Lo", "Mc", "Mn") and strip_accents(fold(c)) == c
    ]
    return letters[:_MAX_ALPHABET]
