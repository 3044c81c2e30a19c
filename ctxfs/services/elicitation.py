"""Elicitation: requests of MCP servers to a person, answered through human/review/."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import trio

from ctxfs.context.grounding.review import Curator

_POLL_SECONDS = 0.3
_MAX_TEXT_CHARS = 10_000


class Elicitation:
    """Forwards elicitation and sampling requests of servers as reviews."""

    def __init__(self, curator: Curator) -> None:
        self._curator = curator

    async def request(self, server: str, kind: str, text: str, schema: Mapping[str, Any]) -> str | None:
        """Open a review and wait for its verdict; return the person's answer, or None if the person refuses.

        `kind`: `model` for a text as a model writes it, else a form for `schema`.
        """
        what = "a text, as a model would write it" if kind == "model" else f"this form: {json.dumps(dict(schema))}"
        question = f"The server tools/{server} asks for {what}\n\n{text}"
        about = {
            "kind": "question",
            "server": server,
            "asked": datetime.now(UTC).isoformat(),
            "text": text[:_MAX_TEXT_CHARS],
        }
        review = await self._curator.request_permission(question, about)
        while (answer := await self._curator.verdict_text(review)) is None:
            await trio.sleep(_POLL_SECONDS)
        return None if answer == "reject" else answer.removeprefix("edit").removeprefix("accept").strip()
