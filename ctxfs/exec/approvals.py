"""Approvals of tools by people: `<store>/tools.json`, name → {digest, definition}.

`digest` is a sha256 over everything that decides the behaviour of the tool. `definition` is the definition that was shown for
the approval, so that later changes can be shown.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import Any

from ctxfs.model.errors import CommandError
from ctxfs.store.durable_file import replace_file
from ctxfs.store.lock import exclusive_folder


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
        self._cached: tuple[object, Mapping[str, Approval]] = (None, {})

    def all(self) -> Mapping[str, Approval]:
        """Return {tool name: approval}; the same object while the file is unchanged.

        Raise CommandError for an unreadable file.
        """
        try:
            stat = self._file.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if self._cached[0] != stamp:
                self._cached = stamp, _parse_approvals(json.loads(self._file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return _NONE
        except (OSError, ValueError) as error:
            raise CommandError(
                f"'{self._file}' cannot be read: {error}", "delete it, and approve tools anew"
            ) from error
        return self._cached[1]

    def add(self, approvals: Mapping[str, Approval]) -> None:
        """Add or replace approvals."""
        with exclusive_folder(self._file.parent):
            self._write({**self.all(), **approvals})

    def drop(self, prefix: str) -> None:
        """Remove the approvals of all tools whose names begin with `prefix`."""
        with exclusive_folder(self._file.parent):
            self._write({name: approval for name, approval in self.all().items() if not name.startswith(prefix)})

    def apply(self, changes: Mapping[str, Approval | None]) -> None:
        """Add or replace approvals, and remove those with None."""
        with exclusive_folder(self._file.parent):
            merged = {**self.all(), **changes}
            self._write({name: approval for name, approval in merged.items() if approval is not None})

    def _write(self, approvals: Mapping[str, Approval]) -> None:
        records = {
            name: {"digest": approval.digest, "definition": approval.definition}
            for name, approval in sorted(approvals.items())
        }
        replace_file(
            self._file, json.dumps(records, indent=1, ensure_ascii=False).encode("utf-8", "replace"), mode=0o600
        )


def _parse_approvals(value: object) -> Mapping[str, Approval]:
    items = value.items() if isinstance(value, dict) else ()
    return {
        str(name): Approval(str(record.get("digest", "")), record.get("definition") or {})
        for name, record in items
        if isinstance(record, dict)
    }


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return a unified diff from an approved definition to the current one; empty if they are equal."""
    old, new = (
        json.dumps(definition, indent=1, ensure_ascii=False, sort_keys=True).splitlines()
        for definition in (before, now)
    )
    return "\n".join(difflib.unified_diff(old, new, "approved", "now", lineterm="", n=2))
