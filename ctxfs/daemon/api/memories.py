"""RPC methods that change memories: promotion and correction. Plain values in, plain values out."""

from dataclasses import dataclass
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.model.path import Path
from ctxfs.vfs.session import Session


@dataclass(frozen=True, slots=True)
class PromoteParams:
    """A file, and the folder of memory that it is moved to."""

    path: Path
    to: Path


@dataclass(frozen=True, slots=True)
class CorrectParams:
    """A line of a file as it should read, and the reason; `was` is the line as the caller has read it.

    `line` 0 stands for the only statement of the file.
    """

    path: Path
    text: str
    because: str
    line: int = 0
    was: str = ""


@method("promote", PromoteParams, needs=Check.BY_METHOD, audit=AuditEvent("move", "path"), effects=Effect.CHANGES_FILES)
async def _promote(app: App, caller: Session, params: PromoteParams) -> Any:
    """Move a file to memory; with reasons against it, open a review instead and return its id with the reasons."""
    result = await app.memory.changes.promote(caller, params.path, params.to)
    return {"path": result.path, "review": result.review, "reasons": list(result.reasons)}


@method(
    "correct", CorrectParams, needs=Check.BY_METHOD, audit=AuditEvent("write", "path"), effects=Effect.CHANGES_FILES
)
async def _correct(app: App, caller: Session, params: CorrectParams) -> Any:
    """Write the corrected version of a line; return its path, the corrected line, its old text, and remarks."""
    result = await app.memory.changes.correct(
        caller, params.path, params.line, params.text, params.because, was=params.was
    )
    return {"path": result.path, "corrects": result.corrects, "was": result.was, "remarks": list(result.remarks)}
