"""The one normal form of text, for the index, queries, phrases, exact search, filters and names. Pure.

`fold` is NFKC_Casefold of the Unicode standard (UAX 31) with ASCII apostrophes and hyphens. So a composed and a
decomposed letter, a ligature and its letters, full and half widths, and words with soft hyphens are equal.
`strip_accents` removes the marks that readers may omit. Marks that are letters stay: й, が, Indic and Thai vowels.
`fold_literal` maps each character on its own, so that a literal that occurs in a text also occurs in its folded text.
It equates all that `re.IGNORECASE` and the other two functions equate.

Texts in ASCII take a fast path.
"""

import re
import unicodedata
from functools import lru_cache

# Default_Ignorable_Code_Point, and the Arabic tatweel, which only stretches a word.
_IGNORABLE = (
    "\u00ad\u034f\u061c\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
)
# Classes within the Basic Multilingual Plane compile to a bitmap, the others to a list: they are matched apart.
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
_ASTRAL_IGNORABLE = re.compile("[\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]")
_APOSTROPHES = "\u2018\u2019\u201b\u02bc\u02b9\u2032\uff07"
_HYPHENS = "\u2010\u2011\u2012\u2013\u2014\u2212\ufe58\ufe63\uff0d"
_REPLACED = re.compile(f"[{_IGNORABLE}{_APOSTROPHES}{_HYPHENS}]")
# UAX 15, Stream-Safe Text Format: longer runs of marks are no text, and their normalisation takes quadratic time.
_MAX_MARKS = 30
_MIN_BOUNDED_CHARS = 64
_LAST_MARK = 0x1EFFF
_LATIN_AND_GREEK = "A-Za-z\u00c0-\u024f\u0250-\u02af\u1e00-\u1eff\u0370-\u03ff\u1f00-\u1fff"
_ACCENTS = re.compile(f"([{_LATIN_AND_GREEK}])[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]+")
# Stress marks, and ё; the breve of й is a part of the letter.
_CYRILLIC_ACCENTS = re.compile("([АЕИОУЫЭЮЯаеиоуыэюяѢѣІіЄє])[\u0300\u0301]|([Ее])\u0308")
# Vowel points of Hebrew and Arabic.
_POINTS = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u0652\u0656-\u065f\u0670]")
# Letters with a stroke or of two letters, which have no decomposition.
_LETTERS = str.maketrans(
    {"ø": "o", "đ": "d", "ł": "l", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ŋ": "n"}
    | {"Ø": "O", "Đ": "D", "Ł": "L", "Ħ": "H", "Ŧ": "T", "Æ": "AE", "Œ": "OE", "Ð": "D", "Þ": "TH", "Ŋ": "N"}
)
# Scripts that put no spaces between words: Han, kana, Bopomofo, Hangul, Thai, Lao, Burmese, Khmer.
# Hangul has spaces, but its particles are written together with the word.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u19e0-\u19ff\u3005-\u3007\u3031-\u3035\u3040-\u30ff\u3100-\u318f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u9fff\ua960-\ua97f\ua9e0-\ua9ff\uaa60-\uaa7f\uac00-\ud7ff\uf900-\ufaff"
)
_ASTRAL_UNSPACED = "\U0001aff0-\U0001b16f\U00020000-\U0003ffff"


def normalise(text: str) -> str:
    """Return `text` in NFKC, without default-ignorable code points, with ASCII apostrophes and hyphens."""
    if text.isascii():
        return text
    text = _replace_punctuation(_ASTRAL_IGNORABLE.sub("", text) if _ASTRAL.search(text) else text)
    return _replace_punctuation(unicodedata.normalize("NFKC", _bound_marks(text)))


def fold(text: str) -> str:
    """Return `normalise(text)` with full case folding; accents stay."""
    if text.isascii():
        return text.lower()
    return _replace_punctuation(unicodedata.normalize("NFKC", normalise(text).casefold()))


def strip_accents(text: str) -> str:
    """Return a normalised text without the marks that readers may omit."""
    if text.isascii():
        return text
    decomposed = _ACCENTS.sub(r"\1", unicodedata.normalize("NFD", text))
    decomposed = _POINTS.sub("", _CYRILLIC_ACCENTS.sub(r"\1\2", decomposed))
    return unicodedata.normalize("NFC", decomposed).translate(_LETTERS)


def fold_name(text: str) -> str:
    """Return the form in which names and values of filters are compared: folded, without accents."""
    return strip_accents(fold(text))


def fold_literal(text: str) -> str:
    """Return `text` folded character by character, without marks.

    So `a in b` implies `fold_literal(a) in fold_literal(b)`, and so does a match regardless of case.
    """
    return text.lower() if text.isascii() else text.translate(_LITERAL_FORMS)


def clusters(text: str) -> list[str]:
    """Return the characters of a text, each with its marks."""
    return text if text.isascii() else _cluster_pattern().findall(text)  # type: ignore[return-value]  # a string is a sequence of its characters


@lru_cache(maxsize=1)
def word_pattern() -> re.Pattern[str]:
    """Return a pattern that matches a word: letters, digits and underscores, with their marks."""
    return re.compile(rf"\w[\w{_mark_class(0xFFFF)}]*")


@lru_cache(maxsize=1)
def unspaced_pattern() -> re.Pattern[str]:
    """Return a pattern that matches a run of a script that puts no spaces between words."""
    return re.compile(f"[{UNSPACED}{_ASTRAL_UNSPACED}][{UNSPACED}{_ASTRAL_UNSPACED}{_mark_class(0xFFFF)}]*")


@lru_cache(maxsize=1)
def _cluster_pattern() -> re.Pattern[str]:
    return re.compile(f".[{_mark_class(0xFFFF)}]*", re.DOTALL)


@lru_cache(maxsize=2)
def _mark_runs(last: int) -> re.Pattern[str]:
    return re.compile(f"([{_mark_class(last)}]{{{_MAX_MARKS}}})[{_mark_class(last)}]+")


@lru_cache(maxsize=2)
def _mark_class(last: int) -> str:
    """Return the marks up to the code point `last` as ranges of a character class. Takes 20 ms once."""
    ranges: list[list[int]] = []
    for code in range(0x300, last + 1):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


def _bound_marks(text: str) -> str:
    """Cut runs of more than `_MAX_MARKS` marks."""
    if len(text) < _MIN_BOUNDED_CHARS:
        return text
    return _mark_runs(_LAST_MARK if _ASTRAL.search(text) else 0xFFFF).sub(r"\1", text)


def _replace_punctuation(text: str) -> str:
    return _REPLACED.sub(_replace, text)


def _replace(match: re.Match[str]) -> str:
    return "'" if match[0] in _APOSTROPHES else "-" if match[0] in _HYPHENS else ""


class _LiteralForms(dict[int, str]):
    """The folded form of each code point, computed on first use."""

    def __missing__(self, code: int) -> str:
        plain = _replace_punctuation(_ASTRAL_IGNORABLE.sub("", chr(code)))
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", plain).casefold()).casefold()
        form = "".join(
            part for part in _replace_punctuation(folded).translate(_LETTERS) if unicodedata.category(part)[0] != "M"
        )
        self[code] = form
        return form


_LITERAL_FORMS = _LiteralForms()
