"""Masking of passwords in URLs."""

import re

_PASSWORD = re.compile(r"(://[^\s:/@]*):[^\s/@]+@")


def without_passwords(text: str) -> str:
    """Return the text with passwords of URLs masked, such as `https://ada:…@example.org`."""
    return _PASSWORD.sub(r"\1:…@", text)
