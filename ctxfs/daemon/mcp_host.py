"""The daemon's side of the MCP host process.

The daemon starts the process when a server is configured, restarts it if it ends, sends it the configured servers and
forwards calls on behalf of callers.
"""

import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import trio

from ctxfs.app import App
from ctxfs.daemon.worker_process import worker
from ctxfs.exec.definition import Tool
from ctxfs.exec.outcome import Outcome, Progress
from ctxfs.mcp_client.server_status import ServerStatus, down
from ctxfs.model.errors import path_error
from ctxfs.rpc.frames import FrameReader, error_from_wire, pack_frame
from ctxfs.supervise import Backoff, Restarts, supervise
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

_BACKOFF = Backoff(first_seconds=1.0, max_seconds=1.0, factor=1.0)
_END_SECONDS = 8.0


class McpHost:
    """The daemon's interface to the MCP host process.

    `changed` is called when a server's tools or documents have changed.
    """

    def __init__(self, app: App, changed: Callable[[], Awaitable[None]]) -> None:
        self._app = app
        self._changed = changed
        self._process: trio.Process | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[trio.Event, list[Any]]] = {}
        self._progress: dict[int, Progress] = {}
        self._writing = trio.Lock()
        self._reloaded = trio.Event()
        self._state_sender, self._state_receiver = trio.open_memory_channel[Mapping[str, Any]](float("inf"))
        self._nursery: trio.Nursery | None = None
        self._ready_events: dict[str, trio.Event] = {}
        app.tools.connect(self)

    async def run(self) -> None:
        """Run the host process while servers are configured, and restart it whenever it ends."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._store_states)
            await supervise(self._run_process, Restarts(_BACKOFF), self._report_end)

    async def _run_process(self) -> None:
        """Run the process until it ends, as soon as a server is configured."""
        while not self._app.settings.servers:
            await self._reloaded.wait()
            self._reloaded = trio.Event()
        await self._run_once()

    def _report_end(self, result: None, pause: float) -> None:
        log.error("the MCP host process ended; restarting it")

    async def reload(self) -> None:
        """Send the configured servers to the host process, and wake callers that wait for a server that is gone."""
        self._reloaded.set()
        names = {server.name for server in self._app.settings.servers}
        for name in [name for name in self._ready_events if name not in names]:
            self._ready_events.pop(name).set()
        if self._process is not None:
            await self._send_servers()

    async def ready(self, name: str, seconds: float) -> ServerStatus:
        """Return a server's status as soon as it is ready or down, or after `seconds`."""
        with trio.move_on_after(seconds):
            while True:
                if self._status(name).is_settled:
                    break
                await self._ready_events.setdefault(name, trio.Event()).wait()
        return self._status(name)

    async def run_tool(self, tool: Tool, arguments: Mapping[str, Any], progress: Progress) -> Outcome:
        """Call a tool of a server, or fill in a prompt. Raise OSError EIO if the server is not connected."""
        started = trio.current_time()
        values = {"server": tool.server, "name": tool.called, "arguments": dict(arguments)}
        method = "prompt" if tool.is_prompt else "call"
        limits = {"seconds": tool.timeout_seconds, "most": tool.output_bytes}
        result = await self._request(method, {**values, **limits}, progress)
        text, seconds = str(result["text"]).encode("utf-8", "replace"), trio.current_time() - started
        files = [(str(name), bytes(data)) for name, data in result["files"]]
        fault = str(result["fault"])
        return Outcome(text, b"", None if fault else 0, seconds, fault, result["structured"], files)

    async def fetch(self, server: str, uri: str, parts: tuple[str, ...]) -> bool:
        """Store a document of a server as a file; return False if the server has none there.

        Raise OSError EIO if it is not connected.
        """
        return bool(await self._request("fetch", {"server": server, "uri": uri, "parts": list(parts)}))

    # the process

    async def _run_once(self) -> None:
        async with worker("ctxfs.mcp_client.host_process", _END_SECONDS) as process:
            try:
                self._process = process
                await self._send_servers()
                reader = FrameReader()
                assert process.stdout is not None
                async for data in process.stdout:
                    for number, error, value in reader.feed(data):
                        self._handle_frame(number, error, value)
            finally:
                self._process = None
                for event, _ in self._waiting.values():
                    event.set()
                self._app.tools.shelf.set_all_statuses(down("the servers' process ended"))

    def _handle_frame(self, number: int, error: Any, value: Any) -> None:
        if number:
            if number in self._waiting:
                event, slot = self._waiting[number]
                slot.extend((error, value))
                event.set()
        elif error == "state":
            self._state_sender.send_nowait(value)
        elif error == "progress":
            if value["number"] in self._progress:
                self._progress[value["number"]](min(max(float(value["done"]), 0.0), 1.0), str(value["message"])[:200])
        elif error == "ask" and self._nursery is not None:
            self._nursery.start_soon(self._ask, value)

    async def _store_states(self) -> None:
        async for state in self._state_receiver:
            try:
                has_changed = await blocking(self._app.tools.shelf.update, state)
            except Exception:
                log.exception("the state of server %s cannot be used", state.get("name"))
                continue
            if has_changed:
                await self._changed()
            event = self._ready_events.pop(str(state["name"]), None)
            if event is not None:
                event.set()

    async def _ask(self, question: Mapping[str, Any]) -> None:
        value = await self._app.memory.elicitation.request(
            question["server"], question["kind"], question["text"], question["schema"]
        )
        await self._send([0, "answer", {"ask": question["ask"], "value": value}])

    def _status(self, name: str) -> ServerStatus:
        state = self._app.tools.shelf.states().get(name)
        return state.status if state is not None else down("there is no such server")

    async def _send_servers(self) -> None:
        # `searchable` is left out: a change of it needs no new connection.
        specs = [asdict(replace(server, searchable=False)) for server in self._app.settings.servers]
        await self._send([0, "servers", {"specs": specs, "folder": str(self._app.layout.servers)}])

    async def _request(self, method: str, args: Mapping[str, Any], progress: Progress | None = None) -> Any:
        if self._process is None:
            raise path_error(
                5, f"tools/{args['server']}", "the servers' process is not there yet: try again in a moment"
            )
        number = next(self._numbers)
        event, slot = trio.Event(), list[Any]()
        self._waiting[number] = (event, slot)
        if progress is not None:
            self._progress[number] = progress
        try:
            await self._send([number, method, args])
            await event.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self._send([0, "cancel", {"number": number}])
            raise
        finally:
            del self._waiting[number]
            self._progress.pop(number, None)
        if not slot:
            raise path_error(5, f"tools/{args['server']}", "the servers' process went away")
        if slot[0] is not None:
            raise error_from_wire(slot[0])
        return slot[1]

    async def _send(self, message: object) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        async with self._writing:
            try:
                await process.stdin.send_all(pack_frame(message))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                log.warning("the MCP host process does not read requests")
