"""The memories of a principal: `store.memory`."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ctxfs.library import requests
from ctxfs.library.results import CheckedFile, Correction, Promotion, SearchAnswer, Written
from ctxfs.model.change import ABSENT

if TYPE_CHECKING:
    from ctxfs.library.store import Store

_AREA = "memory"
_MAX_NAME_CHARS = 48
_MAX_SAME_NAMES = 1000
_NOT_IN_NAME = re.compile(r"[^a-z0-9]+")


class Memory:
    """Memories by kind: `episodic`, `fact`, `experiential`, `procedural`, `user`, or a kind of memory.toml.

    The path of a memory is `memory/<owner>/<kind>/<name>.md`; the owner is the name of a principal, or `shared`.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store

    def folder(self, kind: str = "", *, owner: str = "") -> str:
        """Return the folder of memories, of the principal's own without `owner`."""
        return "/".join(filter(None, (_AREA, owner or self._store.whoami().partition(":")[2], kind)))

    def add(
        self,
        text: str,
        *,
        kind: str = "fact",
        owner: str = "",
        name: str = "",
        source: str = "",
        confidence: float | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Written:
        """Write a new memory; the result has its path, and warnings such as contradictions to other memories.

        `source` is a URL, or lines of the tree (`knowledge/handbook/keys.md:3-9`), against which the memory is held.
        `confidence` is from 0 to 1. Without `name` the file is named by the first words. Raise FileExistsError if `name`
        exists.
        """
        folder = self.folder(kind, owner=owner)
        named = dict(attributes or {})
        if source:
            named["source"] = source
        if confidence is not None:
            named["confidence"] = f"{confidence:g}"
        for number in range(1, _MAX_SAME_NAMES):
            path = f"{folder}/{name or _name_of(text, number)}"
            try:
                return self._store.write(path, text, attributes=named, expects=ABSENT)
            except FileExistsError:
                if name:
                    raise
        return self._store.write(f"{folder}/{_name_of(text, _MAX_SAME_NAMES)}", text, attributes=named, expects=ABSENT)

    def search(self, question: str, *, kind: str = "", owner: str = "", limit: int | None = None) -> SearchAnswer:
        """Return the hits of a question in memory: in all memories that the principal may read, or in those of `owner`."""
        filtered = f"kind:{kind} {question}" if kind else question
        return self._store.search(filtered, below=self.folder(owner=owner) if owner else _AREA, limit=limit)

    def promote(self, path: str, to: str) -> Promotion:
        """Move a file, mostly of a pad, to a folder of memory; with reasons against it a review is opened instead."""
        return self._store.send(requests.promote(path, to))

    def correct(self, path: str, text: str, *, because: str, line: int = 0, was: str = "") -> Correction:
        """Replace a line of a memory, counted from 1, by a corrected one in a new file that supersedes it.

        Line 0 is the only statement of the file. `was` is the line as it was read; OSError ESTALE if it is another.
        """
        return self._store.send(requests.correct(path, text, because, line, was))

    def cite(self, path: str, *sources: str, replace: bool = False) -> Sequence[str]:
        """Add citations of the present text of lines, and return all citations of the file."""
        return self._store.send(requests.cite(path, sources, replace=replace))

    def check(self, path: str = "") -> Sequence[CheckedFile]:
        """Return the files with citations at and below a path, and whether each citation still holds."""
        return self._store.send(requests.check(path))

    def set_state(self, path: str, state: str) -> None:
        """Set the state of a memory: generated, active, merged, archived or frozen. EPERM for a forbidden transition."""
        self._store.set_meta(path, {"state": state})


def _name_of(text: str, number: int) -> str:
    """Return a file name of the first words of a text; `number` distinguishes memories that begin alike."""
    words = _NOT_IN_NAME.sub("-", text[: 4 * _MAX_NAME_CHARS].lower()).strip("-")[:_MAX_NAME_CHARS].strip("-")
    return f"{words or 'memory'}.md" if number == 1 else f"{words or 'memory'}-{number}.md"
