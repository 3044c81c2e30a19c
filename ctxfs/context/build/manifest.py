"""Manifests: rendering and parsing of manifest.json, the pieces and exclusions of a context with reasons. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ctxfs import __version__
from ctxfs.context.build.conflicts import MemoryConflict
from ctxfs.context.build.manifest_items import item_path
from ctxfs.context.build.pack import Plan
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.request import Request, make_request
from ctxfs.index.search.results import Answer
from ctxfs.model.errors import invalid
from ctxfs.model.path import encode_name, printable

FORMAT = 2
SCHEMA_FILE = "manifest.schema.json"


@dataclass(frozen=True, slots=True)
class Provenance:
    """The data of a manifest besides the plan: the principal, the version of the tree, and the index."""

    principal: str = ""
    revision: str = ""
    index: Mapping[str, object] = field(default_factory=dict)
    revisions: Mapping[str, str] = field(default_factory=dict)  # path → the version of a source
    tokens: Mapping[int, int] = field(default_factory=dict)  # index in `chosen` → tokens of the piece alone


def render_manifest(
    request: Request,
    plan: Plan,
    notes: tuple[str, ...],
    sha256: str,
    provenance: Provenance,
    answer: Answer,
    conflicts: Sequence[MemoryConflict] = (),
) -> bytes:
    """Return the manifest as UTF-8 JSON with sorted keys, so that equal contexts have equal manifests."""
    body: dict[str, object] = {
        "format": FORMAT,
        "ctxfs": __version__,
        "request": request.record(),
        "principal": provenance.principal,
        "revision": provenance.revision,
        "index": dict(provenance.index),
        "context": {
            "tokens": plan.tokens,
            "budget": request.budget,
            "tokenizer": request.tokenizer,
            "format": request.format,
            "sha256": sha256,
        },
        "answer": answer.as_record(),
        "notes": list(notes),
        "items": [_item_record(piece, provenance, index) for index, piece in enumerate(plan.chosen)],
        "excluded": [
            {
                **_piece_record(exclusion.piece),
                "reason": exclusion.reason,
                **({"for": printable(exclusion.other)} if exclusion.other else {}),
            }
            for exclusion in plan.excluded
        ],
    }
    if conflicts:
        body["conflicts"] = [conflict.record() for conflict in conflicts]
    # One line for each part and each item: it is readable and can be searched with grep, and indented JSON takes the
    # slow path of the library.
    parts = ",\n".join(f" {_encode_line(name)}: {_format_part(body[name])}" for name in sorted(body))
    return f"{{\n{parts}\n}}\n".encode("utf-8", "replace")


def _format_part(part: object) -> str:
    if isinstance(part, list) and part:
        return "[\n" + ",\n".join(f"  {_encode_line(item)}" for item in part) + "\n ]"
    return _encode_line(part)


_encode_line = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


def _item_record(piece: Piece, provenance: Provenance, index: int) -> dict[str, object]:
    record: dict[str, object] = {
        **_piece_record(piece),
        "why": piece.why,
        "kind": piece.kind,
        "revision": provenance.revisions.get(piece.path, ""),
        "tokens": provenance.tokens.get(index, 0),
        "digest": digest(piece.text),
        "signals": {name: round(value, 4) for name, value in piece.signals.items()},
        "shares": {name: round(value, 4) for name, value in piece.shares.items()},
    }
    if piece.day:
        record["day"] = piece.day
    if piece.heading:
        record["heading"] = printable(piece.heading)
    if piece.above:
        record["above"] = piece.above
    if piece.mtime_ns:
        record["mtime_ns"] = piece.mtime_ns
    if piece.cut or not piece.path:
        record |= {"cut": piece.cut, "text": printable(piece.text)}  # cannot be restored from the lines alone
    if piece.stale:
        record["stale"] = piece.stale
    if piece.valid_until:
        record["valid_until"] = piece.valid_until
    if piece.untrusted:
        record["trust"] = "untrusted"
    if piece.withheld:
        record["withheld"] = list(piece.withheld)
    if piece.origin:
        record["origin"] = [printable(path) for path in piece.origin]
    return record


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a context as UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def digest(text: str) -> str:
    """Return the short digest that identifies the text of an item."""
    return text_sha256(text)[:16]


def _piece_record(piece: Piece) -> dict[str, object]:
    shown_path = printable(piece.path)
    return {
        "path": shown_path,
        **({"raw": encode_name(piece.path).hex()} if shown_path != piece.path else {}),
        "first": piece.first,
        "last": piece.last,
        "sha256": piece.sha256,
        "score": round(piece.score, 4),
        **({"p": round(piece.p, 4)} if piece.p is not None else {}),
    }


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed manifest; pieces have no text if the source has it."""

    request: Request
    sha256: str
    tokens: int
    notes: tuple[str, ...]
    pieces: tuple[Piece, ...]
    revisions: Mapping[str, str]
    digests: tuple[str, ...]
    body: Mapping[str, Any]


def parse_manifest(data: bytes) -> Manifest:
    """Parse a manifest; EINVAL names the fault."""
    try:
        body = json.loads(data.decode("utf-8"))
        if body["format"] != FORMAT:
            raise invalid("manifest", f"format {body['format']} of manifests is not known here; this is {FORMAT}")
        return Manifest(
            make_request(body["request"], 1),
            str(body["context"]["sha256"]),
            int(body["context"]["tokens"]),
            tuple(map(str, body["notes"])),
            tuple(map(_parse_item, body["items"])),
            {item_path(item): str(item["revision"]) for item in body["items"]},
            tuple(str(item["digest"]) for item in body["items"]),
            body,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise invalid("manifest", f"this is no manifest: {type(error).__name__}: {error}") from error


def _parse_item(item: Mapping[str, Any]) -> Piece:
    return Piece(
        item_path(item),
        int(item["first"]),
        int(item["last"]),
        str(item.get("text", "")),
        heading=str(item.get("heading", "")),
        score=float(item["score"]),
        p=float(item["p"]) if "p" in item else None,
        signals={str(name): float(value) for name, value in item["signals"].items()},
        shares={str(name): float(value) for name, value in item["shares"].items()},
        sha256=str(item["sha256"]),
        why=item["why"],
        day=item.get("day"),
        kind=str(item["kind"]),
        mtime_ns=int(item.get("mtime_ns", 0)),
        cut=bool(item.get("cut")),
        origin=tuple(map(str, item.get("origin", ()))),
        untrusted=item.get("trust") == "untrusted",
        withheld=tuple(map(str, item.get("withheld", ()))),
        above=int(item.get("above", 0)),
        stale=str(item.get("stale", "")),
        valid_until=str(item.get("valid_until", "")),
    )


def schema() -> bytes:
    """Return the JSON Schema of manifests."""
    from importlib.resources import files

    return files("ctxfs.context.build").joinpath(SCHEMA_FILE).read_bytes()
