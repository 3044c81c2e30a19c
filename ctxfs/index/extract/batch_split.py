"""Vectorised tokenizer: split many texts into words on byte arrays, because most words need not become objects. Pure.

`getFile_name` splits into `get file name`. The words differ slightly from the terms of the full-text index: whole
identifiers are left out. They are the same for every index.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ctxfs.index.normal_form import fold_name, normalise

Offsets = npt.NDArray[np.intp]

_KEY_BYTES = 2
_BREAK = b"\x01"
_NON_WORD = re.compile(r"[^\w]+")
_NON_ASCII = re.compile(r"[^\x00-\x7f]+")
_MARKS = re.compile("[\u0300-\u036f]+")
# Scripts other than Latin: their words are split by the full-text index's own rules.
_OTHER_SCRIPTS = re.compile(
    "[\u0370-\u1dff\u2c00-\ud7ff\uf900-\ufaff\ufb07-\ufdff\ufe70-\ufefc\uff66-\uffdc\U00010000-\U0003ffff]"
)
_SEPARATOR, _LOWER, _UPPER, _NON_ASCII_BYTE = range(4)


def _classify_byte(code: int) -> int:
    if code > 127:
        return _NON_ASCII_BYTE
    return _SEPARATOR if not chr(code).isalnum() else _UPPER if chr(code).isupper() else _LOWER


_BREAK_TO_SPACE = bytes(ord(" ") if code == ord(_BREAK) else code for code in range(256))
_BYTE_CLASSES = bytes(map(_classify_byte, range(256)))


@dataclass(frozen=True, slots=True)
class SplitTexts:
    """The words of `count` texts.

    `lowered` is the concatenation of the texts in lower case. `begins`, `ends` and `texts` have the shape [word]: the
    byte offsets of each word in `lowered`, and the number of its text.
    """

    count: int
    lowered: bytes
    begins: Offsets
    ends: Offsets
    texts: Offsets

    @property
    def lengths(self) -> npt.NDArray[np.float64]:
        """Return the number of words of each text, shape [count]."""
        return np.bincount(self.texts, minlength=self.count).astype(np.float64)

    def find_words_with_prefixes(self, starts: Collection[str]) -> list[tuple[int, str]]:
        """Return (text number, word) of all words with a prefix in `starts`.

        Only the first two bytes are compared, so the result contains other words, too.
        """
        if not starts or not len(self.begins):
            return []
        codes = np.frombuffer(self.lowered, dtype=np.uint8)
        first = codes[self.begins].astype(np.uint16)
        # In bounds: a space follows the last word.
        second = np.where(self.ends - self.begins > 1, codes[self.begins + 1], ord(" "))
        is_wanted = np.zeros(1 << 16, dtype=np.bool_)
        for start in starts:
            key = start.encode("utf-8", "surrogatepass")[:_KEY_BYTES].ljust(_KEY_BYTES)
            is_wanted[key[0] << 8 | key[1]] = True
        matches = np.flatnonzero(is_wanted[first << 8 | second])
        spans = zip(
            self.texts[matches].tolist(), self.begins[matches].tolist(), self.ends[matches].tolist(), strict=True
        )
        return [(text, self.lowered[begin:end].decode("utf-8", "replace")) for text, begin, end in spans]


def split_texts(texts: Sequence[str], split: Callable[[str], str], *, should_split_all: bool = False) -> SplitTexts:
    """Split texts into words: runs of letters and digits, cut also before a capital after a small letter.

    `split` returns the words of a text as the full-text index has them. It splits texts in scripts other than Latin,
    and all texts with `should_split_all`, which takes ten times as long.
    """
    plain_texts = (_split_plainly(text, split, should_split_all) for text in texts)
    joined = (
        _BREAK.join(text.encode("utf-8", "surrogatepass").translate(_BREAK_TO_SPACE) for text in plain_texts) + b" "
    )
    classes = np.frombuffer(joined.translate(_BYTE_CLASSES), dtype=np.uint8)
    previous = np.concatenate([np.zeros(1, dtype=np.uint8), classes[:-1]])
    is_first = (previous == _SEPARATOR) | ((classes == _UPPER) & (previous == _LOWER))
    # A word ends before a separator byte, or before the first byte of the next word.
    begins = np.flatnonzero(is_first & (classes != _SEPARATOR))
    ends = np.flatnonzero((previous != _SEPARATOR) & ((classes == _SEPARATOR) | is_first))
    breaks = np.flatnonzero(np.frombuffer(joined, dtype=np.uint8) == ord(_BREAK))
    return SplitTexts(len(texts), joined.lower(), begins, ends, np.searchsorted(breaks, begins))


def _split_plainly(text: str, split: Callable[[str], str], should_split_all: bool) -> str:
    if should_split_all or _OTHER_SCRIPTS.search(text):
        return split(text).lower()
    return text if text.isascii() else _NON_WORD.sub(" ", _NON_ASCII.sub(_fold_match, text))


def _fold_match(match: re.Match[str]) -> str:
    return _fold_run(match[0])


@lru_cache(maxsize=4096)
def _fold_run(run: str) -> str:
    return fold_name(_MARKS.sub("", normalise(run)))
