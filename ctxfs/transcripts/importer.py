"""The import of transcripts: messages are read, chosen, identified, cleaned, and sent to the event log in batches.

Each batch is in the log before the next one is read. So an import that ends early is continued by the next one.
"""

import errno
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ctxfs.eventlog.client_sessions import CapturedMessages, matched_text, session_of_client
from ctxfs.model.path import printable_text
from ctxfs.transcripts.cleaning import MAX_RESULT_CHARS, MAX_TEXT_CHARS, Cleaned, clean_data, clean_text
from ctxfs.transcripts.gemini import HASH_PREFIX
from ctxfs.transcripts.identity import MAX_ID_CHARS, Identities, Identity, content_of, shorten_id
from ctxfs.transcripts.json_files import UNFINISHED, Item
from ctxfs.transcripts.json_lines import JsonLinesParser
from ctxfs.transcripts.message import LeftOut, Message, parse_said_at
from ctxfs.transcripts.sources import Progress, Source

_BATCH_MESSAGES = 512
_BATCH_CHARS = 4 << 20
_MAX_LABEL_CHARS = 500
_MAX_FAULTS = 1000
_MAX_CALLS = 100_000
_MAX_SHORT_IDS = 100
_MAX_MEASURED_VALUES = 1000
_LABELS = ("speaker", "model", "tool", "call", "message_id", "project", "agent", "title")


@dataclass(frozen=True, slots=True)
class SessionState:
    """The state of a session of the log: positions of known identities, time of an erasure, messages of hooks."""

    known: frozenset[int]
    erased_at: str
    captured: Sequence[tuple[str, str]]


