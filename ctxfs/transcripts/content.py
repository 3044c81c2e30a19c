"""Content of messages that several clients share: blocks of text, reasoning, tool calls and results, media. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ctxfs.transcripts.long_strings import measure_text
from ctxfs.transcripts.message import Json, LeftOut, Message, list_of, object_of, text_of

_REMINDER = "<system-reminder>"
_REMINDER_END = "</system-reminder>"
_BASE64_BYTES_PER_CHAR = 0.75


def read_blocks(message: Message, content: object, left_out: LeftOut) -> Iterator[Message]:
    """Yield a message for each block of a content in the form of the Anthropic API: a text, or a list of blocks.

    `message` has the common members; the `kind` of its texts is that of the message.
    """
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for part, block in enumerate(list_of(content)):
        block = {"type": "text", "text": block} if isinstance(block, str) else object_of(block)
        name = text_of(block.get("type"))
        match name:
            case "text":
                text = text_of(block.get("text"))
                if text.lstrip().startswith(_REMINDER) and text.rstrip().endswith(_REMINDER_END):
                    left_out.add("reminders of the client")
                elif text.strip():
                    yield replace(message, part=part, text=text)
            case "thinking":
                if text := text_of(block.get("thinking")):
                    yield replace(message, part=part, kind="reasoning", text=text)
            case "tool_use" | "server_tool_use" | "mcp_tool_use":
                tool, call_id = text_of(block.get("name")), text_of(block.get("id"))
                yield replace(message, part=part, kind="tool_call", data=block.get("input"), tool=tool, call=call_id)
            case "tool_result" | "web_search_tool_result" | "mcp_tool_result":
                text = flatten_content(block.get("content"))
                call_id = text_of(block.get("tool_use_id"))
                yield replace(message, part=part, kind="tool_result", text=text, call=call_id)
            case "image" | "document":
                yield replace(message, part=part, text=describe_media(block))
            case "redacted_thinking" | "token_budget" | "flag":
                left_out.add(name)
            case _:
                left_out.add(f"block '{name}'")


def flatten_content(content: object) -> str:
    """Return the text of the content of a tool result: a text, or a list of texts and media."""
    match content:
        case str():
            return content
        case list():
            return "\n".join(filter(None, map(_text_of_block, content)))
        case None:
            return ""
        case _:
            return _text_of_block(content)


def _text_of_block(block: Any) -> str:
    if isinstance(block, str):
        return block
    value = object_of(block)
    for name in ("text", "output", "content", "title"):
        if isinstance(value.get(name), str):
            return str(value[name])
    if "text" not in text_of(value.get("type")) and ("source" in value or "image_url" in value or "data" in value):
        return describe_media(value)
    return ""


def describe_media(block: Json) -> str:
    """Return a mark in place of an image or another binary block, with its type and size."""
    source = object_of(block.get("source")) or block
    media_type = text_of(source.get("media_type")) or text_of(source.get("mimeType")) or text_of(block.get("type"))
    data = text_of(source.get("data")) or text_of(block.get("image_url"))
    if data.startswith("data:"):
        media_type = data[5:].partition(";")[0].partition(",")[0] or media_type
    if not data:
        return f"[{media_type or 'image'}]"
    size = int(measure_text(data).chars * _BASE64_BYTES_PER_CHAR)
    return f"[{media_type or 'image'}, {size} bytes]"
