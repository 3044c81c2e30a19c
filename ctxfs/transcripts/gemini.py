"""Transcripts of Gemini CLI, below `~/.gemini/tmp/<project>/`. Pure.

`chats/session-*.json` is one object with `sessionId`, `projectHash` and `messages`. `chats/*.jsonl` has a line with the
first two, then a message a line: a message that changed is repeated with its `id`, and `{"$set": {"messages": …}}` has
all of them. `logs.json` is an array of the user's messages of all sessions; it is an extract.

A message has `id`, `timestamp`, `type`, `content`, and from the model `thoughts` and `toolCalls` with their results.
"""

from collections.abc import Iterator
from dataclasses import replace

from ctxfs.transcripts.content import describe_media
from ctxfs.transcripts.message import Json, LeftOut, Message, list_of, object_of, parse_said_at, text_of

CLIENT = "gemini"
HASH_PREFIX = "sha256:"
_KINDS = {"user": "input", "gemini": "output"}


class GeminiParser:
    """A parser of the objects of one transcript."""

    def __init__(self, stem: str, left_out: LeftOut, project: str = "") -> None:
        """Create a parser; `stem` is the name of the file without its suffix, `project` its folder if that is known."""
        self._base = Message(CLIENT, stem, "input", project=project, has_global_id=True)
        self._left_out = left_out

    def parse(self, value: Json) -> Iterator[Message]:
        """Yield the messages of a document, a line or an element of `logs.json`."""
        update = object_of(value.get("$set"))
        if "messageId" in value:
            yield from self._read_log_entry(value)
        elif "sessionId" in value or update:
            header = update or value
            self._read_header(header)
            for message in list_of(header.get("messages")):
                yield from self._read_message(object_of(message))
        elif "id" in value and "type" in value:
            yield from self._read_message(value)
        elif "$rewindTo" in value:
            self._left_out.add("rewinds")  # the messages were sent all the same
        else:
            self._left_out.add("no type")

    def _read_header(self, header: Json) -> None:
        digest = text_of(header.get("projectHash"))
        project = self._base.project or (HASH_PREFIX + digest if digest else "")
        self._base = replace(
            self._base,
            client_session=text_of(header.get("sessionId")) or self._base.client_session,
            project=project,
            agent="subagent" if header.get("kind") == "subagent" else self._base.agent,
        )

    def _read_log_entry(self, value: Json) -> Iterator[Message]:
        text = text_of(value.get("message"))
        if not text.strip():
            self._left_out.add("empty messages")
            return
        yield replace(
            self._base,
            client_session=text_of(value.get("sessionId")) or self._base.client_session,
            text=text,
            said_at=parse_said_at(value.get("timestamp")),
            message_id=f"log-{value['messageId']}",
            has_global_id=False,
            is_extract=True,
        )

    def _read_message(self, value: Json) -> Iterator[Message]:
        name, message_id = text_of(value.get("type")), text_of(value.get("id"))
        if name not in _KINDS:
            self._left_out.add(f"type '{name}'")
            return
        base = replace(
            self._base,
            kind=_KINDS[name],
            said_at=parse_said_at(value.get("timestamp")),
            model=text_of(value.get("model")),
            message_id=message_id,
        )
        for part, thought in enumerate(map(object_of, list_of(value.get("thoughts")))):
            text = "\n".join(filter(None, (text_of(thought.get("subject")), text_of(thought.get("description")))))
            thought_id = f"{message_id}/thought" if message_id else ""
            if text:
                yield replace(base, kind="reasoning", text=text, message_id=thought_id, part=part)
        if text := _text_of_parts(value.get("displayContent") or value.get("content")):
            yield replace(base, text=text)
        for call in map(object_of, list_of(value.get("toolCalls"))):
            yield from self._read_call(base, call)

    def _read_call(self, base: Message, call: Json) -> Iterator[Message]:
        call_id = text_of(call.get("id"))
        base = replace(
            base,
            tool=text_of(call.get("name")),
            call=call_id,
            said_at=parse_said_at(call.get("timestamp")) or base.said_at,
            message_id=f"{base.message_id}/{call_id}" if base.message_id and call_id else "",
        )
        yield replace(base, kind="tool_call", data=call.get("args"))
        text = _text_of_parts(call.get("result")) or text_of(call.get("resultDisplay"))
        if text:
            result_id = f"{base.message_id}/result" if base.message_id else ""
            yield replace(base, kind="tool_result", text=text, message_id=result_id)


def _text_of_parts(parts: object) -> str:
    """Return the text of a part or a list of parts of the Gemini API."""
    if isinstance(parts, str):
        return parts if parts.strip() else ""
    texts = []
    for part in parts if isinstance(parts, list) else [parts]:
        value = object_of(part)
        response = object_of(object_of(value.get("functionResponse")).get("response"))
        if isinstance(part, str) or isinstance(value.get("text"), str):
            texts.append(part if isinstance(part, str) else str(value["text"]))
        elif media := object_of(value.get("inlineData")) or object_of(value.get("fileData")):
            texts.append(describe_media(media))
        elif response:
            texts += [text for name in ("output", "content", "error") if (text := text_of(response.get(name)))]
    return "\n".join(texts) if any(text.strip() for text in texts) else ""
