"""Formats whose bytes are text as well. Pure, and without imports."""

SOURCE_FORMATS = frozenset(("mail", "notebook"))


def is_text_itself(file_format: str) -> bool:
    """Return True for a format whose bytes are text as well: they are shown if nothing can be extracted."""
    return file_format in SOURCE_FORMATS
