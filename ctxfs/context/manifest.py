"""What is in a context and what was left out, and why: manifest.json. Pure."""

import json

from ctxfs import __version__
from ctxfs.context.pack import Piece, Plan
from ctxfs.context.request import Request
from ctxfs.model.path import printable

FORMAT = 1


def render_manifest(request: Request, plan: Plan, notes: tuple[str, ...], context_sha256: str) -> bytes:
    """The manifest as UTF-8 JSON with sorted keys, so that equal contexts have equal manifests."""
    body = {
        "format": FORMAT,
        "ctxfs": __version__,
        "request": {
            "query": printable(request.query),
            "budget": request.budget,
            "tokenizer": request.tokenizer,
            "paths": [printable(str(path)) for path in request.paths],
            "kinds": list(request.kinds),
            "pins": [printable(f"{pin.path}:{pin.first}-{pin.last or ''}") for pin in request.pins],
        },
        "context": {"tokens": plan.tokens, "sha256": context_sha256},
        "notes": list(notes),
        "items": [
            {**_place(piece), "why": "pin" if piece.pinned else "search", "signals": dict(piece.signals)}
            for piece in plan.chosen
        ],
        "excluded": [{**_place(out.piece), "reason": out.reason} for out in plan.excluded],
    }
    return (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _place(piece: Piece) -> dict[str, object]:
    return {
        "path": printable(piece.path),
        "first": piece.first,
        "last": piece.last,
        "sha256": piece.sha256,
        "score": round(piece.score, 4),
    }
