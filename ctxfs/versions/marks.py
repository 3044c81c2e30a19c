"""Marks of distrust: `quarantined`, `trust = untrusted` and `frozen`. An agent cannot remove them from a file.

Marks belong to paths and to contents. A file that replaces a marked file, by rename, by restore, or by deletion and
creation, has the marks of the path. A content that equals a marked text, or contains a part of it, is marked when its
version is made. Only a person lifts a mark, by changing the attribute.

Texts of unversioned files (sources) are recorded for as long as the files are marked, and are learned again at each
start.

`<store>/marks.jsonl` has one JSON object a line, and the last one for a path or content is in force: `{"path": …,
"marks": {name: value}}`, and `{"content": git id, "size": …, "marks": …, "length": …, "runs": […]}`. Empty `marks` lift
the marks, also those of an equal text in a source. The texts themselves are not stored.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as HostPath
from typing import Any

from ctxfs.memory.states import FROZEN_ATTRIBUTE, STATE_ATTRIBUTE
from ctxfs.model.metadata import PREFIX
from ctxfs.policy.quarantine import NO_QUARANTINE, Quarantine
from ctxfs.versions.objects.fingerprint import RUN_WORDS, blob_id, copy_fingerprint, hash_runs, is_copy, split_words
from ctxfs.versions.objects.name_encoding import path_bytes, path_text
from ctxfs.versions.objects.sidecar import SideCar

log = logging.getLogger(__name__)

QUARANTINED, TRUST, SOURCE = (f"{PREFIX}{name}" for name in ("quarantined", "trust", "source"))
# `frozen` has two spellings (memory/states.py). It belongs to a path, and not to a text.
_PATH_MARKS: Mapping[str, bytes] = {FROZEN_ATTRIBUTE: b"true", STATE_ATTRIBUTE: b"frozen"}
MARKS: Mapping[str, bytes] = {QUARANTINED: b"true", TRUST: b"untrusted", **_PATH_MARKS}
# The operation in a journal by which a principal changes a mark, not only the file.
MARK_OP = "mark"
MAX_QUARANTINED_RUNS = 4096  # of one text
MAX_UNTRUSTED_RUNS = 32
MAX_RUNS = 1_000_000  # of all texts
_Values = dict[str, bytes]


def marks_in(xattrs: Mapping[str, bytes]) -> _Values:
    """Return the marks among attributes; with `trust`, also `source`."""
    marks = {name: value for name, value in MARKS.items() if xattrs.get(name) == value}
    if TRUST in marks and SOURCE in xattrs:
        marks[SOURCE] = xattrs[SOURCE]
    return marks


@dataclass(slots=True)
class _Content:
    """A marked text: its size in bytes, its marks, and hashes of runs of `length` words."""

    size: int
    marks: _Values
    length: int
    runs: list[int]


class _Texts:
    """The marked texts by git id, with an index by the hashes of their runs of words."""

    def __init__(self) -> None:
        self.by_id: dict[str, _Content] = {}
        self.runs: dict[tuple[int, int], list[str]] = {}  # (words in a run, hash) → contents
        self._lengths = Counter[int]()  # words in a run → contents with such runs

    def put(self, oid: str, content: _Content) -> None:
        """Add a text, replacing an older record of it."""
        self.drop(oid)
        self.by_id[oid] = content
        if content.runs:
            self._lengths[content.length] += 1
        for run in content.runs:
            self.runs.setdefault((content.length, run), []).append(oid)

    def drop(self, oid: str) -> None:
        """Remove a text."""
        old = self.by_id.pop(oid, None)
        if old is not None and old.runs:
            self._lengths[old.length] -= 1
        for run in old.runs if old is not None else ():
            key = (old.length, run)  # type: ignore[union-attr]  # with runs, `old` is not None
            others = [other for other in self.runs.get(key, ()) if other != oid]
            if others:
                self.runs[key] = others
            else:
                self.runs.pop(key, None)

    def matching(self, oid: str, words: list[bytes]) -> dict[str, _Content]:
        """Return the marked texts that a content equals, or contains a part of; `words` are those of the content."""
        oids = ({oid} & self.by_id.keys()) | self._copied_oids(words)
        return {match: self.by_id[match] for match in sorted(oids)}

    def _copied_oids(self, words: list[bytes]) -> set[str]:
        hits: dict[str, int] = {}
        for length in +self._lengths:
            for run in hash_runs(words, length):
                for oid in self.runs.get((length, run), ()):
                    hits[oid] = hits.get(oid, 0) + 1
        return {oid for oid, count in hits.items() if is_copy(count, len(self.by_id[oid].runs))}


class Marks:
    """The marks of one store. Changed under the archive's lock; `quarantine` and `holds` may be used by any thread."""

    def __init__(self, file: HostPath) -> None:
        self._file = file
        self._paths: dict[bytes, _Values] = {}
        self._texts = _Texts()
        self._unversioned_texts = _Texts()  # of files without versions
        self._sources: dict[bytes, str] = {}  # path of such a file → git id of its content
        self._paths_of: dict[str, set[bytes]] = {}  # git id → paths
        self._lifted: set[str] = set()  # contents whose marks a person has lifted
        self._lines = 0
        self.quarantine = NO_QUARANTINE
        self._load()

    @property
    def is_empty(self) -> bool:
        """True if nothing is marked."""
        return not self._paths and not self._texts.by_id and not self._unversioned_texts.by_id

    # for new versions and rollbacks
    def required_marks(self, path: bytes, oid: str, data: bytes | None = None, lifted: str = "") -> _Values:
        """Return the marks that a file must have: those of its path, and those of contents that it equals or contains.

        `lifted` is a source whose files a person takes back: its distrust of the path is not included.
        """
        marks = dict(self._paths.get(path, {}))
        if lifted and marks.get(SOURCE, b"").decode("utf-8", "replace") == lifted:
            del marks[TRUST], marks[SOURCE]
        for content in self._matching_contents(oid, data).values():
            marks |= {name: value for name, value in content.marks.items() if name not in _PATH_MARKS}
        return marks

    def settle(self, path: bytes, oid: str, size: int, xattrs: Mapping[str, bytes], data: bytes | None) -> _Values:
        """Record a file's marks, and return the attributes that it must have: its own, and the marks."""
        own, owed = marks_in(xattrs), self.required_marks(path, oid, data)
        new = {name: value for name, value in own.items() if name != SOURCE and owed.get(name) != value}
        if new:  # a principal has set them on this file, so they apply to its text
            self._record_content(oid, size, own, data)
        marks = {**owed, **own}
        self._set_path(path, marks)
        return dict(self.with_owed_marks(path, oid, SideCar(xattrs), data).xattrs)

    def set_by_person(self, path: bytes, oid: str, size: int, xattrs: Mapping[str, bytes], data: bytes | None) -> None:
        """Record the marks of a file that a person has set or lifted, and lift the other marks of its text."""
        own = marks_in(xattrs)
        for other, content in self._matching_contents(oid, data).items():
            remaining = {name: value for name, value in content.marks.items() if name in own}
            if remaining != content.marks:
                self._set_content(other, content.size, remaining, content.length, content.runs)
        self._set_path(path, own)
        self._record_content(oid, size, own, data)

    def drop_path(self, path: bytes) -> None:
        """Drop the marks of a path from which a person has removed the file: a later file there is a different one."""
        self._set_path(path, {})

    def begin(self, files: Iterable[tuple[bytes, str, SideCar, bytes | None]]) -> None:
        """Record the marks of a store without a marks file, from (path, git id, side-car, content) of its files."""
        self._file.touch(mode=0o600)
        for path, oid, side, data in files:
            if marks_in(side.xattrs):
                size = side.large.size if side.large is not None else len(data or b"")
                self.settle(path, oid, size, side.xattrs, data)

    def replaced_by_person(self, path: bytes, xattrs: Mapping[str, bytes]) -> None:
        """Record the marks of a file that a person has restored to a state without changes from a source."""
        self._set_path(path, marks_in(xattrs))

    def with_owed_marks(self, path: bytes, oid: str, side: SideCar, data: bytes | None, lifted: str = "") -> SideCar:
        """Return the side-car that a file of an older version must have when restored; `lifted` is as in `required_marks`."""
        owed = self.required_marks(path, oid, data, lifted)
        missing = {name: value for name, value in owed.items() if side.xattrs.get(name) != value}
        if SOURCE in missing and (TRUST not in missing or SOURCE in side.xattrs):
            del missing[SOURCE]
        return replace(side, xattrs={**side.xattrs, **missing}) if missing else side

    def _matching_contents(self, oid: str, data: bytes | None) -> dict[str, _Content]:
        has_runs = self._texts.runs or self._unversioned_texts.runs
        words = split_words(data) if data is not None and has_runs else []
        return {**self._unversioned_texts.matching(oid, words), **self._texts.matching(oid, words)}

    # texts of unversioned files
    def record_unversioned_text(self, path: bytes, xattrs: Mapping[str, bytes], data: bytes) -> None:
        """Record the text of an unversioned file for as long as it is marked; without marks, drop it."""
        marks = {name: value for name, value in marks_in(xattrs).items() if name not in _PATH_MARKS}
        oid = blob_id(data) if data and marks else ""
        self._drop_source(path)
        if not oid or oid in self._lifted:
            return
        self._sources[path] = oid
        self._paths_of.setdefault(oid, set()).add(path)
        length, runs = copy_fingerprint(data, self._max_runs_for(marks))
        self._unversioned_texts.put(oid, _Content(len(data), marks, length, runs))
        self._publish()

    def forget_texts_below(self, path: bytes) -> None:
        """Drop the texts of the unversioned files below a path, which are gone."""
        for other in [other for other in self._sources if other.startswith(path + b"/")]:
            self._drop_source(other)

    def _drop_source(self, path: bytes) -> None:
        oid = self._sources.pop(path, "")
        paths = self._paths_of.get(oid, set())
        paths.discard(path)
        if oid and not paths:
            del self._paths_of[oid]
            self._unversioned_texts.drop(oid)
            self._publish()

    # for readers
    def holds(self, data: bytes) -> bool:
        """Return True if a text equals a quarantined text, or contains a part of one."""
        if self.quarantine.is_empty:
            return False
        if blob_id(data) in self.quarantine.contents.get(len(data), ()):
            return True
        try:
            return any(content.marks.get(QUARANTINED) for content in self._matching_contents("", data).values())
        except (KeyError, RuntimeError):  # changed by another thread meanwhile
            return True

    # storage
    def _record_content(self, oid: str, size: int, marks: _Values, data: bytes | None) -> None:
        marks = {name: value for name, value in marks.items() if name not in _PATH_MARKS}
        if not marks or not size:
            return
        content = self._texts.by_id.get(oid)
        if content is not None and marks.items() <= content.marks.items():
            return
        length, runs = copy_fingerprint(data, self._max_runs_for(marks)) if data is not None else (0, [])
        self._set_content(oid, size, {**(content.marks if content else {}), **marks}, length, runs)

    def _max_runs_for(self, marks: _Values) -> int:
        if QUARANTINED in marks:
            return MAX_QUARANTINED_RUNS
        return MAX_UNTRUSTED_RUNS if len(self._texts.runs) + len(self._unversioned_texts.runs) <= MAX_RUNS else 0

    def _set_path(self, path: bytes, marks: _Values) -> None:
        old = self._paths.get(path, {})
        if old != marks:
            self._append_line({"path": path_text(path), "marks": _encode_marks(marks)})
            self._apply_path(path, marks)
            if QUARANTINED in old or QUARANTINED in marks:  # else 10,000 files of a bundle would take minutes
                self._publish()

    def _set_content(self, oid: str, size: int, marks: _Values, length: int, runs: list[int]) -> None:
        self._append_line({"content": oid, "size": size, "marks": _encode_marks(marks), "length": length, "runs": runs})
        old = self._texts.by_id.get(oid)
        self._apply_content(oid, _Content(size, marks, length, runs))
        if not marks or QUARANTINED in marks or (old is not None and QUARANTINED in old.marks):
            self._publish()

    def _apply_path(self, path: bytes, marks: _Values) -> None:
        if marks:
            self._paths[path] = marks
        else:
            self._paths.pop(path, None)

    def _apply_content(self, oid: str, content: _Content) -> None:
        if content.marks:
            self._lifted.discard(oid)
            self._texts.put(oid, content)
        else:
            self._lifted.add(oid)
            self._texts.drop(oid)
            self._unversioned_texts.drop(oid)

    def _publish(self) -> None:
        paths = frozenset(path_text(path) for path, marks in self._paths.items() if QUARANTINED in marks)
        contents: dict[int, frozenset[str]] = {}
        for oid, content in (*self._unversioned_texts.by_id.items(), *self._texts.by_id.items()):
            if QUARANTINED in content.marks:
                contents[content.size] = contents.get(content.size, frozenset()) | {oid}
        new = Quarantine(paths, contents)
        if new != self.quarantine:
            self.quarantine = new

    def _append_line(self, line: Mapping[str, Any]) -> None:
        fd = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps(line).encode() + b"\n")
        finally:
            os.close(fd)
        self._lines += 1

    def _load(self) -> None:
        try:
            lines = self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in filter(None, lines):
            try:
                self._apply_line(json.loads(line))
                self._lines += 1
            except (ValueError, KeyError, TypeError, AttributeError):
                log.warning(
                    "a line of '%s' cannot be read", self._file
                )  # truncated by a power cut; the marked file itself has the attribute
        if lines and not self._file.read_bytes().endswith(b"\n"):
            with open(self._file, "ab") as out:
                out.write(b"\n")
        self._publish()
        if self._lines > 1000 + 2 * (len(self._paths) + len(self._texts.by_id) + len(self._lifted)):
            self._compact()

    def _apply_line(self, value: Mapping[str, Any]) -> None:
        marks = {str(name): str(text).encode("utf-8", "surrogateescape") for name, text in value["marks"].items()}
        if "path" in value:
            self._apply_path(path_bytes(value["path"]), marks)
        else:
            runs = list(map(int, value["runs"]))
            length = int(value["length"]) if 0 <= int(value["length"]) <= RUN_WORDS else 0
            self._apply_content(
                str(value["content"]), _Content(int(value["size"]), marks, length, runs if length else [])
            )

    def _compact(self) -> None:
        lines: Iterable[Mapping[str, Any]] = [
            *({"path": path_text(path), "marks": _encode_marks(marks)} for path, marks in self._paths.items()),
            *(
                {"content": oid, "size": c.size, "marks": _encode_marks(c.marks), "length": c.length, "runs": c.runs}
                for oid, c in self._texts.by_id.items()
            ),
            *({"content": oid, "size": 0, "marks": {}, "length": 0, "runs": []} for oid in sorted(self._lifted)),
        ]
        temporary = self._file.with_suffix(".new")
        with contextlib.suppress(OSError):
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
            os.replace(temporary, self._file)


def _encode_marks(marks: _Values) -> dict[str, str]:
    return {name: value.decode("utf-8", "surrogateescape") for name, value in marks.items()}
