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

from ctxfs.index.extract.text_decoding import read_text
from ctxfs.mcp_server.pagination import page_of
from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.mcp_server.skills import SKILL_SCHEME, skill_of, skill_path, skill_resources
from ctxfs.mcp_server.tool_registry import text
from ctxfs.mcp_server.tree_ops import entries, read_labelled, stat
from ctxfs.mcp_server.uris import TEMPLATE, mime_type_of, parse_path, path_of, printable_path, printable_uri, uri_of
from ctxfs.model.path import ROOT, Path, printable

_MAX_COMPLETIONS = 100
_MAX_SUBSCRIPTIONS = 1024
_COALESCE_SECONDS = 0.05
_CURATED = (
    ("AGENTS.md", "How to use this tree"),
    ("llms.txt", "Contents of this tree, in a page"),
    ("knowledge", "Folders that the user added"),
    ("memory", "Memory, by agent and kind"),
    ("memory/shared", "Memory of all agents"),
    ("pad", "Scratchpads"),
    ("context", "Contexts, by task"),
    ("search", "Questions as paths"),
    ("tools", "Tools as files"),
    ("history", "Messages and actions"),
    (".ctxfs/whoami", "Who you are here"),
)
_MAX_PENDING_PATHS = 100  # changed paths for one notification
_ABSENT_ERRORS = (errno.ENOENT, errno.EINVAL, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EACCES)


