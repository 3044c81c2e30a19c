"""JSON texts with strings of any length, read in bounded memory. Pure.

A long string becomes its first characters and a mark with its full length and digest. The mark contains a random number
of this process, so that no transcript can contain a valid one.
"""

import hashlib
import json
import re
import secrets
from dataclasses import dataclass

MAX_STRING_CHARS = 1 << 20
MAX_TEXT_CHARS = 32 << 20  # of one JSON text, after its long strings are shortened
_NONCE = secrets.token_hex(8)
_MARK = re.compile(rf"\x00{_NONCE} (\d+) ([0-9a-f]{{64}})\x00\Z")
# Complete characters of a string. Possessive, so that matching takes linear time.
_COMPLETE = re.compile(r"(?:[^\"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+")
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_MAX_ESCAPE_CHARS = 6
_MAX_REST_CHARS = 2 * _MAX_ESCAPE_CHARS  # a pair of surrogates is read as a whole
_PIECE_CHARS = 1 << 16
# Text up to the next character that matters, with short strings in it.
_SHORT_STRING = r"\"[^\"\\]{0,256}+\""
_PLAIN = re.compile(rf"(?:[^\"]++|{_SHORT_STRING})*+")
_PLAIN_ELEMENT = re.compile(rf"(?:[^\"\[\]{{}}]++|{_SHORT_STRING})*+")
_PLAIN_ARRAY = re.compile(rf"(?:[^\"\[\]{{}},]++|{_SHORT_STRING})*+")


@dataclass(frozen=True, slots=True)
class LongText:
    """A text that may be the begin of a longer one: its characters, the full length and the digest of the full text."""

    head: str
    chars: int
    sha256: str

    @property
    def is_cut(self) -> bool:
        """True if the text continues beyond `head`."""
        return self.chars > len(self.head)


def measure_text(text: str) -> LongText:
    """Return the head, length and digest of a text of a parsed value; the digest of a whole text is empty."""
    match = _MARK.search(text, max(0, len(text) - 120)) if text.endswith("\0") else None
    if match is None:
        return LongText(text, len(text), "")
    return LongText(text[: match.start()], int(match[1]), match[2])


class _StringReader:
    """The string that is being read: all of it, or its first characters and the digest of all."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._chars = 0
        self._decoded_chars = 0
        self._digest: hashlib._Hash | None = None

    def add(self, raw: str) -> None:
        """Add complete characters, as they are escaped in JSON."""
        if self._digest is None:
            self._pieces.append(raw)
            self._chars += len(raw)
            if self._chars > MAX_STRING_CHARS:
                self._digest = hashlib.sha256()
                for piece in self._pieces:
                    self._hash(piece)
        else:
            self._hash(raw)

    def finish(self) -> str:
        """Return the JSON string without its quotes."""
        if self._digest is not None:
            mark = f"\0{_NONCE} {self._decoded_chars} {self._digest.hexdigest()}\0"
            self._pieces.append(json.dumps(mark)[1:-1])
        return "".join(self._pieces)

    def _hash(self, raw: str) -> None:
        assert self._digest is not None
        try:
            text = str(json.loads(f'"{raw}"', strict=False))
        except ValueError:
            text = raw  # an invalid escape: the JSON text is refused later
        self._decoded_chars += len(text)
        self._digest.update(text.encode("utf-8", "surrogatepass"))


class JsonReader:
    """A reader of one JSON text in pieces, or of the elements of an array. Long strings are shortened.

    With `splits`, each element of a top-level array is a text of its own, and so is a top-level value of another type.
    """

    def __init__(self, *, splits: bool = False) -> None:
        self._splits = splits
        self._is_array = False
        self._depth = 0
        self._rest = ""
        self._string: _StringReader | None = None
        self._parts: list[str] = []
        self._chars = 0
        self._texts: list[str | None] = []

    @property
    def is_too_long(self) -> bool:
        """True if the current text is too long; more of it has no effect."""
        return self._chars > MAX_TEXT_CHARS

    @property
    def is_open(self) -> bool:
        """True with `splits` in an array whose end was not read."""
        return self._is_array and self._depth > 0

    def feed(self, text: str) -> list[str | None]:
        """Read a piece, and return the complete texts in it; None for one that is too long."""
        for start in range(0, len(text), _PIECE_CHARS):
            self._read(text[start : start + _PIECE_CHARS])
        texts, self._texts = self._texts, []
        return texts

    def finish(self) -> str | None:
        """Return the text that is not complete: all of it without `splits`; None if it is too long."""
        if self._string is not None:
            self._emit(self._string.finish())
            self._string = None
        self._emit(self._rest)
        self._rest = ""
        self._take_text()
        texts, self._texts = self._texts, []
        return texts[0] if texts else ""

    def _read(self, piece: str) -> None:
        text, position = self._rest + piece, 0
        self._rest = ""
        while position < len(text):
            if self._string is not None:
                position = self._read_string(text, position)
                if self._string is not None and len(text) - position <= _MAX_REST_CHARS:
                    self._rest = text[position:]  # empty, or an escape that continues in the next piece
                    return
            else:
                position = self._read_structure(text, position)

    def _read_string(self, text: str, position: int) -> int:
        """Read to the end of the string, or of the complete characters; return the position after them."""
        assert self._string is not None
        match = _COMPLETE.match(text, position)
        assert match is not None
        end = match.end()
        if end < len(text) and text[end] == '"':
            self._string.add(text[position:end])
            self._emit(self._string.finish() + '"')
            self._string = None
            return end + 1
        if len(text) - end > _MAX_ESCAPE_CHARS:  # no escape: the text is invalid, and the parser will refuse it
            end += 1
        elif half := _HIGH_SURROGATE.search(text, max(position, end - _MAX_ESCAPE_CHARS), end):
            end = half.start()
        self._string.add(text[position:end])
        return end

    def _read_structure(self, text: str, position: int) -> int:
        pattern = _PLAIN if not self._splits else _PLAIN_ELEMENT if self._depth > 1 else _PLAIN_ARRAY
        match = pattern.match(text, position)
        assert match is not None
        end = match.end()
        if end == len(text):
            self._emit(text[position:])
            return end
        character = text[end]
        is_outside = self._splits and self._is_array and self._depth == 1
        if character == '"':
            self._string = _StringReader()
        elif character in "[{":
            if self._splits and not self._depth and character == "[":
                self._is_array, is_outside = True, True
                self._parts.clear()
            self._depth += 1
            is_outside = is_outside and self._depth == 1
        elif character in "]}":
            self._depth = max(0, self._depth - 1)
        self._emit(text[position:end] if is_outside and character in ",]" else text[position : end + 1])
        if is_outside and character in ",[]":
            if character == "[":
                self._parts.clear()
            self._take_text()
        return end + 1

    def _emit(self, text: str) -> None:
        self._chars += len(text)
        if self._chars <= MAX_TEXT_CHARS:
            self._parts.append(text)

    def _take_text(self) -> None:
        text = "".join(self._parts).strip()
        if self._chars > MAX_TEXT_CHARS:
            self._texts.append(None)
        elif text:
            self._texts.append(text)
        self._parts.clear()
        self._chars = 0
