"""Vectorised tokenizer: split many texts into words on byte arrays, because most words need not become objects. Pure.

`getFile_name` splits into `get file name`. The words differ slightly from the terms of the full-text index: whole
identifiers are left out, and runs of CJK stay as they are. They are the same for every index.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.intp]

_KEY_BYTES = 2
_BREAK = b"\x01"
_NO_WORD = re.compile(r"[^\w]+")
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_OTHER, _SMALL, _CAPITAL, _BEYOND_ASCII = range(4)


def _kind(code: int) -> int:
    if code > 127:
        return _BEYOND_ASCII
    return _OTHER if not chr(code).isalnum() else _CAPITAL if chr(code).isupper() else _SMALL


_NO_BREAK = bytes(ord(" ") if code == ord(_BREAK) else code for code in range(256))
_KINDS = bytes(map(_kind, range(256)))


@dataclass(frozen=True, slots=True)
class SplitTexts:
    """The words of `count` texts.

    `small` is the concatenation of the texts in lower case. `begins`, `ends` and `texts` have the shape [word]: the
    byte offsets of each word in `small`, and the number of its text.
    """

    count: int
    small: bytes
    begins: Places
    ends: Places
    texts: Places

    @property
    def lengths(self) -> npt.NDArray[np.float64]:
        """Return the number of words of each text, shape [count]."""
        return np.bincount(self.texts, minlength=self.count).astype(np.float64)

    def beginning_with(self, starts: Collection[str]) -> list[tuple[int, str]]:
        """Return (text number, word) of all words with a prefix in `starts`.

        Only the first two bytes are compared, so the result contains other words, too.
        """
        if not starts or not len(self.begins):
            return []
        codes = np.frombuffer(self.small, dtype=np.uint8)
        first = codes[self.begins].astype(np.uint16)
        # In bounds: a space follows the last word.
        second = np.where(self.ends - self.begins > 1, codes[self.begins + 1], ord(" "))
        wanted = np.zeros(1 << 16, dtype=np.bool_)
        for start in starts:
            key = start.encode("utf-8", "surrogatepass")[:_KEY_BYTES].ljust(_KEY_BYTES)
            wanted[key[0] << 8 | key[1]] = True
        chosen = np.flatnonzero(wanted[first << 8 | second])
        places = zip(self.texts[chosen].tolist(), self.begins[chosen].tolist(), self.ends[chosen].tolist(), strict=True)
        return [(text, self.small[begin:end].decode("utf-8", "replace")) for text, begin, end in places]


def split_texts(texts: Sequence[str]) -> SplitTexts:
    """Split texts into words: runs of letters and digits, cut also before a capital after a small letter."""
    plain = (text if text.isascii() else _NO_WORD.sub(" ", _FOREIGN.sub(_lower, text)) for text in texts)
    whole = _BREAK.join(text.encode("utf-8", "surrogatepass").translate(_NO_BREAK) for text in plain) + b" "
    kinds = np.frombuffer(whole.translate(_KINDS), dtype=np.uint8)
    before = np.concatenate([np.zeros(1, dtype=np.uint8), kinds[:-1]])
    is_first = (before == _OTHER) | ((kinds == _CAPITAL) & (before == _SMALL))
    # A word ends before a separator byte, or before the first byte of the next word.
    begins = np.flatnonzero(is_first & (kinds != _OTHER))
    ends = np.flatnonzero((before != _OTHER) & ((kinds == _OTHER) | is_first))
    breaks = np.flatnonzero(np.frombuffer(whole, dtype=np.uint8) == ord(_BREAK))
    return SplitTexts(len(texts), whole.lower(), begins, ends, np.searchsorted(breaks, begins))


def _lower(found: re.Match[str]) -> str:
    return found[0].lower()
