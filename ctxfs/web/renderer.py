"""HTML of texts by a worker process, which is started at the first text, and ends after a minute without one."""

import errno
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import trio
from markupsafe import Markup

from ctxfs.lifeline import TiedProcess
from ctxfs.rpc.frames import FrameReader, WireError, pack_frame
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

MAX_TEXT_CHARACTERS = 300_000
_ANSWER_SECONDS = 5.0  # also the start of the process
_IDLE_SECONDS = 60.0  # the process has 30 MB
_CHUNK_BYTES = 1 << 16


class Renderer:
    """A worker process for texts. One text at a time."""

    def __init__(self) -> None:
        self._process: TiedProcess | None = None
        self._lock = trio.Lock()
        self._used = trio.Event()

    async def end_if_idle(self) -> None:
        """End the process whenever no text has come for a minute, until cancelled."""
        while True:
            await self._used.wait()
            while self._used.is_set():
                self._used = trio.Event()
                await trio.sleep(_IDLE_SECONDS)
            async with self._lock:
                await self.close()

    async def code(self, name: str, text: str) -> list[Markup] | None:
        """Return the lines of a file as HTML; None if its syntax is not known, or the text is too much."""
        lines = await self._render("code", name, text)
        return [Markup(line) for line in lines] if isinstance(lines, list) and lines else None  # noqa: S704

    async def markdown(self, text: str, base: Sequence[str], file_url: str) -> Markup | None:
        """Return Markdown as HTML; None if the text is too much."""
        html = await self._render("markdown", text, list(base), file_url)
        return Markup(html) if isinstance(html, str) else None  # noqa: S704 - without raw HTML, see `rendering`

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            await blocking(_end, process)

    async def _render(self, *request: object) -> object:
        if sum(len(part) for part in request if isinstance(part, str)) > MAX_TEXT_CHARACTERS:
            return None
        self._used.set()
        async with self._lock:
            try:
                return await blocking(self._exchange, pack_frame(list(request)))
            except (TimeoutError, WireError, OSError) as error:
                log.info("a text could not be rendered: %s", error)
                await self.close()
        return None

    def _exchange(self, request: bytes) -> object:
        """Return the response of the worker, which is started if needed. Raise OSError if it ends or takes too long."""
        if self._process is None:
            self._process = _start()
        process, deadline, reader = self._process, time.monotonic() + _ANSWER_SECONDS, FrameReader()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request)  # the worker reads all of a request before it answers
        process.stdin.flush()
        output = process.stdout.fileno()
        while select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
            data = os.read(output, _CHUNK_BYTES)
            if not data:
                raise OSError(errno.EPIPE, "the renderer has ended")
            for answer in reader.feed(data):
                return answer[0]
        raise TimeoutError(errno.ETIMEDOUT, "the renderer took too long")


def _start() -> TiedProcess:
    return TiedProcess(
        [sys.executable, "-m", "ctxfs.web.rendering_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _end(process: TiedProcess) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    process.release()
