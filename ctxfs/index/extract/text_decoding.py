"""The one way from bytes to text: binary or not, charset, line ends. Used by the index, readers, contexts and tools.

UTF-8 is decoded at once. All else costs a look at a sample of the file, within bounds.
"""

import codecs
import re
from dataclasses import dataclass, replace
from enum import Enum

from ctxfs.index.extract.charsets import FALLBACK, MAX_SAMPLE_BYTES, declared_codec, detect_codec
from ctxfs.index.extract.text_cleaning import clean, has_controls

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
_BOM_HEADS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\x84")
_HEAD_BYTES = 8192
_MAX_UTF8_BYTES = 4
_MIN_WIDE_BYTES = 8
_MIN_WIDE_SHARE = 0.03  # of NUL bytes in text of 16 bits a character: the blanks and line ends alone have more
_MIN_PARITY_SHARE = 0.97
_MAX_DAMAGED_SHARE = 0.1
_MAX_CONTROL_SHARE = 0.05
_MIN_LINES_PER_NUL_RUN = 4
_MIN_UTF8_LINE_SHARE = 0.5
_DAMAGE = re.compile("[\ufffd\ufffe\uffff\x00-\x08\x0e-\x1a\x1c-\x1f\ud800-\udfff\ue000-\uf8ff]")
_PRINTABLE = bytes(code for code in range(256) if (code >= 32 and code != 127) or code in b"\0\t\n\r\x0b\x0c\x08\x1b")
_HIGH_BYTE = re.compile(rb"[\x80-\xff]")
_NUL_RUN = re.compile(rb"\0+")
# Japanese and Korean in 7 bits, which is valid UTF-8.
_ISO_2022 = ((b"\x1b$)C", "iso2022_kr"), (b"\x1b$", "iso2022_jp_2"), (b"\x1b(J", "iso2022_jp"))
_ISO_2022_MARKS = re.compile(rb"\x1b\$[@AB]|\x1b\$\)C|\x1b\([IJ]|\x1b\$\(D")


def read_text(data: bytes, *, keeps_line_ends: bool = False) -> str | None:
    """Return the text of a file without control characters; None if it is binary.

    Lines end with `\\n`, or as in the file with `keeps_line_ends`.
    """
    if is_binary(data):
        return None
    text = decode(data)
    if not has_controls(data) and (keeps_line_ends or b"\r" not in data):
        return text  # the most files: nothing to look for in their text
    return clean(text, keeps_line_ends=keeps_line_ends)


def is_binary(data: bytes) -> bool:
    """Return True for bytes that are no text.

    Text has no NUL bytes in its first 8192, except in UTF-16 and UTF-32, and in a log with few of them among its
    lines or as one run at its beginning: space that was allocated before a crash. Bytes that are not UTF-8 and have
    many control characters are binary, too.
    """
    head = data[:_HEAD_BYTES]
    if codec := _wide_codec(data):
        return _damaged_share(_decode_head(data, codec)) > _MAX_DAMAGED_SHARE
    controls = len(head.translate(None, _PRINTABLE))
    if b"\0" not in head:
        return controls > _MAX_CONTROL_SHARE * len(head) and not _is_utf8(head)
    text = data.lstrip(b"\0")[:_HEAD_BYTES]
    runs = len(_NUL_RUN.findall(text))
    controls = len(text.translate(None, _PRINTABLE))
    return controls > 0 or not text or runs * _MIN_LINES_PER_NUL_RUN > text.count(b"\n")


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # a character may be cut at the end
    except UnicodeDecodeError:
        return False
    return True


class CharsetOrigin(Enum):
    """The evidence for a charset."""

    MARK = "mark"
    BYTES = "bytes"  # valid in a charset in which hardly any other text is
    DECLARATION = "declaration"
    STATISTICS = "statistics"


@dataclass(frozen=True, slots=True)
class Charset:
    """The charset of a file: its codec, empty for lines of several charsets, and its byte order mark."""

    codec: str
    origin: CharsetOrigin = CharsetOrigin.BYTES
    mark: bytes = b""


def decode(data: bytes) -> str:
    """Return the text of bytes, without a byte order mark.

    The charset is that of the mark, else UTF-8 if they are valid, else the declared one, else the most probable one.
    Lines end with `\\n` or `\\r\\n`, those of old Macintosh files with `\\n`.
    """
    text = decode_with_charset(data)[0]
    return text.replace("\r", "\n") if "\r" in text and "\n" not in text else text


def decode_with_charset(data: bytes) -> tuple[str, Charset]:
    """Return the text of bytes as `decode` does, but with the line ends of the file; and its charset."""
    text, charset = _decode_any(data)
    mark = next((mark for mark, codec in _BOMS if codec == charset.codec and data.startswith(mark)), b"")
    if mark:
        charset = replace(charset, mark=mark, origin=CharsetOrigin.MARK)
    return text.removeprefix("\ufeff"), charset


def _decode_any(data: bytes) -> tuple[str, Charset]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        is_cut = (
            error.end == len(data) and error.start > len(data) - _MAX_UTF8_BYTES and not data[: error.start].isascii()
        )
        if is_cut and not data.startswith(_BOM_HEADS):
            return data.decode("utf-8", "replace"), Charset("utf-8")
        return _decode_other(data)
    if codec := _wide_codec(data) if b"\0" in data[:_HEAD_BYTES] else None:
        return data.decode(codec, "replace"), Charset(codec)
    if b"\x1b" in data and _ISO_2022_MARKS.search(data):
        return _decode_iso_2022(data)
    return text, Charset("utf-8")


