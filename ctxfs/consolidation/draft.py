"""Drafts: proposed changes of memories with their reason and evidence, and their files under human/review/. Pure."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import one_line, printable
from ctxfs.versions.proposals import FileEdit

COMMAND = "command"  # the rule of drafts that a command makes
_COVERS = f"{PREFIX}covers"
_ID_DIGITS = 12
_MAX_SHOWN_CHARS = 400


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage that a draft is based on: its path, its lines, its text, and its part in the change."""

    path: str
    first: int
    last: int
    text: str
    role: str

    def as_record(self) -> dict[str, object]:
        """Return the members of its line in evidence.jsonl."""
        lines = f"{self.first}-{self.last}"
        return {"path": printable(self.path), "lines": lines, "role": self.role, "text": self.text}


@dataclass(frozen=True, slots=True)
class Draft:
    """A proposal before it is stored: the rule that made it, one line about it, its edits and its evidence.

    `base` are the contents of the edited files, as (path, digest), so that a draft about other contents has another id.
    """

    rule: str
    title: str
    edits: tuple[FileEdit, ...]
    evidence: tuple[Evidence, ...]
    reasons: tuple[str, ...]
    base: tuple[tuple[str, str], ...]
    is_advised: bool = True

    @property
    def id(self) -> str:
        """The id of the proposal: equal drafts have equal ids."""
        state = {
            "rule": self.rule,
            "base": sorted(self.base),
            "edits": [
                [
                    edit.path,
                    None if edit.data is None else digest_of(edit.data),
                    sorted(
                        (name, None if value is None else value.hex())
                        for name, value in edit.attributes.items()
                        if name != _COVERS  # it grows with other proposals
                    ),
                ]
                for edit in sorted(self.edits, key=lambda edit: edit.path)
            ],
        }
        text = json.dumps(state, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]

    @property
    def paths(self) -> list[str]:
        """The paths that the draft changes, sorted."""
        return sorted(edit.path for edit in self.edits)


def digest_of(data: bytes) -> str:
    """Return the digest of a content."""
    return hashlib.sha256(data).hexdigest()


def render_why(draft: Draft) -> bytes:
    """Return why.md: the title, the reasons, the changed files, and how to decide."""
    lines = [f"# {one_line(draft.title)}", ""]
    lines += [f"- {one_line(reason)}" for reason in draft.reasons]
    lines += ["", "Changed files:", "", *(f"- `{one_line(printable(path))}`" for path in draft.paths), ""]
    lines += ["Write `accept` or `reject` into `verdict`. Accepting is one version: `ctxfs undo` takes it back.", ""]
    return "\n".join(lines).encode("utf-8", "replace")


def render_evidence(evidence: Iterable[Evidence]) -> bytes:
    """Return evidence.jsonl."""
    lines = [json.dumps(item.as_record(), ensure_ascii=False) for item in evidence]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def shorten(text: str) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_SHOWN_CHARS else f"{line[: _MAX_SHOWN_CHARS - 1]}…"


def join_paths(paths: Sequence[str]) -> bytes:
    """Return the value of `user.ctx.covers` for some paths."""
    return "\n".join(paths).encode("utf-8", "surrogateescape")
