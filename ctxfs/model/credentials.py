"""Masking of passwords in URLs."""

import re

_PASSWORD_PATTERN = re.compile(r"(://[^\s:/@]*):[^\s/@]+@")


def without_passwords(text: str) -> str:
    """Return the text with passwords of URLs masked, such as `https://ada:…@example.org`."""
    return _PASSWORD_PATTERN.sub(r"\1:…@", text)
