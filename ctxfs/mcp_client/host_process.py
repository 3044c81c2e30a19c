"""The MCP host process, which runs all connections apart from the daemon, since the SDK and busy servers use much CPU.

Requests arrive on stdin, responses and pushes leave on stdout, as frames of `rpc.frames`. Requests: `servers` (the
configured ones), `call`, `prompt`, `fetch`, `cancel` (a request), `answer` (of a person). Pushes: `state` (of a
server), `progress` (of a request), `ask` (a person).
"""

import contextlib
import itertools
import logging
import os
import sys
import warnings
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path as HostPath
from typing import Any

import trio
from mcp.shared.exceptions import MCPDeprecationWarning

from ctxfs.lifeline import hold_lifeline
from ctxfs.mcp_client.connection import Connection
from ctxfs.model.errors import path_error
from ctxfs.rpc.frames import FrameReader, error_to_wire, pack_frame
from ctxfs.store.settings import ServerSource

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20


class Host:
    """The connections of one daemon; `send` takes a frame."""

    def __init__(self, send: Callable[[bytes], None], nursery: trio.Nursery) -> None:
        self._send = send
        self._nursery = nursery
        self._connections: dict[str, tuple[ServerSource, Connection, trio.CancelScope]] = {}
        self._requests: dict[int, trio.CancelScope] = {}
        self._questions: dict[int, tuple[trio.Event, list[str | None]]] = {}
        self._numbers = itertools.count(1)
        self._methods: Mapping[str, Callable[[int, Mapping[str, Any]], Awaitable[Any]]] = {
            "call": self._call,
            "prompt": self._prompt,
            "fetch": self._fetch,
        }

    def handle(self, number: int, method: str, args: Mapping[str, Any]) -> None:
        """Handle a request. Those that wait are answered when they are done."""
        match method:
            case "servers":
                self._configure(args)
            case "cancel":
                if args["number"] in self._requests:
                    self._requests[args["number"]].cancel()
            case "answer":
                if args["ask"] in self._questions:
                    event, slot = self._questions.pop(args["ask"])
                    slot.append(args["value"])
                    event.set()
            case _:
                self._nursery.start_soon(self._answer, number, method, args)

    def push(self, topic: str, value: object) -> None:
        """Send a push to the daemon."""
        self._send(pack_frame([0, topic, value]))

    async def _answer(self, number: int, method: str, args: Mapping[str, Any]) -> None:
        scope = self._requests[number] = trio.CancelScope()
        try:
            with scope:
                value = await self._methods[method](number, args)
                self._send(pack_frame([number, None, value]))
                return
            self._send(pack_frame([number, error_to_wire(path_error(4, "", "it was cancelled")), None]))
        except Exception as error:
            if not isinstance(error, OSError):
                log.exception("request %s failed", method)
            self._send(pack_frame([number, error_to_wire(error), None]))
        finally:
            del self._requests[number]

    def _configure(self, args: Mapping[str, Any]) -> None:
        """Start connections of new servers, end those of removed ones, and restart those of changed ones."""
        specs = {
            fields["name"]: ServerSource(**{**fields, "command": tuple(fields["command"]), "env": tuple(fields["env"])})
            for fields in args["specs"]
        }
        for name, (spec, _, scope) in list(self._connections.items()):
            if specs.get(name) != spec:
                scope.cancel()
                del self._connections[name]
        for name, spec in specs.items():
            if name not in self._connections:
                folder = HostPath(args["folder"]) / name
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                (folder / "resources").mkdir(exist_ok=True)  # so that it can be watched before its first document
                connection = Connection(spec, folder, self.push, self._make_ask(name))
                scope = trio.CancelScope()
                self._connections[name] = spec, connection, scope
                self._nursery.start_soon(self._run_connection, connection, scope)

    @staticmethod
    async def _run_connection(connection: Connection, scope: trio.CancelScope) -> None:
        with scope:
            await connection.run()

    def _make_ask(self, server: str) -> Callable[[str, str, Mapping[str, Any]], Awaitable[str | None]]:
        async def ask(kind: str, text: str, schema: Mapping[str, Any]) -> str | None:
            number = next(self._numbers)
            event, slot = self._questions[number] = trio.Event(), list[str | None]()
            self.push("ask", {"ask": number, "server": server, "kind": kind, "text": text, "schema": dict(schema)})
            try:
                await event.wait()
            finally:
                self._questions.pop(number, None)
            return slot[0]

        return ask

    def _connection(self, args: Mapping[str, Any]) -> Connection:
        name = str(args["server"])
        if name not in self._connections:
            raise path_error(5, f"tools/{name}", "there is no such server any more")
        return self._connections[name][1]

    async def _call(self, number: int, args: Mapping[str, Any]) -> Any:
        def progress(fraction: float, message: str) -> None:
            self.push("progress", {"number": number, "done": fraction, "message": message})

        name, arguments = str(args["name"]), args["arguments"]
        return await self._connection(args).call(name, arguments, args["seconds"], args["most"], progress)

    async def _prompt(self, number: int, args: Mapping[str, Any]) -> Any:
        return await self._connection(args).prompt(str(args["name"]), args["arguments"], args["seconds"])

    async def _fetch(self, number: int, args: Mapping[str, Any]) -> Any:
        return await self._connection(args).fetch(str(args["uri"]), args["parts"])


async def serve(incoming: int, outgoing: int) -> None:
    """Serve until `incoming` ends."""
    frames, queue = trio.open_memory_channel[bytes](float("inf"))

    async def write() -> None:
        async with trio.lowlevel.FdStream(outgoing) as stream:
            async for frame in queue:
                await stream.send_all(frame)

    reader = FrameReader()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        host = Host(frames.send_nowait, nursery)
        async with trio.lowlevel.FdStream(incoming) as stream:
            while data := await stream.receive_some(_CHUNK_BYTES):
                for number, method, args in reader.feed(data):
                    host.handle(number, method, args)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Run the process on stdin and stdout."""
    hold_lifeline()
    outgoing = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of libraries must not end up among the frames
    warnings.simplefilter("ignore", MCPDeprecationWarning)  # servers of the earlier era are served as they are
    with contextlib.suppress(KeyboardInterrupt):
        trio.run(serve, os.dup(sys.stdin.fileno()), outgoing)


if __name__ == "__main__":
    main()
