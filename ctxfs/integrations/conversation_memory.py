"""Conversations of users as a memory with `add`, `search` and `delete_all`, the interface that harnesses of memory systems call.

The shapes of arguments and results are those of Mem0's client. Messages are stored as they are, not summarised.

A file `<root>/<user>/<run>/<digest>.jsonl` has the messages that were added with one time and one metadata: in its first
line `{"session": …, "metadata": {…}}`, then a message a line, `{"speaker": …, "date": …, "text": …}`.
"""

import errno
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ctxfs.integrations.tree_files import decode_name, encode_name, files_below
from ctxfs.library.requests import Request, revision_of
from ctxfs.library.store import Store
from ctxfs.model.change import ABSENT
from ctxfs.model.errors import CommandError, invalid

Messages = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
Result = dict[str, Any]
_SUFFIX = ".jsonl"
_DIGEST_CHARS = 12
_MAX_ATTEMPTS = 50
_MAX_HITS = 1000
_POLL_SECONDS = 0.25
_DATE_FIELDS = ("timestamp", "date", "created_at")
# A message whose text begins with the name of its speaker, as LoCoMo's are given to memory systems.
_NAMED = re.compile(r"\A([^\W\d_][\w.'’-]{0,30}(?: [^\W\d_][\w.'’-]{0,30}){0,2}): (?=\S)")
_FILTER_SYNTAX = re.compile(r"[\"“”]|(?<!\S)-(?=\S)|(?<=\w):(?=\S)")


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a file, with the number of its line."""

    path: str
    line: int
    speaker: str
    date: str
    text: str
    metadata: Mapping[str, Any]


class ConversationMemory:
    """Messages by user and run, below `root`, by default `memory/<principal>/conversations`.

    A search is limited to one user, and to one run of it if that is named. Other keyword arguments of Mem0's client
    are accepted and ignored. OSErrors are those of the store.
    """

    def __init__(self, store: Store, root: str = "") -> None:
        self._store = store
        self._root = root or store.memory.folder("conversations")

    def add(
        self,
        messages: Messages,
        *,
        user_id: str = "",
        agent_id: str = "",
        run_id: str = "",
        metadata: Mapping[str, Any] | None = None,
        timestamp: float | str | datetime | None = None,
        **_: object,
    ) -> Result:
        """Store messages, `{"role": …, "content": …}` each, and return `{"results": [{"id", "memory", "event"}]}`.

        The speaker is the member `speaker` or `name`, a name before the text (`Ada: …`), or the role. The time is
        `timestamp`, or the member `timestamp`, `date` or `created_at` of the message or of `metadata`. Without `user_id` the
        messages belong to `agent_id`.
        """
        header = {"session": run_id, "metadata": dict(metadata or {})}
        shared_date = _format_date(timestamp) or _find_date(metadata or {})
        records = [_parse_message(message, shared_date) for message in _as_list(messages)]
        digest = hashlib.sha256(json.dumps([shared_date, header], sort_keys=True, default=str).encode())
        path = f"{self._directory(user_id or agent_id, run_id)}/{digest.hexdigest()[:_DIGEST_CHARS]}{_SUFFIX}"
        records = [record for record in records if record["text"]]
        first = self._append(path, header, records) if records else 0
        added = [
            {"id": self._id_of(path, line), "memory": _render(record), "event": "ADD"}
            for line, record in enumerate(records, first)
        ]
        return {"results": added}

    def search(
        self,
        query: str,
        *,
        user_id: str = "",
        agent_id: str = "",
        run_id: str = "",
        filters: Mapping[str, Any] | None = None,
        limit: int = 10,
        top_k: int | None = None,
        threshold: float = 0.0,
        **_: object,
    ) -> Result:
        """Return `{"results": […]}`, the messages of a user that match best, each with its id, text, time and score.

        A score is the probability that the message answers, 0 to 1; messages below `threshold` are left out.
        """
        named = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id, **dict(filters or {})}
        directory = self._directory(named["user_id"] or named["agent_id"], named["run_id"])
        count = limit if top_k is None else top_k
        if count <= 0 or not any(map(str.isalnum, query)) or not self._store.exists(directory):
            return {"results": []}
        # Pieces of one message, and first lines, are hits as well.
        hits = self._store.search(
            _FILTER_SYNTAX.sub(_plain_text, query), below=directory, limit=min(2 * count, _MAX_HITS)
        )
        files: dict[str, list[StoredMessage]] = {}
        results: dict[str, Result] = {}
        for hit in hits:
            if hit.path not in files:
                files[hit.path] = list(self._messages(hit.path))
            for message in files[hit.path]:
                score = hit.probability or 0.0
                if hit.first <= message.line <= hit.last and score >= threshold:
                    record = self._result_of(message)
                    results.setdefault(record["id"], {**record, "score": score})
        return {"results": list(results.values())[:count]}

    def get_all(
        self, *, user_id: str = "", agent_id: str = "", run_id: str = "", limit: int | None = None, **_: object
    ) -> Result:
        """Return `{"results": […]}`, the messages of a user in the order of their times and lines."""
        paths = files_below(self._store, self._directory(user_id or agent_id, run_id), _SUFFIX)
        messages = sorted(
            (message for path in paths for message in self._messages(path)),
            key=lambda message: (message.date, message.path, message.line),
        )
        return {"results": [self._result_of(message) for message in messages[:limit]]}

    def get(self, memory_id: str) -> Result | None:
        """Return the message with an id; None if there is none."""
        path, line = self._place_of(memory_id)
        return next((self._result_of(message) for message in self._messages(path) if message.line == line), None)

    def delete(self, memory_id: str) -> Result:
        """Remove a message; the ids of the others stay. Versions keep its text, until `ctxfs forget` erases it."""
        path, line = self._place_of(memory_id)
        if not any(message.line == line for message in self._messages(path)):
            raise FileNotFoundError(errno.ENOENT, "no such message", memory_id)

        def without_line(before: bytes) -> bytes:
            lines = before.split(b"\n")
            lines[line - 1] = b""
            return b"\n".join(lines)

        self._change(path, without_line)
        return {"message": "Memory deleted successfully!"}

    def delete_all(self, *, user_id: str = "", agent_id: str = "", run_id: str = "", **_: object) -> Result:
        """Remove all messages of a user, or of one run of it."""
        self._remove_below(self._directory(user_id or agent_id, run_id))
        return {"message": "Memories deleted successfully!"}

    def reset(self) -> None:
        """Remove the messages of all users."""
        self._remove_below(self._root)

    def wait_indexed(self, timeout: float = 600.0) -> None:
        """Wait until all messages are found by words and by meaning. A daemon and a person as principal are needed.

        Raise TimeoutError after `timeout` seconds.
        """
        status = Request("status", lambda reply: dict(reply["index"]))
        end = time.monotonic() + timeout
        while (index := self._store.send(status)).get("state") != "idle" or index["waiting_for_meaning"]:
            if "state" not in index:
                raise CommandError("no daemon embeds the messages", "start one: ctxfs daemon")
            if time.monotonic() > end:
                raise TimeoutError(f"not indexed within {timeout:g} s")
            time.sleep(_POLL_SECONDS)

    def _directory(self, user: str, run: str = "") -> str:
        if not user:
            raise invalid("user_id", "it is needed, or agent_id")
        parts = [self._root, encode_name(str(user)), *([encode_name(str(run))] if run else [])]
        return "/".join(parts)

    def _append(self, path: str, header: Mapping[str, Any], records: Sequence[Mapping[str, str]]) -> int:
        """Append records to a file, and return the number of the first of their lines."""
        first = 0

        def with_records(before: bytes) -> bytes:
            nonlocal first
            before = before or _line_of(header)
            first = before.count(b"\n") + 1
            return before + b"".join(map(_line_of, records))

        self._change(path, with_records)
        return first

    def _change(self, path: str, edit: Callable[[bytes], bytes]) -> None:
        """Write a changed content; if another writer was first, change its content instead."""
        for attempt in range(_MAX_ATTEMPTS):
            before = self._read(path)
            try:
                expects = ABSENT if before is None else revision_of(before)
                self._store.write(path, edit(before or b""), expects=expects)
            except OSError as error:
                if error.errno not in (errno.ESTALE, errno.EEXIST) or attempt == _MAX_ATTEMPTS - 1:
                    raise
            else:
                return

    def _read(self, path: str) -> bytes | None:
        try:
            return self._store.read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _messages(self, path: str) -> Iterator[StoredMessage]:
        lines = (self._read(path) or b"").decode("utf-8", "replace").split("\n")
        metadata: Mapping[str, Any] = {}
        for number, line in enumerate(lines, 1):
            record = _parse_record(line)
            if isinstance(record.get("metadata"), dict):
                metadata = record["metadata"]
            elif record.get("text"):
                speaker, date = str(record.get("speaker", "")), str(record.get("date", ""))
                yield StoredMessage(path, number, speaker, date, str(record["text"]), metadata)

    def _result_of(self, message: StoredMessage) -> Result:
        user, *run = message.path[len(self._root) + 1 :].split("/")[:-1]
        return {
            "id": self._id_of(message.path, message.line),
            "memory": _render({"speaker": message.speaker, "text": message.text}),
            "user_id": decode_name(user),
            "run_id": decode_name(run[0]) if run else "",
            "created_at": message.date,
            "metadata": {"timestamp": message.date, **message.metadata},
        }

    def _id_of(self, path: str, line: int) -> str:
        return f"{path[len(self._root) + 1 :]}:{line}"

    def _place_of(self, memory_id: str) -> tuple[str, int]:
        name, _, line = memory_id.rpartition(":")
        if not line.isdecimal() or len(line) > 9 or not name.endswith(_SUFFIX) or ".." in name.split("/"):
            raise FileNotFoundError(errno.ENOENT, "no such message", memory_id)
        return f"{self._root}/{name}", int(line)

    def _remove_below(self, directory: str) -> None:
        for path in list(files_below(self._store, directory, _SUFFIX)):
            self._store.remove(path)


def _as_list(messages: Messages) -> Sequence[Mapping[str, Any]]:
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    return [messages] if isinstance(messages, Mapping) else messages


def _parse_message(message: Mapping[str, Any], shared_date: str) -> dict[str, str]:
    content = message.get("content", message.get("text"))
    if isinstance(content, list):  # parts, as of a chat completion
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    text = " ".join(str(content or "").split())
    speaker = str(message.get("speaker") or message.get("name") or "")
    match = _NAMED.match(text)
    if match is not None and speaker in ("", match[1]):
        speaker, text = match[1], text[match.end() :]
    record = {"speaker": speaker or str(message.get("role") or "user"), "date": _find_date(message) or shared_date}
    return {**record, "text": text}


def _find_date(record: Mapping[str, Any]) -> str:
    return next((date for name in _DATE_FIELDS if (date := _format_date(record.get(name)))), "")


def _format_date(value: Any) -> str:
    """Return a time as text: seconds since the epoch in ISO 8601, a text as it is; empty for another value."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, UTC).isoformat()
        except (ValueError, OverflowError, OSError):
            return ""
    return value.strip() if isinstance(value, str) else ""


def _parse_record(line: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _line_of(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False, default=str) + "\n").encode("utf-8", "replace")


def _render(record: Mapping[str, str]) -> str:
    return f"{record['speaker']}: {record['text']}"


def _plain_text(match: re.Match[str]) -> str:
    """Return the replacement of a character with a meaning in the language of questions."""
    return ": " if match[0] == ":" else " "
