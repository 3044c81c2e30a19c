"""The tree as MCP resources: the template `ctx:///{+path}`, curated entries, completion, and change notifications."""

import base64
import contextlib
import errno
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import trio
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    BlobResourceContents,
    CompleteResult,
    Completion,
    EmptyResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    TextResourceContents,
    UnsubscribeRequestParams,
)

from ctxfs.model.path import ROOT, Path, printable
from mcp_server.pagination import page_of
from mcp_server.sessions import TreeSession
from mcp_server.skills import SKILL_SCHEME, skill_of, skill_path, skill_resources
from mcp_server.tool_registry import text
from mcp_server.tree_ops import entries, read_labelled, stat
from mcp_server.uris import TEMPLATE, mime_type_of, parsed, path_of, printable_uri, shown, uri_of

_MOST_COMPLETED = 100
_MOST_SUBSCRIPTIONS = 1024
_NOTICED_SECONDS = 0.05
_CURATED = (
    ("AGENTS.md", "How to use this tree"),
    ("llms.txt", "What is in this tree, in a page"),
    ("knowledge", "Folders that the user added"),
    ("memory", "What was remembered: by agent and kind"),
    ("memory/shared", "What all agents share"),
    ("pad", "Scratchpads"),
    ("context", "Contexts that were built"),
    ("search", "Questions as paths"),
    ("tools", "Tools as files"),
    ("history", "What was said and done"),
    (".ctxfs/whoami", "Who you are here"),
)
_MOST_PLACES = 100  # changed paths for one notification
_NOT_THERE = (errno.ENOENT, errno.EINVAL, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EACCES)


