"""Conversations of an export of ChatGPT: `conversations.json`, or `conversations-000.json` and so on. Pure.

A conversation has `mapping`, a tree of nodes with `message`, `parent` and `children`. The branch from `current_node` to
the root is the conversation; the other branches are replaced versions of its messages.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ctxfs.transcripts.content import flatten_content
from ctxfs.transcripts.message import Json, LeftOut, Message, list_of, object_of, parse_said_at, text_of

CLIENT = "chatgpt"
_RESULT_TYPES = ("execution_output", "tether_quote", "tether_browsing_display", "system_error", "sonic_webpage")
_CONTEXT_TYPES = ("user_editable_context", "model_editable_context", "app_pairing_content", "reasoning_recap")


class ChatGptParser:
    """A parser of conversations."""

    def __init__(self, stem: str, left_out: LeftOut) -> None:
        """Create a parser; `stem` is the name of the file without its suffix."""
        self._stem = stem
        self._left_out = left_out

    def parse(self, value: Json) -> Iterator[Message]:
        """Yield the messages of a conversation, or of an object with the member `conversations`."""
        conversations = value.get("conversations")
        for conversation in list_of(conversations) if "mapping" not in value and conversations else [value]:
            yield from self._read_conversation(object_of(conversation))

    def _read_conversation(self, value: Json) -> Iterator[Message]:
        nodes = object_of(value.get("mapping"))
        if not nodes:
            self._left_out.add("objects that are no conversations")
            return
        session = text_of(value.get("conversation_id")) or text_of(value.get("id"))
        title = text_of(value.get("title"))
        base = Message(CLIENT, session or title or self._stem, "input", title=title, has_global_id=True)
        branch = _list_branch(nodes, text_of(value.get("current_node")))
        others = sum("message" in object_of(node) and bool(node["message"]) for node in nodes.values()) - len(branch)
        if others > 0:
            self._left_out.add("messages of replaced branches", others)
        for message in branch:
            yield from self._read_message(base, message)

    def _read_message(self, base: Message, message: Json) -> Iterator[Message]:
        content, author = object_of(message.get("content")), object_of(message.get("author"))
        metadata = object_of(message.get("metadata"))
        role, content_type = text_of(author.get("role")), text_of(content.get("content_type"))
        if role in ("system", "developer") or content_type in _CONTEXT_TYPES:
            self._left_out.add(f"content '{content_type}'" if content_type in _CONTEXT_TYPES else f"role '{role}'")
            return
        if metadata.get("is_visually_hidden_from_conversation") and role != "tool":
            self._left_out.add("hidden messages")
            return
        base = replace(
            base,
            said_at=parse_said_at(message.get("create_time")),
            model=text_of(metadata.get("model_slug")) if role == "assistant" else "",
            message_id=text_of(message.get("id")),
        )
        text = _read_content(content)
        if not text.strip():
            self._left_out.add("empty messages")
            return
        recipient = text_of(message.get("recipient")) or "all"
        match role:
            case "user":
                yield replace(base, kind="input", text=text, speaker=text_of(author.get("name")))
            case "assistant" if content_type == "thoughts":
                yield replace(base, kind="reasoning", text=text)
            case "assistant" if recipient != "all":
                yield replace(base, kind="tool_call", text=text, tool=recipient)
            case "assistant":
                yield replace(base, kind="output", text=text)
            case "tool":
                yield replace(base, kind="tool_result", text=text, tool=text_of(author.get("name")))
            case _:
                self._left_out.add(f"role '{role}'")


def _list_branch(nodes: Json, leaf: str) -> list[Json]:
    """Return the messages from the root to `leaf`; without a valid leaf, all messages by their time."""
    branch: list[Json] = []
    visited: set[str] = set()
    name = leaf
    while name in nodes and name not in visited:
        visited.add(name)
        node = object_of(nodes[name])
        if message := object_of(node.get("message")):
            branch.append(message)
        name = text_of(node.get("parent"))
    if branch:
        return branch[::-1]
    messages = [object_of(object_of(node).get("message")) for node in nodes.values()]
    return sorted(filter(None, messages), key=lambda message: parse_said_at(message.get("create_time")))


def _read_content(content: Json) -> str:
    if "thoughts" in content:
        thoughts = map(object_of, list_of(content["thoughts"]))
        texts = (text_of(thought.get(name)) for thought in thoughts for name in ("summary", "content"))
        return "\n".join(filter(None, texts))
    if content.get("content_type") in _RESULT_TYPES:
        return text_of(content.get("text")) or text_of(content.get("result")) or text_of(content.get("name"))
    parts = list_of(content.get("parts"))
    return "\n".join(filter(None, map(_read_part, parts))) if parts else flatten_content(content.get("text"))


def _read_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    value = object_of(part)
    if isinstance(value.get("text"), str):
        return str(value["text"])
    name = text_of(value.get("content_type")).removesuffix("_asset_pointer")
    size = value.get("size_bytes")
    return f"[{name or 'media'}, {size} bytes]" if isinstance(size, int) else f"[{name or 'media'}]"