class ImportTarget(Protocol):
    """The event log that messages are imported into. Methods raise OSError EPERM for a session of another principal."""

    def state(
        self, session: str, ids: Sequence[bytes], *, with_captured: bool = False, with_inputs: bool = False
    ) -> SessionState:
        """Return the state of a session, with the messages of hooks, or also with all messages of kind `input`."""
        ...

    def append(self, session: str, records: Sequence[Mapping[str, Any]]) -> int:
        """Append records that the log does not have yet; return their number."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """The messages to import: of the time `since` (ISO 8601 in UTC) or later, in the folder `project` or below."""

    since: str = ""
    project: str = ""
    is_dry_run: bool = False

    def includes(self, message: Message, changed_at: str) -> bool:
        """Return True for a chosen message; `changed_at` is the time of messages without one."""
        if self.since and (message.said_at or changed_at) < self.since:
            return False
        return not self.project or self._is_of_project(message.project)

    def _is_of_project(self, project: str) -> bool:
        if project.startswith(HASH_PREFIX):
            return project == HASH_PREFIX + hashlib.sha256(self.project.encode()).hexdigest()
        return project == self.project or project.startswith(f"{self.project.rstrip('/')}/")


@dataclass(slots=True)
class Report:
    """The numbers of an import, and the files and lines that were not imported, with the reason."""

    files: int = 0
    messages: int = 0
    added: int = 0
    already_there: int = 0
    captured: int = 0
    not_chosen: int = 0
    erased: int = 0
    sessions: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    cleaned: Cleaned = field(default_factory=Cleaned)


@dataclass(slots=True)
class _Candidate:
    message: Message
    identity: Identity
    content: tuple[str, Any] | None


@dataclass(slots=True)
class _Session:
    """The state of a session during the import of one transcript."""

    captured: CapturedMessages
    erased_at: str = ""
    is_copy: bool = True  # until the first message that the source of a fork does not have


class Importer:
    """An import into one event log."""

    def __init__(self, target: ImportTarget, choice: Choice) -> None:
        self._target = target
        self._choice = choice
        self.report = Report()
        self._sessions: dict[str, _Session] = {}
        self._seen: set[bytes] = set()  # identities of a dry run
        self._complete: set[tuple[str, str]] = set()  # sessions with complete transcripts
        self._tools: dict[str, str] = {}  # call → tool, in one transcript
        self._short_ids: dict[str, str] = {}  # ids that are too long, so that each is hashed once
        self._batch: list[_Candidate] = []
        self._chars = 0

    def read(self, source: Source, progress: Progress) -> None:
        """Import one transcript. Errors of the file are added to the report, errors of the log are raised."""
        parser = source.make_parser(self.report.left_out)
        identities = Identities()
        self._sessions.clear()
        self._tools.clear()
        changed_at = parse_said_at(source.changed_at)
        self.report.files += 1
        origin = f"import:{source.name}"
        for item in self._read_items(source, progress):
            if item.value is None:
                self._report_item(source, item)
                continue
            for message in parser.parse(item.value):
                self._add(message, identities, changed_at, origin)
        if isinstance(parser, JsonLinesParser):
            parser.check()
        self._flush(origin)

    def _read_items(self, source: Source, progress: Progress) -> Iterator[Item]:
        items = source.read(progress)
        while True:
            try:
                item = next(items, None)
            except (OSError, MemoryError) as error:
                reason = getattr(error, "strerror", None) or "it takes too much memory"
                _append_bounded(self.report.faults, (source.name, reason))
                return
            if item is None:
                return
            yield item

    def _report_item(self, source: Source, item: Item) -> None:
        if item.problem == UNFINISHED:
            _append_bounded(self.report.unfinished, source.name)
        else:
            _append_bounded(self.report.damaged, (source.name, item.problem))

    def _add(self, message: Message, identities: Identities, changed_at: str, origin: str) -> None:
        self.report.messages += 1
        message = self._name_tool(self._shorten_ids(message))
        content: tuple[str, Any] | None = None

        def describe() -> str:
            nonlocal content
            content = self._clean(message)
            return content_of(*content)

        try:
            identity = identities.identify(message, describe)
        except RecursionError:
            self.report.left_out.add("values that are nested too deeply")
            return
        if not message.is_extract:
            self._complete.add((message.client, message.client_session))
        elif (message.client, message.client_session) in self._complete:
            self.report.already_there += 1
            return
        if not self._choice.includes(message, changed_at):
            self.report.not_chosen += 1
            return
        self._batch.append(_Candidate(message, identity, content))
        self._chars += len(message.text) + _measure_value(message.data)
        if len(self._batch) >= _BATCH_MESSAGES or self._chars >= _BATCH_CHARS:
            self._flush(origin)

    def _shorten_ids(self, message: Message) -> Message:
        """Return a message with ids of bounded length: a parser repeats the id of a session in each of its messages."""
        if max(len(message.client_session), len(message.copied_from), len(message.message_id)) <= MAX_ID_CHARS:
            return message
        if len(self._short_ids) > _MAX_SHORT_IDS:
            self._short_ids.clear()
        session, source, message_id = map(
            self._shorten_id, (message.client_session, message.copied_from, message.message_id)
        )
        return replace(message, client_session=session, copied_from=source, message_id=message_id)

    def _shorten_id(self, text: str) -> str:
        if text not in self._short_ids:
            self._short_ids[text] = shorten_id(text)
        return self._short_ids[text]

    def _name_tool(self, message: Message) -> Message:
        """Return a result of a tool with the name of the tool, which clients give with the call only."""
        if message.kind == "tool_call" and message.call and len(self._tools) < _MAX_CALLS:
            self._tools[message.call] = message.tool
        if message.kind == "tool_result" and not message.tool:
            return replace(message, tool=self._tools.get(message.call, ""))
        return message

    def _clean(self, message: Message) -> tuple[str, Any]:
        limit = MAX_RESULT_CHARS if message.kind == "tool_result" else MAX_TEXT_CHARS
        text = clean_text(message.text, limit, self.report.cleaned) if message.text else ""
        return text, clean_data(message.data, self.report.cleaned) if message.data is not None else None

    def _flush(self, origin: str) -> None:
        by_session: dict[str, list[_Candidate]] = {}
        for candidate in self._batch:
            session = session_of_client(candidate.message.client, candidate.message.client_session)
            by_session.setdefault(session, []).append(candidate)
        self._batch, self._chars = [], 0
        for session, candidates in by_session.items():
            try:
                self._import_session(session, candidates, origin)
            except OSError as error:
                if error.errno != errno.EPERM:
                    raise
                self.report.refused.add(session)

    def _import_session(self, session: str, candidates: Sequence[_Candidate], origin: str) -> None:
        ids = [name for candidate in candidates for name in candidate.identity]
        wanted = [name for name in ids if name]
        is_first = session not in self._sessions
        has_extract = is_first and any(candidate.message.is_extract for candidate in candidates)
        state = self._target.state(session, wanted, with_captured=is_first, with_inputs=has_extract)
        known = {wanted[position] for position in state.known} | (self._seen & set(wanted))
        begun = self._sessions.get(session)
        if begun is None:
            begun = self._sessions[session] = _Session(CapturedMessages(state.captured), state.erased_at)
        records = []
        for candidate in candidates:
            if self._is_new(candidate, begun, known):
                text, data = candidate.content or self._clean(candidate.message)
                if not text.strip() and data is None and candidate.message.kind != "tool_call":
                    self.report.left_out.add("texts that are private as a whole")
                elif begun.captured.take(candidate.message.kind, _matched_text(candidate.message, text)):
                    self.report.captured += 1
                else:
                    records.append(self._make_record(candidate, text, data, origin))
        self.report.sessions.add(session)
        if self._choice.is_dry_run:
            self._seen.update(bytes.fromhex(record["import_id"]) for record in records)
            self.report.added += len(records)
        elif records:
            added = self._target.append(session, records)
            self.report.added += added
            self.report.already_there += len(records) - added

    def _make_record(self, candidate: _Candidate, text: str, data: Any, origin: str) -> dict[str, Any]:
        message = candidate.message
        record: dict[str, Any] = {"import_id": candidate.identity.own.hex(), "kind": message.kind}
        if text or data is None:
            record["text"] = text
        if data is not None:
            record["data"] = data
        labels = {name: self._clean_label(getattr(message, name)) for name in _LABELS}
        record |= {name: value for name, value in {"said_at": message.said_at, **labels}.items() if value}
        session = printable_text(message.client_session)
        return {**record, "client": message.client, "client_session": session, "origin": self._clean_label(origin)}

    def _clean_label(self, text: str) -> str:
        return clean_text(text[:_MAX_LABEL_CHARS], _MAX_LABEL_CHARS, self.report.cleaned) if text else ""

    def _is_new(self, candidate: _Candidate, begun: _Session, known: set[bytes]) -> bool:
        """Return True for a message that is to be added; count the others."""
        own, copied = candidate.identity
        is_known = own in known
        if copied and begun.is_copy and not is_known:
            is_known = begun.is_copy = copied in known
        if is_known:
            self.report.already_there += 1
            return False
        if begun.erased_at and (candidate.message.said_at or "") <= begun.erased_at:
            self.report.erased += 1
            return False
        known.add(own)
        return True


def _matched_text(message: Message, text: str) -> str:
    return matched_text({"kind": message.kind, "call": message.call, "text": text})


def _measure_value(value: Any) -> int:
    """Return about the number of characters of a JSON value; that of a whole batch for one with very many values."""
    chars, pending = 0, [value]
    for _ in range(_MAX_MEASURED_VALUES):
        if not pending:
            return chars
        match pending.pop():
            case str() as text:
                chars += len(text)
            case list() as items:
                pending += items
            case dict() as members:
                chars += sum(map(len, members))
                pending += members.values()
    return _BATCH_CHARS


def _append_bounded(items: list[Any], item: Any) -> None:
    if len(items) < _MAX_FAULTS:
        items.append(item)
