"""Line ends of texts: LF, CRLF, and CR of old Macintosh files."""

CRLF, LF, CR = "\r\n", "\n", "\r"


def line_end_of(text: str) -> str:
    """Return the line end of most lines of a text: `\\r\\n`, `\\n`, or `\\r` in old Macintosh files."""
    if LF not in text:
        return CR if CR in text else LF
    return CRLF if 2 * text.count(CRLF) > text.count(LF) else LF


def convert_line_ends(text: str, line_end: str) -> str:
    """Return the text with each line end replaced."""
    return text.replace(CRLF, LF).replace(CR, LF).replace(LF, line_end)


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, each with its end; only the last may have none."""
    line_end = CR if line_end_of(text) == CR else LF
    lines = [f"{line}{line_end}" for line in text.split(line_end)]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]
