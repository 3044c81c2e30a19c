"""External commands that users configure as models: a summariser and a judge. JSON on stdin, text or JSON on stdout.

Within `ctxfs.context`, only this module starts processes. A tool of an MCP server is such a command, too:
`ctxfs mcp-call TOOL -- SERVER…`.
"""

import json
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

import trio

from ctxfs.context.build.piece import Piece
from ctxfs.model.errors import CommandError
from ctxfs.model.path import printable
from ctxfs.process_group import run_program

_TIMEOUT_SECONDS = 120.0
_MAX_OUTPUT_BYTES = 4_000_000


async def run_command(command: str, question: object) -> str:
    """Run a command with a JSON request on stdin and return its stdout as text.

    Raise CommandError if it cannot be started, exits with an error, writes 4 MB or more, or runs for two minutes.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CommandError(f"'{command}' is not a command: {error}", "mend it in ctxfs.toml") from error
    data = json.dumps(question, ensure_ascii=False).encode("utf-8", "replace")
    try:
        with trio.fail_after(_TIMEOUT_SECONDS):
            code, out, err = await run_program(words, data, _MAX_OUTPUT_BYTES)
    except trio.TooSlowError as error:
        raise CommandError(f"'{words[0]}' did not answer within {_TIMEOUT_SECONDS:.0f} s", "") from error
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise CommandError(f"'{command}' cannot be started: {error}", "mend it in ctxfs.toml") from error
    if len(out) >= _MAX_OUTPUT_BYTES:
        raise CommandError(f"'{words[0]}' said more than {_MAX_OUTPUT_BYTES} bytes", "")
    if code:
        last = (err.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
        raise CommandError(f"'{words[0]}' failed with {code}: {last[:300]}", "")
    return out.decode("utf-8", "replace")


class CommandSummariser:
    """A command that receives {"task", "query", "tokens", "pieces"} and writes a summary."""

    def __init__(self, command: str) -> None:
        self._command = command

    async def __call__(self, query: str, pieces: Sequence[Piece], tokens: int) -> str:
        """Return the summary of some pieces; raise CommandError."""
        entries = [
            {"path": printable(piece.path), "lines": f"{piece.first}-{piece.last}", "text": piece.text}
            for piece in pieces
        ]
        return await run_command(
            self._command, {"task": "summarise", "query": query, "tokens": tokens, "pieces": entries}
        )


class CommandJudge:
    """A command that receives {"task", "claims": [{"claim", "evidence": [{"at", "text"}]}]} and writes a JSON list.

    The list has one {"verdict": "supported" | "contradicted" | "unsupported", "why"} for each claim.
    """

    def __init__(self, command: str) -> None:
        self._command = command

    async def __call__(self, claims: Sequence[dict[str, object]]) -> list[dict[str, Any]]:
        """Return one judgement for each claim; raise CommandError if the output has another form."""
        text = await run_command(self._command, {"task": "judge", "claims": list(claims)})
        try:
            judgements = json.loads(text)
        except ValueError as error:
            raise CommandError(f"the judge did not write JSON: {error}", "") from error
        verdicts = ("supported", "contradicted", "unsupported")
        if (
            not isinstance(judgements, list)
            or len(judgements) != len(claims)
            or not all(isinstance(judgement, dict) and judgement.get("verdict") in verdicts for judgement in judgements)
        ):
            raise CommandError(f"the judge has to write a list of {len(claims)} verdicts: {', '.join(verdicts)}", "")
        return [
            {"verdict": judgement["verdict"], "why": str(judgement.get("why", ""))[:1000]} for judgement in judgements
        ]
