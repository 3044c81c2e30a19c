"""The record of a store, a JSON file beside its directory, and the checks of its fields."""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ctxfs.model.errors import invalid

MAX_METADATA_PAIRS = 16
_MAX_NAME_CHARS = 255
_MAX_DESCRIPTION_CHARS = 1024
_MAX_KEY_CHARS = 64
_MAX_VALUE_CHARS = 512
_SLUG_CHARS = 40
_ID_BYTES = 8
_NOT_IN_SLUG = re.compile(r"[^a-z0-9]+")
_ID = re.compile(r"\Amemstore_[a-z0-9_]{1,80}\Z")


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """A store. Times are ISO 8601; `moves` are those of `identities`.

    `redacted` are the records of redacted versions, and of others that the log has lost by redactions."""

    id: str
    name: str
    created_at: str
    updated_at: str
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    archived_at: str | None = None
    moves: Mapping[str, Sequence[tuple[int, str]]] = field(default_factory=dict)
    redacted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def created(self) -> datetime:
        """The time of the creation."""
        return datetime.fromisoformat(self.created_at)

    def as_response(self) -> dict[str, Any]:
        """Return the store as clients receive it."""
        return {
            "id": self.id,
            "type": "memory_store",
            "name": self.name,
            "description": self.description,
            "metadata": dict(self.metadata),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "archived_at": self.archived_at,
        }

    def to_bytes(self) -> bytes:
        """Return the content of the record's file."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"


def parse_record(data: bytes) -> StoreRecord | None:
    """Return the store of a record's file; None for a file that is no record, such as one that was edited."""
    try:
        raw = json.loads(data)
        moves = {str(key): [(int(since), str(path)) for since, path in spans] for key, spans in raw["moves"].items()}
        return StoreRecord(
            id=check_store_id(raw["id"]),
            name=str(raw["name"]),
            created_at=datetime.fromisoformat(raw["created_at"]).isoformat(),
            updated_at=datetime.fromisoformat(raw["updated_at"]).isoformat(),
            description=str(raw["description"]),
            metadata={str(key): str(value) for key, value in raw["metadata"].items()},
            archived_at=raw["archived_at"] and datetime.fromisoformat(raw["archived_at"]).isoformat(),
            moves={key: spans for key, spans in moves.items() if spans},
            redacted={str(key): _check_redaction(value) for key, value in raw["redacted"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
        return None


def _check_redaction(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record of a redacted version. Raise KeyError, TypeError or ValueError for one that is damaged."""
    texts = {
        name: str(value[name]) for name in ("memory_id", "operation", "principal", "session", "tool", "path", "at")
    }
    return {**texts, "time_ns": int(value["time_ns"]), "by": dict(value["by"])}


def make_record(body: Mapping[str, Any]) -> StoreRecord:
    """Return a new store from the body of a request. Raise OSError EINVAL for a bad field."""
    now = now_text()
    empty = StoreRecord("", "", now, now)
    made = change_record(empty, {"description": "", "metadata": {}, **body, "name": body.get("name")})
    slug = _NOT_IN_SLUG.sub("_", made.name.lower())[:_SLUG_CHARS].strip("_")
    return replace(made, id="_".join(filter(None, ("memstore", slug, secrets.token_hex(_ID_BYTES)))))


def change_record(record: StoreRecord, body: Mapping[str, Any]) -> StoreRecord:
    """Return a store with the fields of a request changed; a null in `metadata` removes a pair."""
    changed: dict[str, Any] = {"updated_at": now_text()}
    if "name" in body:
        name = _check_text(body["name"], "name", _MAX_NAME_CHARS)
        if not name or not name.isprintable():
            raise invalid("name", f"1 to {_MAX_NAME_CHARS} characters, without control characters, are needed")
        changed["name"] = name
    if body.get("description") is not None:
        changed["description"] = _check_text(body["description"], "description", _MAX_DESCRIPTION_CHARS)
    if body.get("metadata") is not None:
        changed["metadata"] = _change_metadata(record.metadata, body["metadata"])
    return replace(record, **changed)


def check_store_id(text: object) -> str:
    """Return the id of a store. Raise OSError EINVAL for a text that is none."""
    if not isinstance(text, str) or not _ID.match(text):
        raise invalid("id", "this is no id of a memory store")
    return text


def now_text() -> str:
    """Return the present time."""
    return datetime.now(UTC).isoformat()


def _change_metadata(present: Mapping[str, str], changes: object) -> Mapping[str, str]:
    if not isinstance(changes, Mapping):
        raise invalid("metadata", "an object is needed")
    merged = dict(present)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
            continue
        if not 1 <= len(key) <= _MAX_KEY_CHARS:
            raise invalid("metadata", f"a key has 1 to {_MAX_KEY_CHARS} characters")
        merged[key] = _check_text(value, "metadata", _MAX_VALUE_CHARS)
    if len(merged) > MAX_METADATA_PAIRS:
        raise invalid("metadata", f"a store has at most {MAX_METADATA_PAIRS} pairs")
    return merged


def _check_text(value: object, name: str, maximum: int) -> str:
    if not isinstance(value, str) or len(value) > maximum:
        raise invalid(name, f"a text of at most {maximum} characters is needed")
    return value
