"""Names of the sessions of clients of others in the event log: the same for captured and imported messages. Pure.

The records of a session of client C with the id S are in the session `C-S`. A record has the members `client`,
`client_session` (the id, unchanged) and, if the client names its messages, `message_id`.

Hooks of clients name no messages. So a captured message (`origin` is `CAPTURE_ORIGIN`) and the same message in a
transcript are matched by session, kind and text.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ctxfs.eventlog.private_text import strip_private

_ALIASES = {"claude": "claude-code", "gemini-cli": "gemini", "codex-cli": "codex", "cursor-agent": "cursor"}
_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")
_CLIENT = re.compile(r"[^a-z0-9-]+")
_MAX_CLIENT_CHARS = 32
_MAX_SESSION_CHARS = 128  # as the event log permits
_DIGEST_CHARS = 12


def client_name(client: str) -> str:
    """Return the one name of a client that has several, such as `gemini` for `gemini-cli`."""
    name = _CLIENT.sub("-", client.lower()).strip("-")[:_MAX_CLIENT_CHARS] or "client"
    return _ALIASES.get(name, name)


def session_of_client(client: str, client_session: str) -> str:
    """Return the session of the event log for a session of a client.

    An id with other characters than a session permits, or too long, is shortened and completed by its digest, so that
    two ids never share a session.
    """
    prefix = f"{client_name(client)}-"
    name = _CHARACTERS.sub("-", client_session)
    if name == client_session and name and len(prefix) + len(name) <= _MAX_SESSION_CHARS:
        return prefix + name
    digest = hashlib.sha256(client_session.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    room = _MAX_SESSION_CHARS - len(prefix) - len(digest) - 1
    return f"{prefix}{name[:room].strip('-')}-{digest}" if name.strip("-") else f"{prefix}{digest}"


def matched_text(record: Mapping[str, Any]) -> str:
    """Return the text by which a captured record and a message are matched: the id of a call for the records of tools."""
    call, text = record.get("call"), record.get("text")
    if str(record.get("kind", "")).startswith("tool_"):
        return f"call {call}" if isinstance(call, str) and call else ""
    return text if isinstance(text, str) else ""


class CapturedMessages:
    """The captured messages of one session, by which an import leaves out messages that are in the log already."""

    def __init__(self, messages: Iterable[tuple[str, str]]) -> None:
        """Take the kind and the text (`matched_text`) of each captured record of a session."""
        self._counts = Counter(_message_digest(kind, text) for kind, text in messages if text)

    def take(self, kind: str, text: str) -> bool:
        """Return True if a captured message has this kind and text (`matched_text`); each one counts once."""
        digest = _message_digest(kind, text)
        if not self._counts[digest]:
            return False
        self._counts[digest] -= 1
        return True


def _message_digest(kind: str, text: str) -> bytes:
    """Return a digest that ignores white space and private parts, which clients and capture may change."""
    words = " ".join(strip_private(text).split())
    return hashlib.sha256(f"{kind}\n{words}".encode("utf-8", "surrogatepass")).digest()