class ResourceNotifications:
    """Notifications about changed resources for their subscribers; one object for each TreeSession.

    Clients of the handshake protocol subscribe to single addresses until their connection ends. Later clients open a
    stream.
    """

    def __init__(self, door: TreeSession, nursery: trio.Nursery) -> None:
        self._door = door
        self._nursery = nursery
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus)
        self._watching = False
        self._sessions: dict[Connection, dict[str, ServerSession]] = {}  # by the address as the client wrote it
        self._wanted: dict[str, Counter[str]] = {}  # address → client's spelling → number of subscribers
        self._waiting: dict[str, set[Path]] = {}  # address → changed paths
        self._seen: set[str] = set()  # addresses that were visible: their deletion is reported

    async def subscribe(self, uri: str, session: ServerSession) -> None:
        """Subscribe a session to a resource.

        Raises MCPError for an invalid or invisible address, and above the limit.
        """
        uri_of(_place(uri))
        await self._see(uri)
        connection = _connection_of(session)
        if connection not in self._sessions:
            connection.exit_stack.callback(self._forget, connection)
        known = self._sessions.setdefault(connection, {})
        if uri not in known:
            if len(known) >= _MOST_SUBSCRIPTIONS:
                raise MCPError(INVALID_PARAMS, f"{_MOST_SUBSCRIPTIONS} subscriptions at most")
            self._want(uri)
        known[uri] = session
        await self._watch()

    def unsubscribe(self, uri: str, session: ServerSession) -> None:
        """End a subscription; an address without one is ignored."""
        if self._sessions.get(_connection_of(session), {}).pop(uri, None) is not None:
            self._want_no_more(uri)

    async def listen(
        self, context: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve a stream of notifications until its reader disconnects."""
        wanted = [uri for uri in set(params.notifications.resource_subscriptions or ()) if _is_address(uri)]
        for uri in wanted:
            with contextlib.suppress(MCPError):  # a notification follows when the path becomes visible
                await self._see(uri)
        for uri in wanted:
            self._want(uri)
        try:
            await self._watch()
            return await self._listen(context, params)
        finally:
            for uri in wanted:
                self._want_no_more(uri)

    @property
    def wanted(self) -> Collection[str]:
        """The addresses that have a subscriber."""
        return self._wanted.keys()

    def _want(self, uri: str) -> None:
        self._wanted.setdefault(uri_of(path_of(uri)), Counter())[uri] += 1

    def _want_no_more(self, uri: str) -> None:
        place = uri_of(path_of(uri))
        self._wanted[place] -= Counter((uri,))
        if not self._wanted[place]:
            del self._wanted[place]

    def _forget(self, connection: Connection) -> None:
        for uri in self._sessions.pop(connection, ()):
            self._want_no_more(uri)

    async def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            await self._door.watch(self._changed)

    def _changed(self, places: Sequence[Path]) -> None:
        fresh = set[str]()
        for place in places:
            for at in (place, place.parent):
                uri = uri_of(at)
                if uri in self._wanted:
                    fresh |= {uri} - self._waiting.keys()
                    if len(known := self._waiting.setdefault(uri, set())) < _MOST_PLACES:
                        known.add(place)
        if fresh:
            self._nursery.start_soon(self._tell, sorted(fresh))

    async def _tell(self, uris: Sequence[str]) -> None:
        """Notify the subscribers of visible changes; the changes of a short time are one notification."""
        await trio.sleep(_NOTICED_SECONDS)
        changed = {uri: self._waiting.pop(uri, set()) for uri in uris}
        for uri in uris:
            if not await self._is_theirs(uri, changed[uri]):
                continue
            for written in list(self._wanted.get(uri, ())):
                await self._bus.publish(ResourceUpdated(uri=written))
                for known in list(self._sessions.values()):
                    if written in known:
                        await known[written].send_resource_updated(written)

    async def _see(self, uri: str) -> None:
        """Raise MCPError for an invisible path, and for an absent name in a partly visible directory."""
        path = _place(uri)
        try:
            await stat(self._door, path)
            self._seen.add(uri_of(path))
        except OSError as error:
            if error.errno == errno.ENOENT and await self._sees_all_of(path.parent):
                return  # it may be created later
            raise MCPError(INVALID_PARAMS, f"{printable_uri(uri)}: {error.strerror}") from error

    async def _is_theirs(self, uri: str, places: Collection[Path]) -> bool:
        """Return True for a change of a visible path, or of a path that was visible until its deletion."""
        path = path_of(uri)
        try:
            await stat(self._door, path)
        except OSError as error:
            if error.errno != errno.ENOENT or uri not in self._seen:
                return False
            self._seen.discard(uri)
            return True
        self._seen.add(uri)
        if path in places or await self._sees_all_of(path):
            return True
        for place in places:
            with contextlib.suppress(OSError):
                await stat(self._door, place)
                return True
        return False

    async def _sees_all_of(self, directory: Path) -> bool:
        """Return True if every entry of a directory is visible; the tree gives no times of other directories."""
        try:
            entry = await stat(self._door, directory)
        except OSError:
            return False
        return entry.is_dir and bool(entry.mtime_ns)


def _connection_of(session: ServerSession) -> Connection:
    """Return the connection of a session, for which the SDK has no public attribute.

    The SDK creates a `ServerSession` for each request; the connection lasts.
    """
    return session._connection


def _is_address(uri: str) -> bool:
    try:
        path_of(uri)
    except OSError:
        return False
    return True


def _place(uri: str) -> Path:
    try:
        return path_of(uri)
    except OSError as error:
        raise MCPError(INVALID_PARAMS, f"{printable_uri(uri)}: {error.strerror}") from error


async def list_resources(door: TreeSession, cursor: str | None, more: Sequence[Resource] = ()) -> ListResourcesResult:
    """Return a page of the curated entries, the sources and the skills."""
    page, following = page_of([*more, *await _known(door)], cursor)
    return ListResourcesResult(resources=page, next_cursor=following)


async def _known(door: TreeSession) -> list[Resource]:
    found = []
    for name, words in _CURATED:
        path = Path.parse(name)
        try:
            entry = await stat(door, path)
        except OSError:
            continue
        kind = "inode/directory" if entry.is_dir else mime_type_of(path)
        found.append(Resource(uri=uri_of(path), name=name, description=words, mime_type=kind))
    try:
        sources = await entries(door, Path(("knowledge",)))
    except OSError:
        sources = []
    for source in sources:
        path = Path(("knowledge", source.name))
        found.append(Resource(uri=uri_of(path), name=shown(path), description="A source", mime_type="inode/directory"))
    return [*found, *await skill_resources(door)]


def list_templates(more: Sequence[ResourceTemplate] = ()) -> ListResourceTemplatesResult:
    """Return the template of the tree, which matches any path, and those of `more`."""
    words = "Any file or directory of the tree; a path can be a question: search/<question>/context.md"
    return ListResourceTemplatesResult(
        resource_templates=[ResourceTemplate(uri_template=TEMPLATE, name="path", description=words), *more]
    )


async def read_resource(door: TreeSession, uri: str) -> ReadResourceResult:
    """Return a file as text or bytes, or a directory as a list of addresses.

    Raises MCPError -32602 for an absent path.
    """
    if uri.startswith(SKILL_SCHEME):
        path = skill_path(uri)
        await skill_of(door, path, uri)
    else:
        path = _place(uri)
    try:
        entry = await stat(door, path)
        if entry.is_dir:
            listed = [f"{uri_of(path / each.name)}{'/' if each.is_dir else ''}" for each in await entries(door, path)]
            contents = TextResourceContents(uri=uri, mime_type="text/uri-list", text="\n".join(listed) + "\n")
            return ReadResourceResult(contents=[contents])
        data, label = await read_labelled(door, path)
    except OSError as error:
        code = INVALID_PARAMS if error.errno in _NOT_THERE else INTERNAL_ERROR
        raise MCPError(code, f"{printable_uri(uri)}: {error.strerror}", {"uri": printable_uri(uri)}) from error
    beside = [TextResourceContents(uri=uri, mime_type="text/plain", text=label)] if label else []
    return ReadResourceResult(contents=[*beside, contents_of(uri, path, data)])


def contents_of(uri: str, path: Path, data: bytes) -> TextResourceContents | BlobResourceContents:
    """Return text contents for UTF-8 without NUL bytes, else base64."""
    kind = mime_type_of(path, data)
    try:
        words = data.decode()
    except UnicodeDecodeError:
        words = None
    if words is None or "\0" in words[:8192]:
        return BlobResourceContents(uri=uri, mime_type=kind, blob=base64.b64encode(data).decode())
    return TextResourceContents(uri=uri, mime_type=kind, text=text(words).text)


async def complete_path(door: TreeSession, begun: str) -> CompleteResult:
    """Return the paths that complete a typed prefix."""
    parent, _, prefix = begun.lstrip("/").rpartition("/")
    try:
        where = parsed(parent) if parent else ROOT
        found = await entries(door, where)
    except OSError:
        found = []
    names = [f"{where / each.name}{'/' if each.is_dir else ''}" for each in found if each.name.startswith(prefix)]
    return completed([printable(name) for name in names])


def completed(values: Sequence[str]) -> CompleteResult:
    """Return at most 100 values, with the total."""
    some = list(values[:_MOST_COMPLETED])
    return CompleteResult(completion=Completion(values=some, total=len(values), has_more=len(values) > len(some)))


async def subscribe(
    news: ResourceNotifications, context: ServerRequestContext[Any, Any], params: SubscribeRequestParams
) -> EmptyResult:
    """Handle `resources/subscribe` of the handshake protocol."""
    await news.subscribe(str(params.uri), context.session)
    return EmptyResult()


async def unsubscribe(
    news: ResourceNotifications, context: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams
) -> EmptyResult:
    """Handle `resources/unsubscribe` of the handshake protocol."""
    news.unsubscribe(str(params.uri), context.session)
    return EmptyResult()
