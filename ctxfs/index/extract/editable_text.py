"""Text of a file for a change that keeps its charset, byte order mark and line ends. Pure.

A change that this charset cannot represent, or whose bytes would be read as another text, is refused: no edit makes a
file unreadable, and the bytes around an edit stay as they are.
"""

import re
from dataclasses import dataclass, field

from ctxfs.index.extract.charsets import declared_codec, declared_plain_codec, own_declared_codec, rival_codecs
from ctxfs.index.extract.text_decoding import Charset, CharsetOrigin, decode_with_charset, is_binary, sample_of
from ctxfs.model.line_ends import CR, LF, convert_line_ends, line_end_of, split_lines

_UTF8 = Charset("utf-8")
_MIXED = Charset("ascii", CharsetOrigin.STATISTICS)
_ESCAPE = re.compile("[\ud800-\udfff]")
# Detected supersets: the readers of the file may know the common charset only.
_SUBSETS = {
    "iso2022_jp_2": "iso2022_jp", "euc_jis_2004": "euc_jp", "cp932": "shift_jis", "gb18030": "gbk", "big5hkscs": "big5",
    "cp949": "euc_kr",
}  # fmt: skip
_MAX_LISTED_CODECS = 3


class CharsetConflict(ValueError):
    """A file or a text that cannot be edited without damage. The message is the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class EditableText:
    """The text of a file without its mark, and the encoding of an edited version of it.

    Bytes that are invalid in the charset are lone surrogates in the text, and are restored by `encode`.
    """

    text: str
    charset: Charset
    _errors: str
    _data: bytes = field(repr=False)

    @property
    def line_end(self) -> str:
        """Return the line end of most lines."""
        return line_end_of(self.text)

    def encode(self, text: str) -> bytes:
        """Return the bytes of the edited text. Raise `CharsetConflict` for characters that the charset lacks.

        Characters that the file does not contain yet must have the same bytes in every charset that the file may be in.
        """
        charset = self._charset_of(text)
        if not charset.codec.startswith("utf") and not text.isascii():
            self._check_characters(sorted(set(text) - set(self.text)), charset)
        try:
            data = charset.mark + text.encode(charset.codec, self._errors)
        except UnicodeEncodeError as error:
            raise CharsetConflict(_describe_misfit(text[error.start], charset.codec)) from error
        if not self._is_read_back(data, text):
            raise CharsetConflict(_describe_doubt(charset.codec, []))
        return data

    def _charset_of(self, text: str) -> Charset:
        """Return the charset of the edited text: that of the file, or the one that the text declares instead."""
        if self.charset.origin is not CharsetOrigin.DECLARATION:
            return self.charset
        declared = declared_codec(text.encode("ascii", "replace"))
        return self.charset if declared is None else Charset(declared, CharsetOrigin.DECLARATION)

    def _check_characters(self, characters: list[str], charset: Charset) -> None:
        """Raise `CharsetConflict` if new characters do not fit into the charset, or may have other bytes in it."""
        rivals = self._find_rivals(charset)
        for character in characters:
            if character.isascii():
                continue
            if charset == _MIXED:
                raise CharsetConflict(_describe_doubt("several charsets", []))
            if (encoded := _encode(character, charset.codec)) is None:
                raise CharsetConflict(_describe_misfit(character, charset.codec))
            if any(_encode(character, codec) != encoded for codec in rivals):
                raise CharsetConflict(_describe_doubt(charset.codec, rivals))

    def _find_rivals(self, charset: Charset) -> list[str]:
        """Return the charsets that the file may be in as well."""
        if charset.origin is CharsetOrigin.DECLARATION:
            plain = declared_plain_codec(self._data) if charset == self.charset else None
            return [plain] if plain else []
        rivals = [_SUBSETS[charset.codec]] if charset.codec in _SUBSETS else []
        if charset.origin is CharsetOrigin.STATISTICS and charset != _MIXED:
            declared = declared_codec(self._data)
            rivals += [*rival_codecs(sample_of(self._data), charset.codec), *([declared] if declared else [])]
        return rivals

    def _is_read_back(self, data: bytes, text: str) -> bool:
        """Return True if the bytes are read as this text; of lines with invalid bytes only the charset is compared."""
        is_plain = data.isascii() and b"\x1b" not in data
        if is_plain or (self._errors == "strict" and self.charset.origin is CharsetOrigin.STATISTICS):
            return True
        if self._errors == "strict":
            return decode_with_charset(data)[0] == text
        new_characters = {character for character in set(text) - set(self.text) if not character.isascii()}
        lines = text.split(LF) if new_characters else []
        return not any(_ESCAPE.search(line) and not new_characters.isdisjoint(line) for line in lines)


def parse_editable_text(data: bytes) -> EditableText:
    """Return the text of a file that is to be edited. Raise `CharsetConflict` if it is no text or damaged."""
    if is_binary(data):
        raise CharsetConflict("it is not text; write the whole file instead")
    _, charset = decode_with_charset(data)
    if (
        data.isascii()
        and charset == _UTF8
        and (declared := own_declared_codec(data))
        and not declared.startswith("utf")
    ):
        charset = Charset(declared, CharsetOrigin.DECLARATION)
    # Of lines of several charsets those in ASCII can be edited, since every charset of such a file extends it.
    charset = charset if charset.codec else _MIXED
    body = data[len(charset.mark) :]
    for errors in ("strict", "surrogatepass" if charset.codec.startswith("utf-16") else "surrogateescape"):
        try:
            text = body.decode(charset.codec, errors)
            is_exact = text.encode(charset.codec, errors) == body
        except (UnicodeError, LookupError):
            continue
        if is_exact:
            return EditableText(text, charset, errors, data)
    raise CharsetConflict(f"it is damaged text in {charset.codec}; write the whole file instead")


def insert_lines(text: str, number: int, inserted: str) -> str:
    """Return the text with lines inserted below line `number`; all of its lines have an end afterwards."""
    line_end, lines = line_end_of(text), split_lines(text)
    if lines and not lines[-1].endswith((CR, LF)):
        lines[-1] += line_end
    lines.insert(number, convert_line_ends(inserted, line_end) + line_end)
    return "".join(lines)


def append_text(data: bytes, text: str) -> bytes:
    """Return a file with a text at its end, in its charset; LF becomes the line end of the file.

    Raise `CharsetConflict` as `parse_editable_text` and `EditableText.encode` do.
    """
    if not data or not text:
        return data + text.encode()
    editable = parse_editable_text(data)
    line_end = editable.line_end
    added = text if line_end == LF or CR in text else convert_line_ends(text, line_end)
    return editable.encode(editable.text + added)


def _encode(text: str, codec: str) -> bytes | None:
    try:
        return text.encode(codec)
    except (UnicodeError, LookupError):
        return None


def _describe_misfit(character: str, codec: str) -> str:
    return (
        f"'{character}' (U+{ord(character):04X}) cannot be written in the charset of the file ({codec}); nothing was "
        "written. Use another character, or write the whole file anew: it is UTF-8 then"
    )


def _describe_doubt(codec: str, rivals: list[str]) -> str:
    names = " or ".join([codec, *rivals][:_MAX_LISTED_CODECS])
    return (
        f"the charset of the file is not certain ({names}), so that new letters beyond ASCII could be wrong; nothing was "
        "written. Use letters that the file contains, or write the whole file anew: it is UTF-8 then"
    )
