"""The split of text into words (camelCase, snake_case, CJK bigrams), which the full-text index stems."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from ctxfs.index.engines.analyzers import analyse_split, stem
from ctxfs.index.engines.languages import detect_languages, script_language
from ctxfs.index.normal_form import (
    clusters,
    fold,
    fold_name,
    normalise,
    strip_accents,
    unspaced_pattern,
    word_pattern,
)
from ctxfs.index.query import strip_word
from ctxfs.model.path import printable

# The version of these rules: an index whose words were split by other rules is built again from the catalog.
WORDS_FORMAT = 2
_IDENTIFIER_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_IDENTIFIER = re.compile(r"\b[a-z0-9]*[A-Z_][A-Za-z0-9_]*", re.ASCII)
_ASCII_SEPARATORS = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}
_HYPHEN = re.compile(r"-(?=[^\W\d_])")
_LETTERS = re.compile(r"[^\W\d_]+")
_MAX_COMPOUND_PART_CHARS = 40
_MAX_CACHED_WORD_CHARS = 40
_CACHED_WORDS = 1 << 15
# Function words. In prose they are common and would weigh nothing, but in headings and paths (`do_get`) they are rare
# and would weigh most. A query of function words alone keeps them.
_FUNCTION_WORDS = frozenset(
    "a an and are as at be been but by can could did do does for from had has have how i if in into is it its may me my "
    "of on or our should so some such than that the their them then there these they this to us was we were what when "
    "where which who whom whose why will with would you your".split()
)


class _Form(NamedTuple):
    """A word to index: `base` without accents, `folded` with them."""

    base: str
    folded: str


def split_words(text: str) -> str:
    """Return the words of `text` for the index, separated by spaces: those of `split_phrase`, then their other forms.

    The other forms follow at the end, so that phrases match regardless of them: accented words, stems of the language of
    the text if that is not English, compounds with a hyphen as one word, and the characters of bigrams.
    """
    text = normalise(text)
    languages = detect_languages(text)
    if text.isascii():
        # The fast path for nearly every text: only words with a capital or an underscore are split one by one.
        words = _split_ascii(text)
        further = _join_compounds(text)
        if languages:
            further += _stem_forms((_Form(word, word) for word in words.lower().split()), languages)
        return f"{words} {' '.join(further)}" if further else words
    out: list[str] = []
    forms: list[_Form] = []
    characters: dict[str, None] = {}
    for word in word_pattern().findall(text):
        if word.isascii():
            out.append(_IDENTIFIER.sub(_append_parts, word))
            if languages:
                forms.append(_Form(word.lower(), word.lower()))
        else:
            word_forms, singles = _split_word(word)
            out += [form.base for form in word_forms]
            forms += word_forms
            characters |= dict.fromkeys(singles)
    accented = [form.folded for form in forms if form.folded != form.base]
    return " ".join((*out, *accented, *_stem_forms(forms, languages), *_join_compounds(text), *characters))


def split_phrase(text: str) -> str:
    """Return the words of `text` in the normal form, separated by spaces.

    Identifiers are followed by their parts; runs of scripts without spaces become bigrams of characters.
    """
    text = normalise(text)
    if text.isascii():
        return _split_ascii(text)
    return " ".join(
        _IDENTIFIER.sub(_append_parts, word) if word.isascii() else " ".join(form.base for form in _split_word(word)[0])
        for word in word_pattern().findall(text)
    )


def _split_ascii(text: str) -> str:
    return _IDENTIFIER.sub(_append_parts, text.translate(_ASCII_SEPARATORS))


def split_question_word(word: str, languages: Sequence[str]) -> list[list[str]]:
    """Return the words to look for, each followed by its other forms, of which any will do.

    `languages` are those of the question.
    """
    text = normalise(word)
    out: list[list[str]] = []
    for part in word_pattern().findall(text):
        if part.isascii():
            forms: Sequence[_Form] = [_Form(piece, piece) for piece in _split_ascii(part).lower().split()]
        else:
            forms = _split_word(part)[0]
        for form in forms:
            accented = [form.folded] if form.folded != form.base else []
            out.append([form.base, *accented, *_stem_forms([form], languages)])
    out += [[compound] for compound in _join_compounds(text)]
    return out


def _split_word(word: str) -> tuple[Sequence[_Form], Sequence[str]]:
    """Return the forms of a word that is not ASCII, and its single characters of scripts without spaces."""
    return (_cached_split_word if len(word) <= _MAX_CACHED_WORD_CHARS else _split_any_word)(word)


def _split_any_word(word: str) -> tuple[Sequence[_Form], Sequence[str]]:
    folded = fold(word)
    forms: list[_Form] = []
    singles: dict[str, None] = {}
    offset = 0
    for run in unspaced_pattern().finditer(folded):
        forms += _spaced_forms(folded[offset : run.start()])
        characters = clusters(run[0])
        pairs = ["".join(characters[i : i + 2]) for i in range(len(characters) - 1)]
        forms += [_Form(pair, pair) for pair in pairs]
        if pairs:
            singles |= dict.fromkeys(characters)
        else:
            forms.append(_Form(run[0], run[0]))
        offset = run.end()
    forms += _spaced_forms(folded[offset:])
    return tuple(forms), tuple(singles)


_cached_split_word = lru_cache(maxsize=_CACHED_WORDS)(_split_any_word)


def _spaced_forms(word: str) -> list[_Form]:
    if not word:
        return []
    base = strip_accents(word)
    language = script_language(base)
    return (
        [_Form(stem(language, base), word if base != word else stem(language, base))]
        if language
        else [_Form(base, word)]
    )


def _stem_forms(forms: Iterable[_Form], languages: Sequence[str]) -> list[str]:
    """Return the stems of words in these languages, where they differ from those in English."""
    return [
        stemmed for form in forms for language in languages if (stemmed := _stem_form(language, form.folded, form.base))
    ]


@lru_cache(maxsize=_CACHED_WORDS)
def _stem_form(language: str, folded: str, base: str) -> str:
    if len(folded) > _MAX_CACHED_WORD_CHARS or script_language(base):
        return ""
    stemmed = strip_accents(stem(language, folded))
    return stemmed if analyse_split(stemmed) != analyse_split(base) else ""


def _join_compounds(text: str) -> list[str]:
    """Return the words with a hyphen as one word: `email` for `e-mail`."""
    out: list[str] = []
    if "-" not in text:
        return out
    for match in _HYPHEN.finditer(text):
        position = match.start()
        before = _LETTERS.match(text[max(0, position - _MAX_COMPOUND_PART_CHARS) : position][::-1])
        after = _LETTERS.match(text, position + 1, position + 1 + _MAX_COMPOUND_PART_CHARS)
        if before is not None and after is not None:
            out.append(fold_name(f"{before[0][::-1]}{after[0]}"))
    return out


def _append_parts(match: re.Match[str]) -> str:
    word = match[0]
    if "_" in word or not (word.islower() or word.isdigit() or word.istitle()):
        parts = _IDENTIFIER_PART.findall(word)
        if len(parts) > 1:
            return f"{word} {' '.join(parts)}"
    return word


def author_terms(name: str) -> list[str]:
    """Return the terms that an `author:` filter matches: the whole name and each of its words, in the normal form."""
    whole = fold_name(printable(name))
    return list(dict.fromkeys((whole, *word_pattern().findall(whole))))


def content_words(words: Sequence[str]) -> Sequence[str]:
    """Return `words` without function words, or all of them if there are no others."""
    return [word for word in words if strip_word(word.lower()) not in _FUNCTION_WORDS] or words
