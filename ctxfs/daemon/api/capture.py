"""The RPC method for hooks of clients: answer a prompt. Plain values in, plain values out."""

from dataclasses import dataclass
from typing import Any

import trio

from ctxfs.app import App
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.vfs.session import Session

_MAX_SECONDS = 0.9  # the client of the hook waits
_MAX_TOKENS = 100_000


@dataclass(frozen=True, slots=True)
class RecallParams:
    """A prompt, the session of the client that it belongs to, and the maximum number of tokens of the answer."""

    prompt: str
    tokens: int
    client: str
    client_session: str


@method(
    "recall",
    RecallParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("context", "prompt", is_query=True),
    effects=Effect.READS_INDEX,
)
async def _recall(app: App, caller: Session, params: RecallParams) -> Any:
    """Return {"text"}: the answer; empty if nothing is known, if the window has it already, or if it takes too long."""
    text = ""
    with trio.move_on_after(_MAX_SECONDS):
        tokens = max(0, min(params.tokens, _MAX_TOKENS))
        text = await app.capture.answer(params.prompt, tokens, params.client, params.client_session)
    return {"text": text}
