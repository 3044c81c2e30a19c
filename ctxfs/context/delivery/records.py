"""Delivery records of a task: their names, their formats, and the sources of the texts in them. Pure.

`response.context.json` is one JSON object {"manifest", "texts", "by"}: the manifest of the context that a response
answers, the texts of its items, and the responding principal with its credential. `loads.jsonl` has one JSON object a
delivery {"at", "principal", "mode", …}. `window-*.json` is the window of one reader (`loader.py`).
"""

import json
from collections.abc import Mapping, Sequence

from ctxfs.context.build.constructor import Context
from ctxfs.context.build.manifest import Manifest, parse_manifest
from ctxfs.context.build.piece import Piece
from ctxfs.context.delivery.loader import Step, load_window
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path
from ctxfs.store.record_names import ANSWERED

_MAX_LOADS_BYTES = 4_000_000  # of loads.jsonl; beyond that its older half is removed


def window_name(principal: str) -> str:
    """Return the file name of a reader's window: each agent has its own window, independent of other deliveries."""
    return f"window-{principal.replace(':', '-')}.json"


def dump_answered(context: Context, credential: str) -> bytes:
    """Return the record of an answered context; `credential` is the responding principal with its credential."""
    # Includes the texts, because sources without versions may change.
    body = {
        "manifest": json.loads(context.manifest),
        "texts": [piece.text for piece in context.plan.chosen],
        "by": credential,
    }
    return (json.dumps(body) + "\n").encode()


def parse_answered(data: bytes) -> tuple[Manifest, list[str]]:
    """Return the manifest and the texts of an answered context; raise EINVAL for a damaged record."""
    try:
        body = json.loads(data)
        return parse_manifest(json.dumps(body["manifest"]).encode()), list(map(str, body["texts"]))
    except (ValueError, KeyError, TypeError) as error:
        raise invalid(ANSWERED, f"{ANSWERED} is damaged: write the response again") from error


def answered_by(data: bytes) -> str:
    """Return the principal of an answered context's record; empty if it contains none."""
    try:
        return str(json.loads(data)["manifest"]["principal"])
    except (ValueError, KeyError, TypeError):
        return ""


def answering_credential(data: bytes) -> str:
    """Return the writer of the response together with its credential; empty if the record contains none."""
    try:
        return str(json.loads(data).get("by", ""))
    except (ValueError, AttributeError):
        return ""


def sources_of_answered(data: bytes) -> frozenset[Path]:
    """Return the files whose texts a response answers, by its record; raise EINVAL for a damaged record."""
    return _sources(parse_answered(data)[0].pieces)


def sources_of_window(data: bytes) -> frozenset[Path]:
    """Return the files whose texts a window holds."""
    return _sources([entry.piece for entry in load_window(data).held])


def _sources(pieces: Sequence[Piece]) -> frozenset[Path]:
    return frozenset(Path.parse(path) for piece in pieces for path in (piece.path, *piece.origin) if path)


def append_loads(data: bytes, common: Mapping[str, object], entries: Sequence[Mapping[str, object]]) -> bytes:
    """Return loads.jsonl with one more line for each entry; the older half of a long file is removed."""
    if len(data) > _MAX_LOADS_BYTES:
        data = data[len(data) // 2 :].partition(b"\n")[2]
    lines = "".join(json.dumps({**common, **entry}, ensure_ascii=False) + "\n" for entry in entries)
    return data + lines.encode("utf-8", "replace")


def step_entry(step: Step, delivery: int) -> dict[str, object]:
    """Return the entry of one change of a window in loads.jsonl."""
    entry: dict[str, object] = {"delivery": delivery, "change": step.change, "source": step.at, "reason": step.reason}
    if step.change == "replace" and step.old is not None:
        entry["old"] = f"{step.old.path}:{step.old.first}-{step.old.last}"
    return entry
