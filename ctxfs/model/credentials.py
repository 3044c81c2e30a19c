"""Passwords in addresses: shown to nobody."""

import re

_PASSWORD = re.compile(r"(://[^\s:/@]*):[^\s/@]+@")


def without_passwords(text: str) -> str:
    """`https://ada:…@example.org` for an address with a password; other text as it is."""
    return _PASSWORD.sub(r"\1:…@", text)
