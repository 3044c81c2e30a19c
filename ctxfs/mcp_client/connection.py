"""The connection to one MCP server: opened, followed, reopened with backoff; its documents are stored as files.

Failures of a server never raise out of `run`: they become the status of the connection.
"""

import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path as HostPath
from typing import Any

import httpx2
import trio
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated
from mcp.types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestParams,
    ElicitResult,
    ErrorData,
    Implementation,
    TextContent,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from ctxfs import __version__
from ctxfs.mcp_client.document_files import delete_unlisted, make_folder, store_document
from ctxfs.mcp_client.list_validation import validated_transport
from ctxfs.mcp_client.provider import MAX_INSTRUCTIONS_CHARACTERS
from ctxfs.mcp_client.results import document, prompt_result, result_of
from ctxfs.mcp_client.server_lists import ServerLists
from ctxfs.mcp_client.server_status import CONNECTING, READY, ServerPhase, ServerStatus, down
from ctxfs.mcp_client.stdio_transport import StdioTransport, last_stderr_line
from ctxfs.mcp_client.uri_paths import DIRECTORIES
from ctxfs.model.errors import CommandError, path_error
from ctxfs.store.settings import ServerSource
from ctxfs.store.user_folders import home_folder
from ctxfs.supervise import Backoff, Restarts, supervise

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 30.0
_LIST_SECONDS = 60.0
_SETTLE_SECONDS = 0.2
_PATIENCE_SECONDS = 10.0
_BACKOFF = Backoff(first_seconds=0.5, max_seconds=60.0, healthy_seconds=30.0)
_MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
MAX_MESSAGE_CHARACTERS = 200
_INVALID_REQUEST, _DECLINED = -32600, -1
_CLOSED = -32000

Push = Callable[[str, Any], None]
Ask = Callable[[str, str, Mapping[str, Any]], Awaitable[str | None]]