def _decode_other(data: bytes) -> tuple[str, Charset]:
    """Decode bytes that are not valid UTF-8."""
    for mark, codec in _BOMS:
        if data.startswith(mark) and codec != "utf-8":
            marked = data[len(mark) :].decode(codec, "replace")
            if not codec.startswith("utf-32") or _damaged_share(marked[:_HEAD_BYTES]) <= _MAX_DAMAGED_SHARE:
                return marked, Charset(codec)
    if wide := _wide_codec(data):
        return data.decode(wide, "replace"), Charset(wide)
    declared = declared_codec(data)
    fitting = _decode_mostly(data, declared) if declared and not declared.startswith("utf") else None
    if declared and fitting is not None:
        return fitting, Charset(declared, CharsetOrigin.DECLARATION)
    return _decode_lines(data)


def _decode_mostly(data: bytes, codec: str) -> str | None:
    """Return the text if the codec fits, apart from a few damaged characters."""
    try:
        text = data.decode(codec, "replace")
    except (LookupError, ValueError):
        return None
    high = len(data) - len(data.translate(None, bytes(range(128, 256))))
    return text if text.count("\ufffd") <= max(1, high // 50) else None


def _decode_lines(data: bytes) -> tuple[str, Charset]:
    """Decode lines of mixed encodings: those that are not UTF-8 by the codec that fits them best."""
    lines = data.split(b"\n")
    utf8_count = other_count = 0
    for line in lines:
        if not line.isascii():
            is_utf8 = _decode_as_utf8(line) is not None
            utf8_count, other_count = utf8_count + is_utf8, other_count + (not is_utf8)
    if not other_count:
        return data.decode("utf-8", "replace"), Charset("utf-8")
    codec = detect_codec(sample_of(data))
    is_utf8_file = utf8_count >= _MIN_UTF8_LINE_SHARE * (utf8_count + other_count)
    if not is_utf8_file and (text := _decode_mostly(data, codec)) is not None:
        return text, Charset(codec, CharsetOrigin.STATISTICS)
    return "\n".join(_decode_line(line, codec) for line in lines), Charset(
        "utf-8" if is_utf8_file else "", CharsetOrigin.STATISTICS
    )


def sample_of(data: bytes) -> bytes:
    """Return the parts of lines that are not UTF-8 which statistics are made of, about `MAX_SAMPLE_BYTES` at most."""
    sample = bytearray()
    for line in data.split(b"\n"):
        if not line.isascii() and _decode_as_utf8(line) is None:
            sample += _cut_sample(line) + b"\n"
            if len(sample) >= MAX_SAMPLE_BYTES:
                break
    return bytes(sample)


def _cut_sample(line: bytes) -> bytes:
    """Return the part of a line from shortly before its first byte outside of ASCII."""
    match = _HIGH_BYTE.search(line)
    start = max(0, match.start() - 40) if match is not None else 0
    return line[start : start + MAX_SAMPLE_BYTES]


def _decode_as_utf8(line: bytes) -> str | None:
    """Return the text of a line of UTF-8, which may have been cut or damaged; None for another encoding."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        text = line.decode("utf-8", "replace")
    sound_count = sum(character > "\x7f" for character in text) - text.count("\ufffd")
    return text if sound_count >= 2 * text.count("\ufffd") else None


def _decode_line(line: bytes, codec: str) -> str:
    text = _decode_as_utf8(line)
    if text is not None:
        return text
    try:
        return line.decode(codec)
    except UnicodeDecodeError:
        return line.decode(FALLBACK, "replace")


def _decode_iso_2022(data: bytes) -> tuple[str, Charset]:
    codec = next(codec for mark, codec in _ISO_2022 if mark in data)
    try:
        return data.decode(codec), Charset(codec)
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace"), Charset("utf-8")


def _wide_codec(data: bytes) -> str | None:
    """Return the codec of UTF-16 or UTF-32, by its mark, or without one by the position of NUL bytes."""
    for mark, codec in _BOMS[1:]:
        if data.startswith(mark) and codec.startswith("utf"):
            is_utf_16 = codec.startswith("utf-16") or _damaged_share(_decode_head(data, codec)) > _MAX_DAMAGED_SHARE
            return codec.replace("32", "16") if is_utf_16 else codec
    head = data[:_HEAD_BYTES]
    count = head.count(0)
    if len(head) < _MIN_WIDE_BYTES or count < _MIN_WIDE_SHARE * len(head):
        return None
    even, odd = head[::2].count(0), head[1::2].count(0)
    if count > 0.6 * len(head):
        candidates = ["utf-32-le", "utf-32-be"]
    elif max(even, odd) >= _MIN_PARITY_SHARE * count:
        candidates = ["utf-16-be" if even > odd else "utf-16-le"]
    else:
        return None
    return next((codec for codec in candidates if _is_plausible(data, codec)), None)


def _is_plausible(data: bytes, codec: str) -> bool:
    """Return True for undamaged text that is not ASCII whose bytes would pair up as characters of East Asia."""
    text = _decode_head(data, codec)
    pairs = sum(0x2020 <= ord(character) <= 0x7E7E and 0x20 <= ord(character) & 0xFF <= 0x7E for character in text)
    others = sum(not character.isascii() for character in text)
    return _damaged_share(text) < _MAX_DAMAGED_SHARE / 10 and pairs <= others // 2


def _decode_head(data: bytes, codec: str) -> str:
    return codecs.getincrementaldecoder(codec)("replace").decode(data[:_HEAD_BYTES]).removeprefix("\ufeff")


def _damaged_share(text: str) -> float:
    return len(_DAMAGE.findall(text)) / len(text) if text else 0.0
