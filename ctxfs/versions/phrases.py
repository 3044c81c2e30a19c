"""Phrases of erased texts, by which derived texts are found: windows, responses, records, results of tool calls.

Pure.

A phrase is a run of words within a line. Line wrapping, markup, case and JSON escapes do not hide it. A paraphrase is
not detected.
"""

import re
from collections.abc import Iterable

from ctxfs.versions.objects.fingerprint import RUN_WORDS, split_words

MIN_PHRASE_WORDS = 3
MIN_PHRASE_BYTES = 12
MAX_PHRASES = 500_000
_ESCAPE = re.compile(rb"\\(u[0-9a-fA-F]{4}|.)")
_ESCAPED_BREAKS = frozenset(b"nrtbf")


class Phrases:
    """The phrases of texts."""

    def __init__(self, texts: Iterable[bytes]) -> None:
        self._by_length: dict[int, set[bytes]] = {}
        count = 0
        for text in texts:
            for line in (*text.splitlines(), text):
                words = split_words(line)
                length = min(len(words), RUN_WORDS)
                if length < MIN_PHRASE_WORDS or sum(map(len, words[:length])) < MIN_PHRASE_BYTES:
                    continue
                runs = _runs_of(words, length)
                count += len(runs)
                if count > MAX_PHRASES:
                    return
                self._by_length.setdefault(length, set()).update(runs)

    def is_in(self, data: bytes) -> bool:
        """Return True if a content contains a phrase, plainly or in JSON strings (also in JSON within JSON)."""
        if not self._by_length:
            return False
        once = _unescape(data)
        return any(map(self._contains_phrase, dict.fromkeys((data, once, _unescape(once)))))

    def _contains_phrase(self, data: bytes) -> bool:
        words = split_words(data)
        return any(not phrases.isdisjoint(_runs_of(words, length)) for length, phrases in self._by_length.items())


def _runs_of(words: list[bytes], length: int) -> list[bytes]:
    return [b" ".join(words[start : start + length]) for start in range(len(words) - length + 1)]


def _unescape(data: bytes) -> bytes:
    return _ESCAPE.sub(_decode_escape, data) if b"\\" in data else data


def _decode_escape(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    if len(escape) > 1:
        return chr(int(escape[1:], 16)).encode("utf-8", "replace")
    return b" " if escape[0] in _ESCAPED_BREAKS else escape