class Connection:
    """The connection to one server.

    `folder` stores its stderr and documents. `push` receives its state. `ask` sends a question to a person.
    """

    def __init__(self, spec: ServerSource, folder: HostPath, push: Push, ask: Ask) -> None:
        self.spec = spec
        self._folder = folder
        self._push = push
        self._ask = ask
        self._client: Client | None = None
        self._gone = trio.Event()
        self._pipes: StdioTransport | None = None
        self._stale: set[str] = set()
        self._refresh_requested = trio.Event()
        self._lists = ServerLists()
        self._phase = ServerPhase.CONNECTING
        self._phase_changed = trio.Event()
        self._limits: set[trio.CancelScope] = set()
        self._retry = trio.Event()
        self._instructions = ""

    async def run(self) -> None:
        """Keep the server connected until cancelled."""
        # A server that cannot be reached at first is tried again later than one whose healthy connection has ended.
        await supervise(self._connect, Restarts(_BACKOFF, ends=1), self._report_end, self._wait_retry)

    async def _connect(self) -> str:
        """Run one connection, and return why it ended."""
        self._set_phase(ServerPhase.CONNECTING)
        self._push_state(CONNECTING)
        return await self._run_session()

    def _report_end(self, reason: str, pause: float) -> None:
        self._push_state(down(f"{reason}; it is tried again in {pause:g} s"))
        self._retry = trio.Event()
        self._set_phase(ServerPhase.DOWN)

    async def _wait_retry(self, seconds: float) -> None:
        """Wait for the next attempt: a caller that needs the server starts it earlier."""
        with trio.move_on_after(seconds):
            await self._retry.wait()

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        seconds: float,
        max_bytes: int,
        on_progress: Callable[[float, str], None],
    ) -> dict[str, Any]:
        """Call a tool and return its result (`results.result_of`). Raise OSError EIO if the server is not connected."""

        async def forward_progress(progress: float, total: float | None, message: str | None) -> None:
            on_progress(progress / total if total else 0.0, (message or "")[:MAX_MESSAGE_CHARACTERS])

        client = await self._connected()
        with self._limit(seconds) as scope:
            result = await self._await_result(
                client.call_tool(name, dict(arguments), progress_callback=forward_progress)
            )
        if scope.cancelled_caught:
            return _failure(f"it took more than {seconds:g} s")
        return result if isinstance(result, dict) else result_of(result, max_bytes)

    async def prompt(self, name: str, arguments: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return a filled-in prompt. Raise OSError EIO if the server is not connected."""
        texts = {key: value if isinstance(value, str) else str(value) for key, value in arguments.items()}
        client = await self._connected()
        with self._limit(seconds) as scope:
            result = await self._await_result(client.get_prompt(name, texts))
        if scope.cancelled_caught:
            return _failure(f"it took more than {seconds:g} s")
        return result if isinstance(result, dict) else prompt_result(result)

    async def fetch(self, uri: str, parts: Sequence[str]) -> bool:
        """Store a document as the file at `parts`; return False if the server has none there.

        Raise OSError EIO if the server is not connected, EFBIG for a document above the limit.
        """
        client = await self._connected()
        with self._limit(_LIST_SECONDS) as scope:
            try:
                resource = await client.read_resource(uri)
            except MCPError as error:
                if error.error.code == _CLOSED:
                    raise self._lost_error() from error
                return False
            except (OSError, httpx2.HTTPError) as error:
                raise self._lost_error() from error
        if scope.cancelled_caught:
            raise path_error(5, uri, f"the server '{self.spec.name}' does not answer")
        if any(content.mime_type in DIRECTORIES for content in resource.contents):
            await trio.to_thread.run_sync(make_folder, self._folder / "resources", tuple(parts))
            return True
        data = b"\n".join(document(content) for content in resource.contents)
        if len(data) > _MAX_DOCUMENT_BYTES:
            raise path_error(27, uri, f"it has more than {_MAX_DOCUMENT_BYTES} bytes")
        await trio.to_thread.run_sync(store_document, self._folder / "resources", tuple(parts), data, uri)
        return True

    # one connection

    async def _run_session(self) -> str:
        """Connect and follow the server until the connection ends; return why it ended."""
        reasons = ["it ended"]
        self._gone = trio.Event()
        with trio.CancelScope(deadline=trio.current_time() + _CONNECT_SECONDS) as scope:
            try:
                async with self._transport() as transport, self._make_client(transport) as client:
                    scope.deadline = float("inf")
                    self._client = client
                    self._set_phase(ServerPhase.READY)
                    await self._follow(client)
            except* Exception as group:
                error: BaseException = group
                while isinstance(error, BaseExceptionGroup):
                    error = error.exceptions[0]
                log.info("server %s: %r", self.spec.name, error)
                reasons[0] = _describe_error(error)
            finally:
                self._client = None
                for limit in list(self._limits):
                    limit.cancel()
        if scope.cancelled_caught:
            reasons[0] = f"it did not answer within {_CONNECT_SECONDS:g} s"
        elif self._pipes is not None and self._pipes.ended:
            reasons[0] = self._pipes.ended
        stderr_line = last_stderr_line(self._folder / "stderr") if self.spec.command else ""
        return f"{reasons[0]} ({stderr_line})" if stderr_line and stderr_line not in reasons[0] else reasons[0]

    @contextlib.asynccontextmanager
    async def _transport(self) -> AsyncIterator[Any]:
        if self.spec.url:
            headers = {"Authorization": f"Bearer {self._variable(self.spec.token_env)}"} if self.spec.token_env else {}
            async with httpx2.AsyncClient(headers=headers, timeout=_CONNECT_SECONDS) as http:
                yield validated_transport(streamable_http_client(self.spec.url, http_client=http), self._left_out)
            return
        names = ("PATH", "HOME", "LANG", "LC_ALL", "USER", "LOGNAME", "SHELL", "TMPDIR", "TERM")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        environment |= {name: self._variable(name) for name in self.spec.env}
        pipes = StdioTransport(
            self.spec.command, environment, _working_folder(), self._folder / "stderr", self._left_out
        )
        self._gone, self._pipes = pipes.gone, pipes
        yield pipes.opened()

    def _left_out(self, kind: str, name: str, why: str) -> None:
        self._lists.left_out[f"{kind} {name}"] = why

    def _variable(self, name: str) -> str:
        if name not in os.environ:
            raise OSError(2, f"${name} is not set where ctxfs was started")
        return os.environ[name]

    def _make_client(self, transport: Any) -> Client:
        return Client(
            transport,
            message_handler=self._handle_notification,
            elicitation_callback=self._elicit,
            sampling_callback=self._sample,
            client_info=Implementation(name="ctxfs", version=__version__),
            cache=None,
        )

    async def _follow(self, client: Client) -> None:
        """List everything, then refresh lists after each notification of a change, until the connection ends."""
        self._instructions = client.instructions or ""
        self._stale = {"tools", "prompts", "resources"}
        self._refresh_requested.set()
        listening = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_when_gone, nursery.cancel_scope)
            while True:
                await self._refresh_requested.wait()
                self._refresh_requested = trio.Event()
                stale, self._stale = self._stale, set()
                await self._refresh(client, stale)
                if client.protocol_version in MODERN_PROTOCOL_VERSIONS and "resources" in stale:
                    listening.cancel()  # the set of documents to subscribe to has changed
                    listening = trio.CancelScope()
                    nursery.start_soon(self._listen, client, listening)
                await trio.sleep(_SETTLE_SECONDS)  # many notifications cause one refresh

    async def _end_when_gone(self, scope: trio.CancelScope) -> None:
        await self._gone.wait()
        scope.cancel()

    async def _listen(self, client: Client, scope: trio.CancelScope) -> None:
        """Receive notifications from servers of the modern protocol versions."""
        uris = list(self._lists.documents.values())
        subscriptions = {"tools_list_changed": True, "prompts_list_changed": True, "resources_list_changed": True}
        with scope, contextlib.suppress(MCPError, OSError, TimeoutError, SubscriptionLost):
            async with client.listen(**subscriptions, resource_subscriptions=uris) as events:
                async for event in events:
                    if isinstance(event, ResourceUpdated):
                        self._mark_document_stale(str(event.uri))
                    else:
                        self._mark_lists_stale(type(event).__name__)

    async def _handle_notification(self, message: Any) -> None:
        method = str(getattr(message, "method", ""))
        if method == "notifications/resources/updated":
            self._mark_document_stale(str(message.params.uri))
        elif method.endswith("list_changed"):
            self._mark_lists_stale(method)

    def _mark_document_stale(self, uri: str) -> None:
        self._stale.add(f"uri {uri}")
        self._refresh_requested.set()

    def _mark_lists_stale(self, text: str) -> None:
        for kind in ("tools", "prompts", "resources"):
            if kind in text.lower():
                self._stale.add(kind)
                self._refresh_requested.set()

    async def _refresh(self, client: Client, stale: set[str]) -> None:
        capabilities = client.server_capabilities
        with trio.fail_after(_LIST_SECONDS):
            await self._lists.refresh(client, stale)
        self._push_state(READY)
        if "resources" in stale and capabilities.resources is not None:
            await self._fetch_all(client, subscribes=bool(capabilities.resources.subscribe))
        for uri in sorted(entry[4:] for entry in stale if entry.startswith("uri ")):
            with contextlib.suppress(OSError):
                paths = {document_uri: parts for parts, document_uri in self._lists.documents.items()}
                if uri in paths:
                    await self.fetch(uri, paths[uri])

    async def _fetch_all(self, client: Client, *, subscribes: bool) -> None:
        """Store every document in advance, so that it is readable while the server is away."""
        documents = self._lists.documents
        await trio.to_thread.run_sync(delete_unlisted, self._folder / "resources", set(documents))
        for parts, uri in documents.items():
            with contextlib.suppress(OSError):
                await self.fetch(uri, parts)
            if subscribes and client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
                with contextlib.suppress(MCPError):
                    await client.session.subscribe_resource(uri)
        self._push_state(READY)

    # requests from the server

    async def _elicit(self, context: Any, params: ElicitRequestParams) -> ElicitResult | ErrorData:
        schema = getattr(params, "requested_schema", None) or {}
        text = "\n".join([params.message, *([str(url)] if (url := getattr(params, "url", None)) else [])])
        answer = await self._ask_person("form", text, dict(schema) if isinstance(schema, dict) else {})
        if answer is None:
            return ElicitResult(action="decline")
        return ElicitResult(action="accept", content=_fill_form(answer, dict(schema)))

    async def _sample(self, context: Any, params: CreateMessageRequestParams) -> CreateMessageResult | ErrorData:
        messages = [f"{message.role}: {getattr(message.content, 'text', '[no text]')}" for message in params.messages]
        text = "\n".join([*([params.system_prompt] if params.system_prompt else []), *messages])
        answer = await self._ask_person("model", text, {})
        if answer is None:
            return ErrorData(code=_DECLINED, message="a person has declined")
        return CreateMessageResult(role="assistant", content=TextContent(type="text", text=answer), model="human")

    async def _ask_person(self, kind: str, text: str, schema: Mapping[str, Any]) -> str | None:
        """Ask a person. Time limits of this server's calls are suspended meanwhile."""
        for limit in self._limits:
            limit.deadline = float("inf")
        return await self._ask(kind, text, schema)

    # inside

    async def _connected(self) -> Client:
        """Return the client, after a wait of at most `_PATIENCE_SECONDS` while it is connecting.

        A server that is down is tried once more, then OSError EIO is raised.
        """
        tried = False
        with trio.move_on_after(_PATIENCE_SECONDS):
            while self._client is None or self._gone.is_set():
                if self._phase is ServerPhase.DOWN:
                    if tried:
                        break
                    tried = True
                    self._retry.set()
                await self._phase_changed.wait()
        if self._client is None or self._gone.is_set():
            raise self._lost_error()
        return self._client

    def _set_phase(self, phase: ServerPhase) -> None:
        self._phase = phase
        changed, self._phase_changed = self._phase_changed, trio.Event()
        changed.set()

    def _lost_error(self) -> OSError:
        return path_error(
            5, f"tools/{self.spec.name}", f"the server is not there: tools/{self.spec.name}/status says why"
        )

    async def _await_result(self, request: Awaitable[Any]) -> Any:
        """Return the response, or the failure that the server or the protocol reports.

        Raise OSError EIO for a lost connection.
        """
        try:
            return await request
        except MCPError as error:
            if error.error.code == _CLOSED:
                raise self._lost_error() from error
            return _failure(error.error.message)
        except (OSError, httpx2.HTTPError) as error:
            if self.spec.url:
                self._gone.set()
            raise self._lost_error() from error
        except ValueError as error:  # it violates the protocol, or the server's own schema
            return _failure(f"its answer cannot be understood: {error}")
        except RuntimeError as error:
            return _failure(str(error))

    @contextlib.contextmanager
    def _limit(self, seconds: float) -> Iterator[trio.CancelScope]:
        """Return a scope that ends after `seconds`, or with the connection."""
        disconnected = self._gone
        with trio.move_on_after(seconds) as scope:
            self._limits.add(scope)
            try:
                yield scope
            finally:
                self._limits.discard(scope)
        if scope.cancelled_caught and disconnected.is_set():
            raise self._lost_error()

    def _push_state(self, status: ServerStatus) -> None:
        self._push(
            "state",
            {
                "name": self.spec.name,
                "status": status.to_wire(),
                "instructions": self._instructions[:MAX_INSTRUCTIONS_CHARACTERS],
                **self._lists.record(),
            },
        )


def _working_folder() -> HostPath:
    """Return the folder that servers start in: the home folder, or the root for a user without one."""
    try:
        return HostPath(home_folder())
    except CommandError:
        return HostPath("/")


def _failure(why: str) -> dict[str, Any]:
    return {"text": "", "structured": None, "files": [], "fault": why[:300] or "it failed, and does not say why"}


def _describe_error(error: BaseException) -> str:
    """Return why a connection failed."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"there is no program '{error.filename}'"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, MCPError):
        return error.error.message
    if isinstance(error, trio.TooSlowError):
        return f"it did not say what it has within {_LIST_SECONDS:g} s"
    return str(error) or type(error).__name__


def _fill_form(answer: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a person's answer as the form requires it.

    The answer is a JSON object, or the text of the string fields. Boolean fields that it does not set are true.
    """
    with contextlib.suppress(ValueError):
        value = json.loads(answer)
        if isinstance(value, dict):
            return value
    properties = schema.get("properties", {})
    values: dict[str, Any] = {}
    for name, subschema in properties.items():
        kind = subschema.get("type") if isinstance(subschema, dict) else None
        if kind == "boolean":
            values[name] = True
        elif answer and kind == "string":
            values[name] = answer
    return values
