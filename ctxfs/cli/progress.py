"""Progress bars for long work; on a pipe a line now and then. The only room that knows rich."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ctxfs.store.layout import Layout

_LINE_SECONDS = 5.0

Item = TypeVar("Item")


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something goes on whose end nobody knows."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(f"{what} …"):
        yield


def counted(items: Sequence[Item], what: str) -> Iterator[Item]:
    """The items, one after another, with a bar on a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, description=what)


class IndexBar:
    """Two bars on stderr: files by words, chunks by meaning."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=False)
        self._words = self._progress.add_task("words", total=None)
        self._meaning = self._progress.add_task("meaning", total=None)
        self._terminal = sys.stderr.isatty()
        self._said = 0.0

    def __enter__(self) -> Self:
        if self._terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            self._progress.stop()

    def show(self, index: dict[str, Any]) -> None:
        """Show the state that `status` gives."""
        done, _, total = str(index.get("words", "")).partition("/")
        embedded = index["chunks"] - index["waiting_for_meaning"]
        if self._terminal:
            self._progress.update(
                self._words, completed=int(done or index["searchable"]), total=int(total or 0) or None
            )
            self._progress.update(self._meaning, completed=embedded, total=index["chunks"] or None)
        elif time.monotonic() - self._said > _LINE_SECONDS:
            self._said = time.monotonic()
            print(
                f"{index['searchable']} files by words, {embedded} of {index['chunks']} chunks by meaning",
                file=sys.stderr,
            )


def is_ready(index: dict[str, Any], what: str) -> bool:
    """True when `what` (words or meaning) has caught up with the files."""
    state = str(index.get("state", "idle"))
    if state.startswith(("down", "error")):
        return True
    if state in ("starting", "scanning", "indexing words", "restarting"):
        return False
    return what == "words" or state == "idle"


def follow_index(layout: Layout, what: str) -> dict[str, Any]:
    """Show progress until `what` is searchable; returns the last status."""
    from ctxfs.rpc.client import Client

    client = Client(layout.run)
    try:
        with IndexBar() as bar:
            while True:
                status: dict[str, Any] = client.call("status")
                bar.show(status["index"])
                if is_ready(status["index"], what):
                    return status
                time.sleep(0.1)
    finally:
        client.close()
