"""The data of the view of a context: its budget by source, its pieces, the excluded passages. Pure.

A part of the manifest that fits into a result: rows and texts are cut, names are made printable.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ctxfs.context.build.breakdown import SUMMARY, Source, break_down, describe_reason
from ctxfs.context.build.manifest_items import item_path
from ctxfs.model.escapes import one_line

MAX_ROWS = 30
_MAX_NOTES = 10
_MAX_TEXT_CHARACTERS = 200


def describe_context(manifest: Mapping[str, Any], handle: str = "") -> dict[str, Any]:
    """Return the structured content of a result. Numbers of `sources` count from 1; lists have at most 30 rows."""
    parts, context = break_down(manifest), manifest["context"]
    further = parts.sources[MAX_ROWS:]
    query = manifest["request"].get("query", "")
    items, excluded = manifest["items"], manifest["excluded"]
    return {
        "handle": handle,
        "question": _cut("; ".join(map(str, query)) if isinstance(query, list) else str(query)),
        "tokens": context["tokens"],
        "budget": context["budget"],
        "verdict": manifest.get("answer", {}).get("verdict", ""),
        "framing": parts.framing,
        "free": parts.free,
        "sources": [
            {"path": _cut(source.path), "tokens": source.tokens, "pieces": len(source.pieces)}
            for source in parts.sources[:MAX_ROWS]
        ],
        "further_sources": {"count": len(further), "tokens": sum(source.tokens for source in further)},
        "piece_count": len(items),
        "pieces": _pieces(parts.sources),
        "reasons": [{"count": count, "text": _cut(text)} for count, _, text in parts.reasons],
        "excluded_count": len(excluded),
        "excluded": [
            {
                "path": _cut(item_path(item) or SUMMARY),
                "first": item["first"],
                "last": item["last"],
                "reason": _cut(describe_reason(item["reason"])),
            }
            for item in excluded[:MAX_ROWS]
        ],
        "conflicts": len(manifest.get("conflicts", ())),
        "notes": [_cut(str(note)) for note in manifest["notes"][:_MAX_NOTES]],
    }


def _pieces(sources: Sequence[Source]) -> list[dict[str, Any]]:
    rows = [(source, item) for source in sources for item in source.pieces]
    return [
        {
            "source": source.number,
            "path": _cut(source.path),
            "first": item["first"],
            "last": item["last"],
            "tokens": item["tokens"],
            "heading": _cut(item.get("heading", "")),
            "why": _cut(item["why"]),
            "marks": _marks(item),
        }
        for source, item in rows[:MAX_ROWS]
    ]


def _marks(item: Mapping[str, Any]) -> list[str]:
    """Return the warnings about a piece."""
    return [
        *(["untrusted"] if item.get("trust") else []),
        *([f"source {_cut(str(item['stale']))}"] if item.get("stale") else []),
        *([f"valid until {_cut(str(item['valid_until']))} only"] if item.get("valid_until") else []),
        *(f"withheld: {_cut(str(kind))}" for kind in item.get("withheld", ())[:_MAX_NOTES]),
    ]


def _cut(text: str) -> str:
    shown = one_line(text[: _MAX_TEXT_CHARACTERS + 1])
    return shown if len(text) <= _MAX_TEXT_CHARACTERS else f"{shown[:_MAX_TEXT_CHARACTERS]}…"
