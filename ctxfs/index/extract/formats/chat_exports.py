"""Reader of chat exports in JSON: ChatGPT, Claude, Slack, Telegram, Discord and others, message by message."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats.cut_json import parse_cut_json, read_cut_rest
from ctxfs.index.extract.formats.json_messages import Message, find_author, find_day, has_messages, iterate_messages
from ctxfs.index.extract.formats.json_text import fit_messages, join_envelope
from ctxfs.index.extract.formats.slack_users import name_of
from ctxfs.index.extract.formats.source_lines import SourceLines

# One of these names is near the beginning of every export, so that other files are not parsed.
_SIGN = re.compile(
    r'"(?:mapping|chat_messages|messages|client_msg_id|user_profile|conversations|chats|sender_name|subtype)"'
    r'|"type"\s{0,4}:\s{0,4}"message"'
)
_SIGN_CHARACTERS = 200_000
_LIST_FIELDS = ("chat_messages", "messages", "conversations", "turns", "history")
_TITLE_FIELDS = ("title", "name", "topic", "subject")
_MAX_NODES = 200_000
# Of Slack: a user, a channel, or a group such as `<!here>`.
_MENTION = re.compile(r"<([@#!])([A-Za-z0-9^_-]{2,40})(?:\|([^>]{0,80}))?>")


def read_chat_export(text: str) -> Iterator[Chunk] | None:
    """Return the messages of an export as chunks; None if the text is none."""
    if not _SIGN.search(text[:_SIGN_CHARACTERS]):
        return None
    value, rest = parse_cut_json(text)
    chats = list(_find_chats(value))
    return _read_chats(chats, SourceLines(text), rest) if chats else None


def _read_chats(chats: list[tuple[str, list[Message]]], lines: SourceLines, rest: str) -> Iterator[Chunk]:
    for title, messages in chats:
        placed = []
        for message in messages:
            line = lines.find(message.text)
            repaired = replace(message, text=_repair_encoding(message.text), author=_repair_encoding(message.author))
            placed.append((repaired, line, line))
        yield from fit_messages(placed, title)
    yield from read_cut_rest(rest, lines)


def _find_chats(value: Any) -> Iterator[tuple[str, list[Message]]]:
    """Yield (title, messages) of each chat in an export."""
    if isinstance(value, dict) and isinstance(value.get("chats"), dict):  # all chats of Telegram
        value = value["chats"].get("list")
    if isinstance(value, list) and has_messages(value[:50]) and not any(map(_get_messages, value[:50])):
        value = [{"messages": value}]  # a day of Slack
    for chat in value if isinstance(value, list) else [value]:
        if not isinstance(chat, dict):
            continue
        if isinstance(chat.get("mapping"), dict):
            messages = list(_read_mapping(chat["mapping"]))
        else:
            messages = list(_read_entries(_get_messages(chat)))
        if messages:
            yield _find_title(chat), messages


def _get_messages(chat: Any) -> list[Any]:
    """Return the list of messages of a chat; empty if it has none."""
    if not isinstance(chat, dict):
        return []
    if isinstance(chat.get("mapping"), dict):
        return [chat["mapping"]]
    lists = (chat.get(name) for name in _LIST_FIELDS)
    return next((list(value) for value in lists if isinstance(value, list) and has_messages(value)), [])


def _find_title(chat: Mapping[str, Any]) -> str:
    channel = chat.get("channel")
    names = [chat.get(name) for name in _TITLE_FIELDS] + ([channel.get("name")] if isinstance(channel, dict) else [])
    return next((" ".join(name.split())[:200] for name in names if isinstance(name, str) and name.strip()), "")


def _read_entries(entries: list[Any]) -> Iterator[Message]:
    """Yield the messages of a list, with the names of their authors where the list has them."""
    names = _find_user_names(entries)
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        author = find_author(entry)
        is_duplicate = isinstance(entry.get("text"), str) and isinstance(entry.get("content"), list)  # Claude has both
        shown = {
            name: value for name, value in entry.items() if not (is_duplicate and name == "text" and entry["content"])
        }
        for name in ("blocks", "user_profile", "reactions", "uuid", "client_msg_id", "text_entities"):
            shown.pop(name, None)  # the same text again, and ids
        for message in join_envelope(list(iterate_messages(shown))):
            text = _MENTION.sub(lambda match: _show_mention(match, names), message.text)
            yield replace(message, text=text, author=names.get(author, message.author))


def _show_mention(match: re.Match[str], names: Mapping[str, str]) -> str:
    """Return a mention as its readers see it: `@Ann`, `#general`, `@here`."""
    mark, identifier, label = match.groups()
    name = names.get(identifier) if mark == "@" else None
    shown = name or (label or identifier).lstrip("@#")
    return f"{'#' if mark == '#' else '@'}{shown}"


def _find_user_names(entries: list[Any]) -> dict[str, str]:
    """Return the names of the users by their ids, from the profiles in the messages of Slack."""
    names: dict[str, str] = {}
    for entry in entries:
        profile, user = (entry.get("user_profile"), entry.get("user")) if isinstance(entry, dict) else (None, None)
        if isinstance(profile, dict) and isinstance(user, str) and (name := name_of(profile)):
            names[user] = name
    return names


def _repair_encoding(text: str) -> str:
    """Return a text whose UTF-8 was exported as Latin-1, as Facebook does, in its own characters."""
    if text.isascii() or any(char > "\xff" for char in text):
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except ValueError:
        return text


def _read_mapping(mapping: Mapping[str, Any]) -> Iterator[Message]:
    """Yield the messages of a tree of ChatGPT, depth first, so that an answer follows its question."""
    nodes = {key: node for key, node in mapping.items() if isinstance(node, dict)}
    pending = [key for key, node in reversed(nodes.items()) if node.get("parent") not in nodes]
    seen: set[str] = set()
    while pending and len(seen) < _MAX_NODES:
        key = pending.pop()
        if key in seen or key not in nodes:
            continue
        seen.add(key)
        children = nodes[key].get("children")
        pending.extend(
            child for child in reversed(children if isinstance(children, list) else []) if isinstance(child, str)
        )
        message = nodes[key].get("message")
        if isinstance(message, dict) and (text := _read_content(message.get("content"))):
            author = message.get("author")
            name = find_author(author) if isinstance(author, dict) else ""
            yield Message(text, name, find_day(message))


def _read_content(content: Any) -> str:
    """Return the text of the content of a message of ChatGPT."""
    if not isinstance(content, dict):
        return content if isinstance(content, str) else ""
    parts = content.get("parts")
    texts = [part if isinstance(part, str) else part.get("text") for part in parts if isinstance(part, str | dict)] if (
        isinstance(parts, list)
    ) else [content.get("text"), content.get("result")]  # fmt: skip
    return "\n".join(text for text in texts if isinstance(text, str)).strip()