class ResourceNotifications:
    """Notifications about changed resources for their subscribers; one object for each TreeSession.

    Clients of the handshake protocol subscribe to single addresses until their connection ends. Later clients open a
    stream.
    """

    def __init__(self, tree: TreeSession, nursery: trio.Nursery) -> None:
        self._tree = tree
        self._nursery = nursery
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus)
        self._is_watching = False
        self._sessions: dict[Connection, dict[str, ServerSession]] = {}  # by the address as the client wrote it
        self._subscribers: dict[str, Counter[str]] = {}  # address → client's spelling → number of subscribers
        self._pending: dict[str, set[Path]] = {}  # address → changed paths
        self._visible: set[str] = set()  # addresses that were visible: their deletion is reported

    async def subscribe(self, uri: str, session: ServerSession) -> None:
        """Subscribe a session to a resource.

        Raises MCPError for an invalid or invisible address, and above the limit.
        """
        uri_of(_parse_uri(uri))
        await self._check_visible(uri)
        connection = _connection_of(session)
        if connection not in self._sessions:
            connection.exit_stack.callback(self._drop_connection, connection)
        subscriptions = self._sessions.setdefault(connection, {})
        if uri not in subscriptions:
            if len(subscriptions) >= _MAX_SUBSCRIPTIONS:
                raise MCPError(INVALID_PARAMS, f"{_MAX_SUBSCRIPTIONS} subscriptions at most")
            self._add_subscriber(uri)
        subscriptions[uri] = session
        await self._start_watching()

    def unsubscribe(self, uri: str, session: ServerSession) -> None:
        """End a subscription; an address without one is ignored."""
        if self._sessions.get(_connection_of(session), {}).pop(uri, None) is not None:
            self._remove_subscriber(uri)

    async def listen(
        self, context: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve a stream of notifications until its reader disconnects."""
        uris = [uri for uri in set(params.notifications.resource_subscriptions or ()) if _is_valid_uri(uri)]
        for uri in uris:
            with contextlib.suppress(MCPError):  # a notification follows when the path becomes visible
                await self._check_visible(uri)
        for uri in uris:
            self._add_subscriber(uri)
        try:
            await self._start_watching()
            return await self._listen(context, params)
        finally:
            for uri in uris:
                self._remove_subscriber(uri)

    @property
    def subscribed_uris(self) -> Collection[str]:
        """The addresses that have a subscriber."""
        return self._subscribers.keys()

    def _add_subscriber(self, uri: str) -> None:
        self._subscribers.setdefault(uri_of(path_of(uri)), Counter())[uri] += 1

    def _remove_subscriber(self, uri: str) -> None:
        key = uri_of(path_of(uri))
        self._subscribers[key] -= Counter((uri,))
        if not self._subscribers[key]:
            del self._subscribers[key]

    def _drop_connection(self, connection: Connection) -> None:
        for uri in self._sessions.pop(connection, ()):
            self._remove_subscriber(uri)

    async def _start_watching(self) -> None:
        if not self._is_watching:
            self._is_watching = True
            await self._tree.watch(self._on_changes)

    def _on_changes(self, paths: Sequence[Path]) -> None:
        new_uris = set[str]()
        for path in paths:
            for target in (path, path.parent):
                uri = uri_of(target)
                if uri in self._subscribers:
                    new_uris |= {uri} - self._pending.keys()
                    if len(pending := self._pending.setdefault(uri, set())) < _MAX_PENDING_PATHS:
                        pending.add(path)
        if new_uris:
            self._nursery.start_soon(self._notify, sorted(new_uris))

    async def _notify(self, uris: Sequence[str]) -> None:
        """Notify the subscribers of visible changes; the changes of a short time are one notification."""
        await trio.sleep(_COALESCE_SECONDS)
        changed = {uri: self._pending.pop(uri, set()) for uri in uris}
        for uri in uris:
            if not await self._is_visible_change(uri, changed[uri]):
                continue
            for spelling in list(self._subscribers.get(uri, ())):
                await self._bus.publish(ResourceUpdated(uri=spelling))
                for subscriptions in list(self._sessions.values()):
                    if spelling in subscriptions:
                        await subscriptions[spelling].send_resource_updated(spelling)

    async def _check_visible(self, uri: str) -> None:
        """Raise MCPError for an invisible path, and for an absent name in a partly visible directory."""
        path = _parse_uri(uri)
        try:
            await stat(self._tree, path)
            self._visible.add(uri_of(path))
        except OSError as error:
            if error.errno == errno.ENOENT and await self._is_wholly_visible(path.parent):
                return  # it may be created later
            raise MCPError(INVALID_PARAMS, f"{printable_uri(uri)}: {error.strerror}") from error

    async def _is_visible_change(self, uri: str, changed_paths: Collection[Path]) -> bool:
        """Return True for a change of a visible path, or of a path that was visible until its deletion."""
        path = path_of(uri)
        try:
            await stat(self._tree, path)
        except OSError as error:
            if error.errno != errno.ENOENT or uri not in self._visible:
                return False
            self._visible.discard(uri)
            return True
        self._visible.add(uri)
        if path in changed_paths or await self._is_wholly_visible(path):
            return True
        for changed_path in changed_paths:
            with contextlib.suppress(OSError):
                await stat(self._tree, changed_path)
                return True
        return False

    async def _is_wholly_visible(self, directory: Path) -> bool:
        """Return True if every entry of a directory is visible; the tree gives no times of other directories."""
        try:
            entry = await stat(self._tree, directory)
        except OSError:
            return False
        return entry.is_dir and bool(entry.mtime_ns)


def _connection_of(session: ServerSession) -> Connection:
    """Return the connection of a session, for which the SDK has no public attribute.

    The SDK creates a `ServerSession` for each request; the connection lasts.
    """
    return session._connection


def _is_valid_uri(uri: str) -> bool:
    try:
        path_of(uri)
    except OSError:
        return False
    return True


def _parse_uri(uri: str) -> Path:
    try:
        return path_of(uri)
    except OSError as error:
        raise MCPError(INVALID_PARAMS, f"{printable_uri(uri)}: {error.strerror}") from error


async def list_resources(tree: TreeSession, cursor: str | None, more: Sequence[Resource] = ()) -> ListResourcesResult:
    """Return a page of the curated entries, the sources and the skills."""
    page, following = page_of([*more, *await _all_resources(tree)], cursor)
    return ListResourcesResult(resources=page, next_cursor=following)


async def _all_resources(tree: TreeSession) -> list[Resource]:
    resources = []
    for name, description in _CURATED:
        path = Path.parse(name)
        try:
            entry = await stat(tree, path)
        except OSError:
            continue
        kind = "inode/directory" if entry.is_dir else mime_type_of(path)
        resources.append(Resource(uri=uri_of(path), name=name, description=description, mime_type=kind))
    try:
        sources = await entries(tree, Path(("knowledge",)))
    except OSError:
        sources = []
    for source in sources:
        path = Path(("knowledge", source.name))
        resources.append(
            Resource(uri=uri_of(path), name=printable_path(path), description="A source", mime_type="inode/directory")
        )
    return [*resources, *await skill_resources(tree)]


def list_templates(more: Sequence[ResourceTemplate] = ()) -> ListResourceTemplatesResult:
    """Return the template of the tree, which matches any path, and those of `more`."""
    description = "Any file or directory of the tree; a path can be a question: search/<question>/context.md"
    return ListResourceTemplatesResult(
        resource_templates=[ResourceTemplate(uri_template=TEMPLATE, name="path", description=description), *more]
    )


async def read_resource(tree: TreeSession, uri: str) -> ReadResourceResult:
    """Return a file as text or bytes, or a directory as a list of addresses.

    Raises MCPError -32602 for an absent path.
    """
    if uri.startswith(SKILL_SCHEME):
        path = skill_path(uri)
        await skill_of(tree, path, uri)
    else:
        path = _parse_uri(uri)
    try:
        entry = await stat(tree, path)
        if entry.is_dir:
            addresses = [
                f"{uri_of(path / child.name)}{'/' if child.is_dir else ''}" for child in await entries(tree, path)
            ]
            contents = TextResourceContents(uri=uri, mime_type="text/uri-list", text="\n".join(addresses) + "\n")
            return ReadResourceResult(contents=[contents])
        data, label = await read_labelled(tree, path)
    except OSError as error:
        code = INVALID_PARAMS if error.errno in _ABSENT_ERRORS else INTERNAL_ERROR
        raise MCPError(code, f"{printable_uri(uri)}: {error.strerror}", {"uri": printable_uri(uri)}) from error
    labels = [TextResourceContents(uri=uri, mime_type="text/plain", text=label)] if label else []
    return ReadResourceResult(contents=[*labels, contents_of(uri, path, data)])


def contents_of(uri: str, path: Path, data: bytes) -> TextResourceContents | BlobResourceContents:
    """Return text contents for a text, base64 for a binary file."""
    kind = mime_type_of(path, data)
    content = read_text(data, keeps_line_ends=True)
    if content is None:
        return BlobResourceContents(uri=uri, mime_type=kind, blob=base64.b64encode(data).decode())
    return TextResourceContents(uri=uri, mime_type=kind, text=text(content).text)


async def complete_path(tree: TreeSession, typed: str) -> CompleteResult:
    """Return the paths that complete a typed prefix."""
    parent, _, prefix = typed.lstrip("/").rpartition("/")
    try:
        directory = parse_path(parent) if parent else ROOT
        candidates = await entries(tree, directory)
    except OSError:
        candidates = []
    names = [
        f"{directory / entry.name}{'/' if entry.is_dir else ''}"
        for entry in candidates
        if entry.name.startswith(prefix)
    ]
    return make_completion([printable(name) for name in names])


def make_completion(values: Sequence[str]) -> CompleteResult:
    """Return at most 100 values, with the total."""
    some = list(values[:_MAX_COMPLETIONS])
    return CompleteResult(completion=Completion(values=some, total=len(values), has_more=len(values) > len(some)))


async def subscribe(
    notifications: ResourceNotifications, context: ServerRequestContext[Any, Any], params: SubscribeRequestParams
) -> EmptyResult:
    """Handle `resources/subscribe` of the handshake protocol."""
    await notifications.subscribe(str(params.uri), context.session)
    return EmptyResult()


async def unsubscribe(
    notifications: ResourceNotifications, context: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams
) -> EmptyResult:
    """Handle `resources/unsubscribe` of the handshake protocol."""
    notifications.unsubscribe(str(params.uri), context.session)
    return EmptyResult()
