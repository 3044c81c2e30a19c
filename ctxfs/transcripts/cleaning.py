"""Texts and values of messages as they are recorded: bounded, without private parts, secrets and binary content."""

import hashlib
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ctxfs.context.build.secrets import withhold_secrets
from ctxfs.eventlog.private_text import strip_private
from ctxfs.model.path import printable_text
from ctxfs.transcripts.long_strings import measure_text

MAX_RESULT_CHARS = 64 << 10  # of results of tools
MAX_TEXT_CHARS = 256 << 10  # of other texts
_MAX_DATA_CHARS = 64 << 10
_MAX_DATA_DEPTH = 32
_MAX_DATA_VALUES = 10_000
_MARGIN_CHARS = 4 << 10  # a secret that crosses the limit is recognised within it
_MAX_INTEGER = 1 << 63  # of the wire
_SAMPLE_CHARS = 4096
_MAX_BINARY_SHARE = 0.05
_CONTROL = re.compile("[\x00-\x06\x0e-\x1a\x1c-\x1f\ufffd]")
# One long run that begins at its first character, possessive, so that matching is linear.
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])(?:data:([\w/+.-]{1,80});base64,)?[A-Za-z0-9+/_-]{2048,}+={0,2}")


@dataclass(slots=True)
class Cleaned:
    """Numbers of the changes that were made to texts, and the kinds of the withheld secrets."""

    cut: int = 0
    private: int = 0
    binary: int = 0
    secrets: Counter[str] = field(default_factory=Counter)


def clean_text(text: str, max_chars: int, cleaned: Cleaned) -> str:
    """Return a text as it is recorded: without private parts and secrets, with marks for binary content and cuts.

    The mark of a cut has the full number of characters and the SHA-256 of the full text in UTF-8.
    """
    long_text = measure_text(text)
    visible = strip_private(long_text.head)
    cleaned.private += visible != long_text.head
    if _is_binary(visible):
        cleaned.binary += 1
        return f"[binary content, {long_text.chars} characters]"
    chars, digest = long_text.chars - len(long_text.head) + len(visible), long_text.sha256
    if len(visible) >= 2048:
        visible, runs = _BASE64.subn(_describe_base64, visible)
        cleaned.binary += runs
        # Without the rest of the text, its length and digest are those of the remaining text.
        chars = chars if long_text.is_cut else len(visible)
    is_cut = chars > max_chars
    if is_cut and not digest:
        digest = hashlib.sha256(visible.encode("utf-8", "surrogatepass")).hexdigest()
    recorded, kinds = withhold_secrets(printable_text(visible[: max_chars + _MARGIN_CHARS]))
    cleaned.secrets.update(kinds)
    if is_cut:
        cleaned.cut += 1
        return f"{recorded[:max_chars]}\n[… cut: {chars} characters in all, sha256 {digest}]"
    return recorded


def clean_data(value: Any, cleaned: Cleaned) -> Any:
    """Return a JSON value as it is recorded: its texts cleaned, bounded in depth, number and length of its values."""
    return _DataCleaner(cleaned).clean(value, 0)


class _DataCleaner:
    def __init__(self, cleaned: Cleaned) -> None:
        self._cleaned = cleaned
        self._chars = _MAX_DATA_CHARS
        self._values = _MAX_DATA_VALUES

    def clean(self, value: Any, depth: int) -> Any:
        self._values -= 1
        if self._values < 0 or depth > _MAX_DATA_DEPTH:
            return "[… cut]"
        match value:
            case str():
                return self._clean_text(value)
            case list():
                return [self.clean(item, depth + 1) for item in value[: max(0, self._values) + 1]]
            case dict():
                pairs = list(value.items())[: max(0, self._values) + 1]
                return {self._clean_text(str(name)): self.clean(item, depth + 1) for name, item in pairs}
            case bool() | None:
                return value
            case int() if abs(value) >= _MAX_INTEGER:
                return str(value)
            case float() if not math.isfinite(value):
                return str(value)
            case _:
                return value

    def _clean_text(self, text: str) -> str:
        recorded = clean_text(text, max(0, self._chars), self._cleaned)
        self._chars -= len(recorded)
        return recorded


def _is_binary(text: str) -> bool:
    sample = text[:_SAMPLE_CHARS]
    return bool(sample) and len(_CONTROL.findall(sample)) > _MAX_BINARY_SHARE * len(sample)


def _describe_base64(match: re.Match[str]) -> str:
    return f"[{match[1] or 'base64'}, {len(match[0])} characters]"
