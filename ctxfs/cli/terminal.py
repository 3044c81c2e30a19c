"""Text for a terminal or a pipe: styles appear on a terminal only. It imports few modules, so that commands start fast."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    from typing import TextIO

# Parameters of the escape sequence "select graphic rendition" (ECMA-48).
_COLOR_CODES = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36}
_BOLD, _DIM, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def echo(
    text: str = "", *, err: bool = False, nl: bool = True, fg: str | None = None, bold: bool = False, dim: bool = False
) -> None:
    """Print text on stdout or stderr, and flush it. Characters that the stream cannot encode become `?`."""
    stream = sys.stderr if err else sys.stdout
    line = style(text, stream, fg=fg, bold=bold, dim=dim) + ("\n" if nl else "")
    try:
        stream.write(line)
    except UnicodeEncodeError:
        stream.write(line.encode(stream.encoding, "replace").decode(stream.encoding))
    stream.flush()


def style(text: str, stream: TextIO, *, fg: str | None = None, bold: bool = False, dim: bool = False) -> str:
    """Return text with a style, unchanged if the stream shows none."""
    codes = (f"\x1b[{_COLOR_CODES[fg]}m" if fg else "") + (_BOLD if bold else "") + (_DIM if dim else "")
    return f"{codes}{text}{_RESET}" if codes and shows_color(stream) else text


def shows_color(stream: TextIO) -> bool:
    """Return True for a terminal, unless the environment selects plain text (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
