"""Progress of long work: bars on a terminal, in a pipe a line every few seconds. No other module imports rich."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from ctxfs.cli.output import count_noun
from ctxfs.index.indexer_status import IndexerState, parse_indexer_status
from ctxfs.model.errors import EXIT_NOT_KNOWN, EXIT_UNHEALTHY, CommandError
from ctxfs.store.layout import Layout

_LINE_INTERVAL_SECONDS = 5.0
_RESPONSE_TIMEOUT_SECONDS = 60.0
_STALL_TIMEOUT_SECONDS = 300.0  # one slow file may take a minute on a busy machine

Item = TypeVar("Item")


@contextlib.contextmanager
def spinner(task: str) -> Iterator[None]:
    """Show a spinner on a terminal for work of unknown length."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(f"{task} …"):
        yield


def counted(items: Sequence[Item], task: str) -> Iterator[Item]:
    """Yield the items, with a progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, description=task)


@contextlib.contextmanager
def live_screen() -> Iterator[Callable[[Sequence[tuple[str, str]]], None]]:
    """Yield a function that shows (text, style) lines on the whole terminal, cut to its size, in place of the last ones."""
    with Live(console=Console(), screen=True, auto_refresh=False) as live:

        def show(lines: Sequence[tuple[str, str]]) -> None:
            size = live.console.size
            text = Text(no_wrap=True, overflow="ellipsis")
            for line, style in lines[: size.height - 1]:
                text.append(f"{line[: size.width]}\n", style or None)
            live.update(text, refresh=True)

        yield show


@contextlib.contextmanager
def byte_bar(total_bytes: int, task: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes numbers of read bytes, and show them: a bar, in a pipe a line every five seconds."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
            number = progress.add_task(task, total=total_bytes or None)
            yield lambda count: progress.advance(number, count)
        return
    done, last_line_at = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last_line_at
        done += count
        if time.monotonic() - last_line_at > _LINE_INTERVAL_SECONDS:
            last_line_at = time.monotonic()
            print(f"{task}: {done >> 20} of {total_bytes >> 20} MiB", file=sys.stderr)

    yield advance


class IndexBar:
    """Two progress bars on stderr: files in the full-text index, and chunks with vectors."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=False)
        self._words = self._progress.add_task("words", total=None)
        self._meaning = self._progress.add_task("meaning", total=None)
        self._terminal = sys.stderr.isatty()
        self._last_line_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            self._progress.stop()

    def show(self, index: dict[str, Any], *, is_last: bool = False) -> None:
        """Show the index part of a `status` response; in a pipe every five seconds, and the last one."""
        indexed, _, total = str(index.get("words", "")).partition("/")
        embeddable = index["embeddable"]
        embedded = embeddable - index["waiting_for_meaning"]
        if self._terminal:
            self._progress.update(
                self._words, completed=int(indexed or index["searchable"]), total=int(total or 0) or None
            )
            self._progress.update(self._meaning, completed=embedded, total=embeddable or None)
        elif is_last or time.monotonic() - self._last_line_at > _LINE_INTERVAL_SECONDS:
            self._last_line_at = time.monotonic()
            print(
                f"{count_noun(index['searchable'], 'file')} by words, {embedded} of {count_noun(embeddable, 'chunk')} by meaning",
                file=sys.stderr,
            )


def is_ready(index: dict[str, Any], aspect: str) -> bool:
    """Return True if `aspect` (words or meaning) has caught up with the files.

    Raise CommandError if the index is down.
    """
    text = str(index.get("state", IndexerState.IDLE))
    status = parse_indexer_status(text)
    if status is not None and status.has_failed:
        raise CommandError(f"the index is {text}", "see <store>/run/daemon.log, and: ctxfs doctor", EXIT_UNHEALTHY)
    if (status is not None and status.has_pending_words) or index.get("behind"):
        return False
    return aspect == "words" or (status is not None and status.state is IndexerState.IDLE)


def follow_index(layout: Layout, aspect: str, seconds: float | None = None) -> dict[str, Any]:
    """Show progress until `aspect` is searchable, and return the last status.

    Raise CommandError if the index is down, if it makes no progress for 300 seconds, or after `seconds`.
    """
    from ctxfs.rpc.client import Client

    client = Client(layout.run, timeout=_RESPONSE_TIMEOUT_SECONDS)
    start = last_progress = time.monotonic()
    last_position: object = None
    try:
        with IndexBar() as bar:
            while True:
                status: dict[str, Any] = client.call("status")
                index = status["index"]
                now = time.monotonic()
                if is_ready(index, aspect):
                    bar.show(index, is_last=True)
                    return status
                bar.show(index)
                position = (index.get("state"), index.get("words"), index["searchable"], index["waiting_for_meaning"])
                if position != last_position:
                    last_position, last_progress = position, now
                if now - last_progress > _STALL_TIMEOUT_SECONDS or (seconds is not None and now - start > seconds):
                    why = index.get("waits") or index.get("behind") or f"it is {index.get('state')}"
                    raise CommandError(
                        f"{aspect} have not caught up after {now - start:.0f} s: {why}", "ctxfs status", EXIT_NOT_KNOWN
                    )
                time.sleep(0.1)
    finally:
        client.close()
