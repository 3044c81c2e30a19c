"""Parts of a write that the daemon leaves to clients: parent directories, and replacements in texts."""

from ctxfs.model.errors import invalid
from ctxfs.model.path import Path


def as_bytes(data: str | bytes) -> bytes:
    """Return text as UTF-8; bytes stay as they are."""
    return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(data)


def directories_above(path: str) -> list[str]:
    """Return the directories above a path, below its area: the nearest first."""
    parents = []
    directory = Path.parse(path).parent
    while len(directory.parts) > 1:
        parents.append(str(directory))
        directory = directory.parent
    return parents


def replace_in_text(path: str, data: bytes, old: str, new: str, *, replace_all: bool) -> bytes:
    """Return a content with `old` replaced by `new`, in its charset and with its line ends. Raise OSError EINVAL."""
    from ctxfs.index.extract.editable_text import CharsetConflict, parse_editable_text
    from ctxfs.model.text_edits import describe_lines, find_positions, match_line_ends

    try:
        editable = parse_editable_text(data)
        old, new = match_line_ends(editable.text, old, new)
        positions = find_positions(editable.text, old)
        if not positions:
            raise invalid(path, "the text to replace is not in it; nothing was written")
        if len(positions) > 1 and not replace_all:
            lines = describe_lines(editable.text, positions)
            raise invalid(path, f"the text to replace is there more than once, in lines {lines}; nothing was written")
        return editable.encode(editable.text.replace(old, new))
    except CharsetConflict as reason:
        raise invalid(path, str(reason)) from reason
