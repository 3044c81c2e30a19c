"""Certificates: entries of the log in which a node states, part by part, that it has erased contents.

The data of such an entry is a JSON object: the number of the erasure's entry, and an answer for each part. A node that
has not answered is listed as such.
"""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as HostPath
from typing import Any

from ctxfs.shared.log import Entry, EntryKind, LogRefused, SharedLog, all_entries
from ctxfs.store.durable_file import replace_file

PARTS = ("versions", "index", "caches", "remotes", "exports")
MAX_DATA_BYTES = 20_000
MAX_ANSWER_CHARACTERS = 2000
_FORMAT = 1

Answers = Mapping[str, str]


@dataclass(slots=True)
class ErasureReport:
    """One erasure: the number and time of its entry, the node that ordered it, and the answers by node.

    A node of the log without answers has not stated that it has erased the contents.
    """

    number: int
    time_ns: int
    node: str
    answers: dict[str, Answers] = field(default_factory=dict)


class CertificateTopic:
    """Publishes the certificates of this node, and checks those of others."""

    def __init__(self, repo: HostPath, node: str, others: Callable[[], Answers]) -> None:
        """Take the folder of the state and the node's name. `others` returns the answers for remotes and exports."""
        self._node = node
        self._file = repo / "ctxfs-topic-certificates.json"
        self._others = others
        self.fault = ""

    def begin(self, number: int, derived: Mapping[str, int]) -> None:
        """Begin a certificate, after versions and caches were erased. The index follows by `record_purge`."""
        caches = ", ".join(f"{count} {kind}" for kind, count in derived.items() if count)
        answers = {"versions": "erased", "caches": f"erased: {caches}" if caches else "erased"}
        self._write({**self._read(), str(number): answers})

    def record_purge(self) -> None:
        """State that the index, its vectors included, no longer has erased contents."""
        waiting = self._read()
        if self.is_purge_due():
            self._write({number: {**answers, "index": "erased"} for number, answers in waiting.items()})

    def is_purge_due(self) -> bool:
        """Return True if the index may still have erased contents."""
        return any("index" not in answers for answers in self._read().values())

    def has_news(self) -> bool:
        """Return True if a certificate is complete. See `Topic.has_news`."""
        return self._complete() is not None

    def pending(self) -> bytes | None:
        """Return the data of the next certificate. See `Topic.pending`."""
        number = self._complete()
        if number is None:
            return None
        answers = {**self._read()[number], **self._others()}
        return json.dumps({"format": _FORMAT, "number": int(number), "answers": answers}).encode()

    def take(self, entry: Entry) -> None:
        """Check a certificate; one of this node is published now. See `Topic.take`."""
        try:
            number, _ = decode_certificate(entry.data)
        except ValueError as error:
            raise LogRefused(
                f"entry {entry.number} of node '{entry.node}' is refused: its certificate is broken: {error}",
                "mend it there; this store stays as it is",
            ) from error
        waiting = self._read()
        if entry.node == self._node and str(number) in waiting:
            self._write({key: answers for key, answers in waiting.items() if key != str(number)})

    def _complete(self) -> str | None:
        return next((number for number, answers in self._read().items() if "index" in answers), None)

    def _read(self) -> dict[str, dict[str, str]]:
        with contextlib.suppress(FileNotFoundError):
            waiting: dict[str, dict[str, str]] = json.loads(self._file.read_bytes())
            return waiting
        return {}

    def _write(self, waiting: Mapping[str, Answers]) -> None:
        replace_file(self._file, json.dumps(waiting).encode(), 0o600)


def decode_certificate(data: bytes) -> tuple[int, Answers]:
    """Return (number of the erasure, answers). Raise ValueError for data that no node can have made."""
    if len(data) > MAX_DATA_BYTES:
        raise ValueError(f"it has more than {MAX_DATA_BYTES} bytes")
    try:
        values: Any = json.loads(data.decode("ascii"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict) or set(values) != {"format", "number", "answers"} or values["format"] != _FORMAT:
        raise ValueError("it has other fields")
    number, answers = values["number"], values["answers"]
    if type(number) is not int or number < 1 or not isinstance(answers, dict) or set(answers) != set(PARTS):
        raise ValueError("it does not answer for each part")
    for text in answers.values():
        if not isinstance(text, str) or not 0 < len(text) <= MAX_ANSWER_CHARACTERS or not text.isprintable():
            raise ValueError("an answer is not a text")
    return number, answers


def read_reports(log: SharedLog) -> tuple[Sequence[ErasureReport], Sequence[str]]:
    """Return all erasures of a log with the certificates of its nodes, and the names of all nodes."""
    reports, nodes = dict[int, ErasureReport](), set[str]()
    for entry in all_entries(log, 0):
        nodes.add(entry.node)
        if entry.kind is EntryKind.ERASE:
            reports[entry.number] = ErasureReport(entry.number, entry.time_ns, entry.node)
        elif entry.kind is EntryKind.CERTIFICATE:
            with contextlib.suppress(ValueError):
                number, answers = decode_certificate(entry.data)
                if number in reports:
                    reports[number].answers[entry.node] = answers
    return list(reports.values()), sorted(nodes)
