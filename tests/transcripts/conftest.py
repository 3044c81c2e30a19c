"""Provide a store that transcripts are imported into, without the command line and without a daemon."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ctxfs.app import App
from ctxfs.model.principal import Principal
from ctxfs.store.layout import Layout
from ctxfs.transcripts.archive import ExportFile, list_exports
from ctxfs.transcripts.importer import Choice, Importer, Report, SessionState
from ctxfs.transcripts.json_lines import parse_map
from ctxfs.transcripts.sources import list_transcripts


class Target:
    """The event log of a store, used directly on behalf of a principal."""

    def __init__(self, app: App, principal: Principal) -> None:
        self._app = app
        self._principal = principal
        self.appends = 0

    def state(
        self, session: str, ids: Sequence[bytes], *, with_captured: bool = False, with_inputs: bool = False
    ) -> SessionState:
        state = self._app.imports.state(
            self._principal, session, ids, with_captured=with_captured, with_inputs=with_inputs
        )
        known = frozenset(position for position, is_known in enumerate(state.known) if is_known)
        return SessionState(known, state.erased_at, state.captured)

    def append(self, session: str, records: Sequence[Mapping[str, Any]]) -> int:
        self.appends += 1
        return len(self._app.imports.append(self._principal, session, records))


class Store:
    """A store and its imports."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.app = App(layout)
        self.principal = self.app.principal

    def add(self, client: str, path: Path, pairs: Sequence[str] = (), **choice: Any) -> Report:
        """Import from a folder or a file, as the command does."""
        importer = Importer(Target(self.app, self.principal), Choice(**choice))
        faults: list[tuple[str, str]] = []
        if client == "jsonl":
            status = path.stat()
            sources: Sequence[Any] = [
                ExportFile(str(path), client, status.st_size, status.st_mtime, map_names=parse_map(tuple(pairs)))
            ]
        elif client in ("chatgpt", "claude"):
            sources, faults = list_exports(client, str(path))
        else:
            listed = list_transcripts(client, str(path))
            sources, faults = listed.files, listed.faults
        for source in sources:
            importer.read(source, lambda _: None)
        importer.report.faults += faults
        return importer.report

    def records(self, session: str = "") -> list[dict[str, Any]]:
        """Return the records of the log."""
        return self.app.history.records(session=session)

    def texts(self, kind: str = "") -> list[str]:
        """Return the texts or data of records, of one kind or all."""
        return [
            record["text"] if "text" in record else json.dumps(record.get("data"))
            for record in self.records()
            if kind in ("", record["kind"])
        ]


@pytest.fixture
def store(layout: Layout) -> Iterator[Store]:
    """Yield an empty store."""
    made = Store(layout)
    yield made
    made.app.imports.close()
    assert made.app.history.verify().faults == []
