"""Attributes in front matter: the fields of the Open Knowledge Format, version 0.2, as attributes of their file. Pure.

A text is hostile input. Its fields describe their file, and may withdraw it from contexts (`stale_after`, `status`), but
none raises its trust: `verified` is a claim of the text, and `trust` or a mark is no field at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctxfs.index.extract.front_matter import FrontMatter  # imports PyYAML

FRONT_MATTER_LABEL = "front_matter"  # the label with the front matter itself, by which grep finds its file
# Beside `tags`, `alias` and `link`, which `markdown.py` reads.
NAMES = ("kind", "description", "source", "status", "expires_at", "verified", "confidence")
STATUSES = ("draft", "stable", "deprecated")
VERIFIERS = ("human", "machine")
_RECORDS = "history"  # the kind of records, which no file claims to be
_MAX_ENTRIES = 50
_MAX_CHARACTERS = 200
_KIND = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_SPACES = re.compile(r"\s+")
_SHARE = re.compile(r"0(?:\.\d{1,17})?|1(?:\.0{1,17})?|\.\d{1,17}")


def find_attributes(front_matter: FrontMatter) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of the attributes in front matter. Only `source` has several values. Malformed ones are left out."""
    fields = front_matter.fields
    for name, value in (
        ("kind", kind_of(fields.get("type"))),
        ("description", _line(fields.get("description"))),
        ("status", _status(fields.get("status"))),
        ("expires_at", _time(fields.get("stale_after"))),
        ("verified", _verifier(fields.get("verified"))),
        ("confidence", _share(fields.get("confidence"))),
    ):
        if value:
            yield name, value
    for resource in dict.fromkeys(map(_resource, _entries(fields.get("sources")))):
        if resource:
            yield "source", resource


def kind_of(value: object) -> str:
    """Return a type as the word that `kind:` takes: `BigQuery Table` is `bigquery-table`; empty for no such word."""
    word = _SPACES.sub("-", _line(value).lower())
    return word if _KIND.fullmatch(word) and word != _RECORDS else ""


def actors_of(value: object) -> list[str]:
    """Return the actors of a field `verified`: of a list of events, or of one event."""
    return [_line(entry.get("by")) for entry in _entries(value) if isinstance(entry, dict) and _line(entry.get("by"))]


def _entries(value: object) -> list[Any]:
    return value[:_MAX_ENTRIES] if isinstance(value, list) else [] if value is None else [value]


def _line(value: object) -> str:
    if not isinstance(value, str):
        return ""
    text = " ".join(value[: 4 * _MAX_CHARACTERS].split())[:_MAX_CHARACTERS]
    return text if text.isprintable() else ""


def _resource(entry: object) -> str:
    return _line(entry.get("resource")) if isinstance(entry, dict) else _line(entry)


def _status(value: object) -> str:
    status = _line(value).lower()
    return status if status in STATUSES else ""


def _verifier(value: object) -> str:
    actors = actors_of(value)
    return "" if not actors else "human" if any(actor.startswith("human:") for actor in actors) else "machine"


def _time(value: object) -> str:
    """Return a date or time of YAML, a text, or of TOML, in ISO 8601."""
    text = value.isoformat() if isinstance(value, date | datetime) else _line(value)
    try:
        moment = datetime.fromisoformat(text)
        (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return ""
    return text


def _share(value: object) -> str:
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else _line(value)
    return text if len(text) <= 20 and _SHARE.fullmatch(text) else ""
