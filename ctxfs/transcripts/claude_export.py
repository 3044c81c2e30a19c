"""Conversations of an export of Claude (claude.ai): `conversations.json`. Pure.

A conversation has `uuid`, `name` and `chat_messages`. A message has `uuid`, `sender` (`human`, `assistant`),
`created_at`, `content` with blocks as of the Anthropic API, or in older exports `text`, and `attachments` with their
extracted text.
"""

from collections.abc import Iterator
from dataclasses import replace

from ctxfs.transcripts.content import read_blocks
from ctxfs.transcripts.message import Json, LeftOut, Message, list_of, object_of, parse_said_at, text_of

# The name `claude` is an alias of Claude Code in the event log.
CLIENT = "claude-ai"
_KINDS = {"human": "input", "user": "input", "assistant": "output"}


class ClaudeExportParser:
    """A parser of conversations."""

    def __init__(self, stem: str, left_out: LeftOut) -> None:
        """Create a parser; `stem` is the name of the file without its suffix."""
        self._stem = stem
        self._left_out = left_out

    def parse(self, value: Json) -> Iterator[Message]:
        """Yield the messages of a conversation, or of an object with the member `conversations`."""
        conversations = value.get("conversations")
        for conversation in list_of(conversations) if "chat_messages" not in value and conversations else [value]:
            yield from self._read_conversation(object_of(conversation))

    def _read_conversation(self, value: Json) -> Iterator[Message]:
        if not isinstance(value.get("chat_messages"), list):
            self._left_out.add("objects that are no conversations")
            return
        title = text_of(value.get("name"))
        session = text_of(value.get("uuid")) or title or self._stem
        project = text_of(object_of(value.get("project")).get("name"))
        base = Message(CLIENT, session, "input", title=title, project=project, has_global_id=True)
        for message in map(object_of, value["chat_messages"]):
            yield from self._read_message(base, message)

    def _read_message(self, base: Message, value: Json) -> Iterator[Message]:
        sender = text_of(value.get("sender"))
        if sender not in _KINDS:
            self._left_out.add(f"sender '{sender}'")
            return
        base = replace(
            base,
            kind=_KINDS[sender],
            said_at=parse_said_at(value.get("created_at")),
            model=text_of(value.get("model")),
            message_id=text_of(value.get("uuid")),
        )
        content = list_of(value.get("content")) or text_of(value.get("text"))
        yield from read_blocks(base, content, self._left_out)
        for part, attachment in enumerate(map(object_of, list_of(value.get("attachments")))):
            text, name = text_of(attachment.get("extracted_content")), text_of(attachment.get("file_name"))
            if text.strip():
                attachment_id = f"{base.message_id}/attachment" if base.message_id else ""
                yield replace(base, text=f"[attachment {name}]\n{text}", message_id=attachment_id, part=part)
            else:
                self._left_out.add("attachments without text")
        if files := list_of(value.get("files")):
            self._left_out.add("attached files", len(files))
