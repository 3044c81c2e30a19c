"""An episode: the summary of a session, extracted from its records one after another. Pure, without a model.

Memory is bounded for a session of any length: the first and the last questions and decisions stay, files are
counted, and open ends are those of the last turns. Of a long text only its beginning and its end are examined.
"""

import re
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ctxfs.context.build.secrets import withhold_secrets
from ctxfs.context.build.sentences import sentences
from ctxfs.context.episodes.excerpts import Excerpt, Excerpts, TouchedFiles, paths_in
from ctxfs.context.episodes.sentence_rules import decisions_in, is_open, is_question
from ctxfs.context.episodes.tool_outcomes import ToolOutcomes, arguments_of, is_failure
from ctxfs.eventlog.chain import FORGOTTEN
from ctxfs.eventlog.record_text import Message, message_of
from ctxfs.model.path import one_line

SESSION_END = "session_end"
SESSION_KINDS = frozenset(("session_start", SESSION_END, "compaction"))
MAX_EXCERPT_CHARS = 240
_HEAD_CHARS, _TAIL_CHARS = 6_000, 2_000  # of a long text
_SHORT_CHARS = 500  # of the head and the tail, once a session had this many examined characters: 3 seconds
_MAX_EXAMINED_CHARS = 24_000_000
_MAX_TURNS = 12  # in which open work is looked for
_MAX_WAITING = 5
_MAX_NAMES = 1_000
_QUESTIONS = (12, 28)  # the first and the last
_DECISIONS = (12, 28)
_MAX_QUESTION_CHARS = 4_000  # of an input
_TAGGED = re.compile(
    r"<([A-Za-z][\w-]{0,40})(?:\s[^<>]{0,200})?>[^<]{0,4000}</\1>|</?[A-Za-z][\w-]{0,40}(?:\s[^<>]{0,200})?/?>"
)
_FORGING = re.compile(r"[\[\]<>`]|(?<=\.jsonl):")
_INVISIBLE = re.compile("[\u00ad\u034f\u180e\u200b\u2060-\u2064\ufeff]")  # `one_line` keeps them
_ANSWERS = frozenset(("output",))
_TALK = frozenset(("input", "output", "note"))


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn of the talk whose sentences may name open work."""

    cite: str
    speaker: str
    text: str


class EpisodeBuilder:
    """The state of a summary. `add` takes the records of one session in their order."""

    def __init__(self) -> None:
        self.records = 0
        self.kinds = Counter[str]()
        self.speakers = Counter[str]()
        self.principals = Counter[str]()
        self.clients = Counter[str]()
        self.first_at: datetime | None = None
        self.last_at: datetime | None = None
        self.last_cite = ""
        self.last_seq = 0
        self.is_ended = False
        self.questions = Excerpts(*_QUESTIONS)
        self.decisions = Excerpts(*_DECISIONS)
        self.files = TouchedFiles()
        self.waiting = deque[Excerpt](maxlen=_MAX_WAITING)  # inputs since the last answer
        self._outcomes = ToolOutcomes()
        self._turns = deque[_Turn](maxlen=_MAX_TURNS)
        self._examined_chars = 0

    def add(self, cite: str, record: Mapping[str, Any]) -> None:
        """Add a record with its citation; erased records leave nothing."""
        if FORGOTTEN in record:
            return
        kind = str(record.get("kind", "note"))[:64]
        self.records += 1
        self.last_cite = cite
        self.last_seq = record["seq"] if isinstance(record.get("seq"), int) else self.last_seq
        self.is_ended = kind == SESSION_END
        _count(self.kinds, kind)
        _count(self.principals, str(record.get("principal", ""))[:100])
        _count(self.clients, str(record.get("client") or "")[:100])
        if kind in SESSION_KINDS:
            return
        message = message_of(record)
        if kind == "tool_call":
            self._add_call(cite, record)
        elif kind == "tool_result":
            self._outcomes.add_result(record, _result_excerpt(cite, record, message) if is_failure(record) else None)
        if message is not None:
            self._add_message(cite, message)

    @property
    def failures(self) -> list[Excerpt]:
        """The failed calls that no later call made good, oldest first."""
        return self._outcomes.failures

    def open_work(self) -> list[Excerpt]:
        """Return the sentences of the last turns that name work to do."""
        return [
            Excerpt(turn.cite, turn.speaker, clip(sentence.text))
            for turn in self._turns
            for sentence in sentences(withhold_secrets(turn.text)[0])
            if is_open(sentence.text)
        ]

    def _add_call(self, cite: str, record: Mapping[str, Any]) -> None:
        arguments = arguments_of(record)
        self._outcomes.add_call(record, arguments)
        for path in paths_in(arguments):
            self.files.add(path, cite)

    def _add_message(self, cite: str, message: Message) -> None:
        if message.said_at is not None:
            self.first_at = min(self.first_at or message.said_at, message.said_at)
            self.last_at = max(self.last_at or message.said_at, message.said_at)
        if message.is_from_tool:
            return
        _count(self.speakers, message.speaker)
        if message.kind not in _TALK:
            return
        text = self._examined_part(message.text)
        if message.kind == "input":
            self._add_input(cite, message.speaker, text)
        elif message.kind in _ANSWERS:
            self.waiting.clear()
        for sentence in decisions_in(text):
            self.decisions.add(Excerpt(cite, message.speaker, clip(sentence)))
        self._turns.append(_Turn(cite, message.speaker, text[-_TAIL_CHARS:]))

    def _examined_part(self, text: str) -> str:
        """Return the head and the tail of a text, short ones in a very long session."""
        is_long = self._examined_chars > _MAX_EXAMINED_CHARS
        head, tail = (_SHORT_CHARS, _SHORT_CHARS) if is_long else (_HEAD_CHARS, _TAIL_CHARS)
        part = text if len(text) <= head + tail else f"{text[:head]}\n\n{text[-tail:]}"
        self._examined_chars += len(part)
        return part

    def _add_input(self, cite: str, speaker: str, text: str) -> None:
        question = first_question(text)
        if question:
            excerpt = Excerpt(cite, speaker, clip(question))
            self.questions.add(excerpt)
            self.waiting.append(excerpt)


def clip(text: str) -> str:
    """Return a text as a part of one line of Markdown, at most MAX_EXCERPT_CHARS long, that forges nothing.

    White space is one space. Control characters are escaped, brackets that would make links, tags or citations get a
    backslash, and so does the colon of a citation of a record. Invisible characters are removed.
    """
    words = " ".join(text[: 8 * MAX_EXCERPT_CHARS].split())
    if len(words) > MAX_EXCERPT_CHARS:
        words = words[:MAX_EXCERPT_CHARS].rsplit(" ", 1)[0] + " …"
    return _FORGING.sub(r"\\\g<0>", one_line(_INVISIBLE.sub("", words)))


def first_question(text: str) -> str:
    """Return the first question of an input, else its first sentence, without secrets and tagged parts; may be empty."""
    text, first = withhold_secrets(_TAGGED.sub(" ", text[:_MAX_QUESTION_CHARS]))[0], ""
    for sentence in sentences(text):
        if is_question(sentence.text):
            return sentence.text
        first = first or sentence.text
    return first or " ".join(text[:MAX_EXCERPT_CHARS].split())


def _result_excerpt(cite: str, record: Mapping[str, Any], message: Message | None) -> Excerpt:
    tool = str(record.get("tool") or "tool")[:80]
    text = message.text.removeprefix(f"{tool}: ") if message is not None else str(record.get("fault", ""))
    return Excerpt(cite, tool, clip(withhold_secrets(_first_line(text))[0]))


def _first_line(text: str) -> str:
    return next((line for line in text[:4_000].split("\n") if line.strip()), "")


def _count(counter: Counter[str], name: str) -> None:
    if name and (name in counter or len(counter) < _MAX_NAMES):
        counter[name] += 1
