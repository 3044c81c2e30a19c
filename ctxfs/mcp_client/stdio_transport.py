"""The stdio transport of MCP with bounds: lines of JSON on the stdin and stdout of a program.

A line that is too long is dropped, and the request that it answers fails. Lines that are no JSON are dropped, up to a
number that ends the connection. Of a flood of notifications most are dropped unparsed. The program's process group ends
with the connection.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path as HostPath

import anyio
import trio
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp.types import INTERNAL_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

from ctxfs.lifeline import Lifeline
from ctxfs.mcp_client.list_validation import LeftOut, remove_invalid
from ctxfs.process_group import end_group, start_group

MAX_LINE_BYTES = 32 * 1024 * 1024
_CHUNK_BYTES = 1 << 16
_GRACE_SECONDS = 2.0
_REAPED_SECONDS = 0.2
_MAX_NOTIFICATIONS_PER_SECOND = 200
_MAX_GARBAGE_LINES = 100
_EDGE_BYTES = 200
_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.){0,100}"|-?\d{1,18})')
_WRITTEN_SECONDS = 0.5
_MAX_STDERR_BYTES = 64 * 1024


class Garbage(Exception):
    """The program prints lines that are no messages of the protocol."""


class StdioTransport:
    """One run of the program. `gone` is set when the program has closed its stdout."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: HostPath,
        stderr: HostPath,
        left_out: LeftOut,
    ) -> None:
        self.gone = trio.Event()
        self.ended = ""  # the reason, once the program has ended by itself
        self._command = command
        self._environment = environment
        self._folder = folder
        self._stderr = stderr
        self._left_out = left_out

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[TransportStreams]:
        """Return the streams that a client of the SDK takes. Raise OSError if the program cannot be started."""
        with Lifeline() as lifeline:
            process = await start_group(self._command, lifeline, env=self._environment, cwd=self._folder)
            async with self._streams(process) as streams:
                yield streams

    @asynccontextmanager
    async def _streams(self, process: trio.Process) -> AsyncIterator[TransportStreams]:
        stderr_tail = bytearray()
        to_client, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        to_server, from_client = anyio.create_memory_object_stream[SessionMessage](0)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive, process, to_client)
                nursery.start_soon(self._send, process, from_client)
                nursery.start_soon(self._read_stderr, process, stderr_tail)
                yield from_server, to_server
                nursery.cancel_scope.cancel()
        finally:
            by_itself = self.gone.is_set()
            self.gone.set()
            with trio.CancelScope(shield=True):
                for stream in (to_client, from_server, to_server, from_client):
                    await stream.aclose()
                if by_itself:
                    with trio.move_on_after(_REAPED_SECONDS):
                        await self._read_stderr(process, stderr_tail)  # the rest of its stderr
                    with trio.move_on_after(_REAPED_SECONDS):
                        await process.wait()
                if by_itself and process.returncode is not None and not self.ended:
                    self.ended = _describe_exit(process.returncode)
                await _end_process(process)
                self._stderr.write_bytes(stderr_tail)

    async def _send(self, process: trio.Process, messages: anyio.abc.ObjectReceiveStream[SessionMessage]) -> None:
        assert process.stdin is not None
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for outgoing in messages:
                line = outgoing.message.model_dump_json(by_alias=True, exclude_unset=True)
                await process.stdin.send_all(line.encode("utf-8", "replace") + b"\n")
        self.gone.set()

    async def _read_stderr(self, process: trio.Process, last: bytearray) -> None:
        """Hold the end of its stderr, of unbounded length, and write it to the file from time to time."""
        assert process.stderr is not None
        written = 0.0
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await process.stderr.receive_some(_CHUNK_BYTES):
                last += data
                del last[:-_MAX_STDERR_BYTES]
                if trio.current_time() - written > _WRITTEN_SECONDS:
                    written = trio.current_time()
                    self._stderr.write_bytes(last)

    async def _receive(
        self, process: trio.Process, client: anyio.abc.ObjectSendStream[SessionMessage | Exception]
    ) -> None:
        assert process.stdout is not None
        garbage, second, counts = 0, 0, Counter[bool]()
        try:
            async with client:
                async for line in _lines(process.stdout):
                    if isinstance(line, SessionMessage):
                        await client.send(line)
                        continue
                    if b'"id"' not in line[:_EDGE_BYTES] and b'"id"' not in line[-_EDGE_BYTES:]:
                        if (now := int(trio.current_time())) != second:
                            second, counts = now, Counter()
                        is_progress = b"notifications/progress" in line[:_EDGE_BYTES]
                        # Counted separately, so that a flood of other notifications drops no progress.
                        counts[is_progress] += 1
                        if counts[is_progress] > _MAX_NOTIFICATIONS_PER_SECOND:
                            continue
                    try:
                        message = jsonrpc_message_adapter.validate_json(line.decode("utf-8", "replace"), by_name=False)
                    except ValueError as error:
                        garbage += 1
                        if garbage > _MAX_GARBAGE_LINES:
                            raise Garbage(f"it prints what is no message: {line[:80]!r}") from error
                        continue
                    session_message = SessionMessage(message)
                    remove_invalid(session_message, self._left_out)
                    await client.send(session_message)
        except (
            trio.BrokenResourceError,
            trio.ClosedResourceError,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
        ):
            pass
        except Garbage as error:
            self.ended = str(error)
        finally:
            self.gone.set()


async def _lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[bytes | SessionMessage]:
    """Yield complete lines; for one that is too long, an error response to the request that it answers."""
    pieces: list[bytes] = []
    size = 0
    head = b""
    while data := await stream.receive_some(_CHUNK_BYTES):
        *ended, rest = data.split(b"\n")
        for piece in ended:
            if size + len(piece) > MAX_LINE_BYTES:
                edge = (head or b"".join(pieces)[:_EDGE_BYTES]) + b" " + piece[-_EDGE_BYTES:]
                if (answer := _too_long(edge)) is not None:
                    yield answer
            elif line := b"".join((*pieces, piece)).strip():
                yield line
            pieces, size, head = [], 0, b""
        size += len(rest)
        if size <= MAX_LINE_BYTES:
            pieces.append(bytes(rest))
        elif pieces:
            head, pieces = b"".join(pieces)[:_EDGE_BYTES], []


def _too_long(edge: bytes) -> SessionMessage | None:
    match = _ID.search(edge)
    if match is None:
        return None
    number = int(match[1]) if not match[1].startswith(b'"') else match[1][1:-1].decode("utf-8", "replace")
    why = ErrorData(code=INTERNAL_ERROR, message=f"it answered with more than {MAX_LINE_BYTES} bytes")
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=number, error=why))


async def _end_process(process: trio.Process) -> None:
    """Close the program's stdin, as the protocol specifies, then end its process group."""
    assert process.stdin is not None
    await process.stdin.aclose()
    with trio.move_on_after(_GRACE_SECONDS):
        await process.wait()
    await end_group(process)


def _describe_exit(code: int) -> str:
    return f"it ended with exit code {code}" if code >= 0 else f"it was ended by signal {-code}"


def last_stderr_line(file: HostPath) -> str:
    """Return the last line that a program wrote to its stderr."""
    try:
        lines = file.read_bytes()[-4096:].decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:200] if lines else ""
