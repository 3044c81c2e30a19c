"""Changes of one request with a reason of their own, in versions of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ctxfs.app import App
from ctxfs.model.errors import invalid
from ctxfs.threads import in_turn
from ctxfs.versions.objects.commits import Actor
from ctxfs.vfs.session import Session, SessionTree

MAX_REASON_CHARACTERS = 1000


@asynccontextmanager
async def with_reason(app: App, caller: Session, reason: str) -> AsyncIterator[Session]:
    """Yield a session of the caller with this reason; the caller itself without one. Raise OSError EINVAL for a long one.

    Earlier changes are committed before, so that they do not get the reason, and those of the block after it.
    """
    if not reason.strip():
        yield caller
        return
    if len(reason) > MAX_REASON_CHARACTERS:
        raise invalid("reason", f"at most {MAX_REASON_CHARACTERS} characters are recorded")
    await in_turn(app.archive.commit_nowait)
    actor = Actor(caller.actor.principal, caller.actor.session, caller.actor.tool, reason.strip())
    journal = app.archive.writer(actor)
    try:
        yield Session(SessionTree(app.tree, caller.principal, journal), actor, journal, caller.principal)
    finally:
        journal.close()
        await in_turn(app.archive.commit_nowait)
