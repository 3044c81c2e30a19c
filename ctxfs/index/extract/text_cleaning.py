"""Removal of the marks of terminals and printers from a text: escape sequences, overstrikes, control characters. Pure.

The number of lines stays the same. Time is linear in the text.
"""

import re

_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r") + b"\x7f"
_NO_CONTROLS = bytes(code for code in range(256) if code not in _CONTROLS)
_CSI = "\x9b".encode()
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]?"  # CSI: colours, movements of the cursor
    r"|\x1b\][^\x07\x1b\n]*+(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b[PX^_][^\x1b\n]*+(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*+[0-~]?"
)
_IRC_FORMAT = re.compile(r"\x03(?:\d{1,2}(?:,\d{1,2})?)?|\x04(?:[0-9A-Fa-f]{6})?|[\x02\x0f\x11\x16]")
_OVERSTRUCK_LINE = re.compile(r"^[^\n]*\x08[^\n]*$", re.MULTILINE)
_LINE_BEGIN = re.compile(r"^\x0c+", re.MULTILINE)
_SPACES = dict.fromkeys(b"\x00\x0b\x0c\x1c\x1d\x1e\x1f", " ")
_TABLE = dict.fromkeys(_CONTROLS) | _SPACES
_NUL_RUN = re.compile(r"\0+")


def clean(text: str, *, keeps_line_ends: bool = False) -> str:
    """Return a text as a reader sees it: lines end with `\\n`, and contain no control characters but tabs.

    With `keeps_line_ends`, lines that end with `\\r\\n` do so in the result.
    """
    if "\r" in text and not keeps_line_ends:
        text = text.replace("\r\n", "\n").replace("\r", " ")
    if not has_controls(text.encode("utf-8", "surrogatepass")):
        return text
    text = _NUL_RUN.sub("\0", text)
    text = _IRC_FORMAT.sub("", _ESCAPE.sub("", text))
    if "\x08" in text:
        text = _OVERSTRUCK_LINE.sub(_resolve_overstrikes, text)
    return _LINE_BEGIN.sub("", text).translate(_TABLE)


def has_controls(data: bytes) -> bool:
    """Return True if a text in UTF-8, or in another extension of ASCII, contains characters that `clean` removes."""
    # A class of characters of an expression takes ten times as long.
    return bool(data.translate(None, _NO_CONTROLS)) or _CSI in data


def _resolve_overstrikes(match: re.Match[str]) -> str:
    """Return a line as a printer shows it: the last character in each column, an underscore only alone."""
    line, column = list[str](), 0
    for character in match[0]:
        if character == "\x08":
            column = max(0, column - 1)
            continue
        if column == len(line):
            line.append(character)
        elif character not in "_ " or line[column] in "_ ":
            line[column] = character
        column += 1
    return "".join(line)
