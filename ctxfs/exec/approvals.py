"""Approvals of tools by people: `<store>/tools.json`, name → {digest, definition}.

`digest` is a sha256 over everything that decides what the tool does. `definition` is the definition that was shown for
the approval, so that later changes can be shown.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import Any

from ctxfs.model.errors import CommandError
from ctxfs.store.config import replace_file
from ctxfs.store.lock import held


@dataclass(frozen=True, slots=True)
class Approval:
    """The digest and the definition of a tool at the time of its approval."""

    digest: str
    definition: Mapping[str, Any]


_NONE: Mapping[str, Approval] = {}  # one object, because callers compare results by identity


class Approvals:
    """The file of approvals. Methods block for a moment; several processes may use the same file."""

    def __init__(self, file: HostPath) -> None:
        self._file = file
        self._read: tuple[object, Mapping[str, Approval]] = (None, {})

    def all(self) -> Mapping[str, Approval]:
        """Return {tool name: approval}; the same object while the file is unchanged.

        Raise CommandError for an unreadable file.
        """
        try:
            seen = self._file.stat()
            stamp = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
            if self._read[0] != stamp:
                self._read = stamp, _parsed(json.loads(self._file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return _NONE
        except (OSError, ValueError) as error:
            raise CommandError(
                f"'{self._file}' cannot be read: {error}", "delete it, and approve tools anew"
            ) from error
        return self._read[1]

    def add(self, given: Mapping[str, Approval]) -> None:
        """Add or replace approvals."""
        with held(self._file.parent):
            self._write({**self.all(), **given})

    def drop(self, prefix: str) -> None:
        """Remove the approvals of all tools whose names begin with `prefix`."""
        with held(self._file.parent):
            self._write({name: each for name, each in self.all().items() if not name.startswith(prefix)})

    def _write(self, known: Mapping[str, Approval]) -> None:
        said = {name: {"digest": each.digest, "definition": each.definition} for name, each in sorted(known.items())}
        replace_file(self._file, json.dumps(said, indent=1, ensure_ascii=False).encode("utf-8", "replace"), mode=0o600)


def _parsed(said: object) -> Mapping[str, Approval]:
    found = said.items() if isinstance(said, dict) else ()
    return {
        str(name): Approval(str(each.get("digest", "")), each.get("definition") or {})
        for name, each in found
        if isinstance(each, dict)
    }


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return a unified diff from an approved definition to the current one; empty if they are equal."""
    old, new = (json.dumps(each, indent=1, ensure_ascii=False, sort_keys=True).splitlines() for each in (before, now))
    return "\n".join(difflib.unified_diff(old, new, "approved", "now", lineterm="", n=2))
