"""Identities of messages, by which a second import adds nothing. Pure.

- A message with a UUID is the same message in each session of its client, because forks copy messages with their ids.
- Another id that a client uses across sessions is the same message with the same time and content.
- An id that counts within a session is the same message in this session.
- A message without an id is identified by its session, its time and content, and its position among the equal ones.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from ctxfs.transcripts.message import Message

ID_BYTES = 16
MAX_ID_CHARS = 256
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


class Identity(NamedTuple):
    """The identity of a message, and that of the message that it may be a copy of, or empty."""

    own: bytes
    copied: bytes = b""


class Identities:
    """The identities of the messages of one transcript, in their order."""

    def __init__(self) -> None:
        self._equal: Counter[bytes] = Counter()

    def identify(self, message: Message, content: Callable[[], str]) -> Identity:
        """Return the identity of a message.

        `content` returns the content as it is recorded, so that an identity reveals no private part and no secret. It
        is called only for messages without a unique id.
        """
        client, session = message.client, message.client_session
        if message.message_id:
            name = (message.message_id, str(message.part))
            if not message.has_global_id:
                return Identity(_digest("id", client, session, *name))
            if _UUID.match(message.message_id):
                return Identity(_digest("uuid", client, *name))
            return Identity(_digest("text", client, *name, message.said_at, message.kind, content()))
        said_at = message.said_at if message.has_own_time else ""
        digest = _digest(message.kind, message.call, said_at, str(message.part), content())
        position = str(self._equal[digest])
        self._equal[digest] += 1
        names = ("position", client, position, digest.hex())
        copied = _digest(*names, message.copied_from) if message.copied_from else b""
        return Identity(_digest(*names, session), copied)


def shorten_id(text: str) -> str:
    """Return an id of at most MAX_ID_CHARS characters: a longer one is its begin with the digest of all of it."""
    if len(text) <= MAX_ID_CHARS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[: MAX_ID_CHARS - len(digest) - 1]}-{digest}"


def content_of(text: str, data: object) -> str:
    """Return the text and data of a message as one text."""
    return text if data is None else f"{text}\n{json.dumps(data, sort_keys=True)}"


def _digest(*parts: str) -> bytes:
    whole = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=ID_BYTES).digest()
