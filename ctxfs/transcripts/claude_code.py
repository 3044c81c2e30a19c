"""Transcripts of Claude Code: `~/.claude/projects/<project>/<session>.jsonl`. Pure.

A line of type `user` or `assistant` has a message of the Anthropic API, and the members `uuid`, `sessionId`,
`timestamp`, `cwd`, `isSidechain`. Results of tools are in lines of type `user`. A fork copies lines with their `uuid`
and names their source in `forkedFrom`; older versions copied lines to a new file on each resume. A prompt that the user
types while the model works is in a line of type `attachment` only.
"""

import re
from collections.abc import Iterator

from ctxfs.transcripts.content import read_blocks
from ctxfs.transcripts.message import Json, LeftOut, Message, list_of, object_of, parse_said_at, text_of

CLIENT = "claude-code"
_SYNTHETIC_MODEL = "<synthetic>"
_COMMAND = re.compile(r"<command-name>([^<]{1,200})</command-name>")
_ARGUMENTS = re.compile(r"<command-args>([^<]*)</command-args>")
_COMMAND_OUTPUTS = ("<local-command-", "<bash-stdout>", "<bash-stderr>")
_NOTIFICATION = "<task-notification>"


class ClaudeCodeParser:
    """A parser of the lines of one transcript."""

    def __init__(self, stem: str, left_out: LeftOut) -> None:
        """Create a parser; `stem` is the name of the file without its suffix."""
        self._stem = stem
        self._left_out = left_out

    def parse(self, value: Json) -> Iterator[Message]:
        """Yield the messages of a line."""
        name = text_of(value.get("type"))
        message = object_of(value.get("message"))
        if name == "attachment" and (prompt := _find_queued_prompt(object_of(value.get("attachment")))):
            name, message = "user", {"content": prompt}
        if name not in ("user", "assistant") or not message:
            self._left_out.add(f"type '{name}'" if name else "no type")
            return
        if value.get("isMeta") or value.get("isApiErrorMessage") or message.get("model") == _SYNTHETIC_MODEL:
            self._left_out.add("notices of the client")
            return
        if value.get("isCompactSummary"):
            self._left_out.add("summaries of earlier messages")
            return
        content = message.get("content")
        if name == "user" and isinstance(content, str):
            content = self._read_command(content)
        base = self._make_base(value, message, "input" if name == "user" else "output")
        yield from read_blocks(base, content, self._left_out)

    def _make_base(self, value: Json, message: Json, kind: str) -> Message:
        source = object_of(value.get("forkedFrom"))
        session = text_of(source.get("sessionId")) or text_of(value.get("sessionId")) or self._stem
        agent = text_of(value.get("agentId")) if value.get("isSidechain") else ""
        return Message(
            CLIENT,
            session,
            kind,
            said_at=parse_said_at(value.get("timestamp")),
            model=text_of(message.get("model")),
            message_id=text_of(source.get("messageUuid")) or text_of(value.get("uuid")),
            project=text_of(value.get("cwd")),
            agent=agent,
            has_global_id=True,
        )

    def _read_command(self, text: str) -> object:
        """Return the content of a text of a user: a command without its markup, nothing for the output of one."""
        if text.startswith(_COMMAND_OUTPUTS):
            self._left_out.add("output of local commands")
            return list_of(None)
        if text.startswith(_NOTIFICATION):
            self._left_out.add("notices of the client")
            return list_of(None)
        if text.startswith("<command-") and (match := _COMMAND.search(text)):
            arguments = _ARGUMENTS.search(text)
            return " ".join(filter(None, (match[1], arguments[1].strip() if arguments else "")))
        return text


def _find_queued_prompt(attachment: Json) -> object:
    """Return the content of a prompt of the user in an attachment; None for another attachment."""
    is_prompt = attachment.get("type") == "queued_command" and attachment.get("commandMode", "prompt") == "prompt"
    author = object_of(attachment.get("origin")).get("kind", "human")
    return attachment.get("prompt") if is_prompt and author == "human" and not attachment.get("isMeta") else None
