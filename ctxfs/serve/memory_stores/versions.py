"""The versions of memories: the changes of the store's files, each with the id of its memory at that time."""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from ctxfs.http.tree import Tree
from ctxfs.library import requests
from ctxfs.model.errors import invalid, not_found
from ctxfs.model.path import Path
from ctxfs.serve.memory_stores.identities import memory_id_at, parse_version_id, version_id
from ctxfs.serve.memory_stores.paging import time_bounds
from ctxfs.serve.memory_stores.store_records import StoreRecord, now_text
from ctxfs.serve.memory_stores.stores import OpenStore, Stores
from ctxfs.serve.memory_stores.version_log import LoggedChange, list_changes

_OPERATIONS = {"add": "created", "edit": "modified", "remove": "deleted"}
_HTTP_TOOL = "http"


@dataclass(frozen=True, slots=True)
class MemoryVersion:
    """A version of one memory; its path is the one in the store."""

    id: str
    memory_id: str
    path: str
    operation: str
    change: LoggedChange


class Versions:
    """The versions of one store, for one request."""

    def __init__(self, tree: Tree, store: OpenStore) -> None:
        self._tree = tree
        self._store = store

    async def list_versions(self, query: Mapping[str, str]) -> list[MemoryVersion]:
        """Return the versions that pass the filters of a query, newest first."""
        earliest, latest = time_bounds(query)
        if query.get("operation", "created") not in _OPERATIONS.values():
            raise invalid("operation", "it is created, modified or deleted")
        versions = await self._all()
        return [item for item in versions if earliest <= item.change.time <= latest and _passes(item, query)]

    async def find(self, text: str) -> MemoryVersion:
        """Return a version by its id. Raise OSError ENOENT if there is none."""
        named = parse_version_id(text)
        for version in await self._all():
            if version.id == text and version.change.time_ns == named.time_ns:
                return version
        raise not_found(text[:80])

    async def redact(self, text: str, by: str) -> MemoryVersion:
        """Erase the content of a version, and of the versions of its memory with the same content.

        Raise OSError EBUSY for the current content of the memory, EACCES for a client that does not administer.
        """
        versions = await self._all()
        version = next((item for item in versions if item.id == text), None)
        if version is None:
            raise not_found(text[:80])
        if version.operation == "deleted" or self._redaction_of(version):
            return version
        content = await self._content_of(version)
        same = [item for item in versions if item.memory_id == version.memory_id and item.change.size == len(content)]
        same = [item for item in same if item.operation != "deleted" and await self._content_of(item) == content]
        arguments = {"path": version.change.file, "at": version.change.revision}
        await self._tree.call("redact_version", arguments)
        redacted = {item.id: version_record(item, by) for item in same}
        # The log loses a deletion whose only content is erased.
        deleted = [item for item in versions if item.memory_id == version.memory_id and item.operation == "deleted"]
        preserved = {item.id: version_record(item, "") for item in deleted}

        def add_redactions(record: StoreRecord) -> StoreRecord:
            return replace(record, redacted={**preserved, **record.redacted, **redacted})

        record = await Stores(self._tree).change(self._store, add_redactions)
        self._store = replace(self._store, record=record)
        return version

    def _redaction_of(self, version: MemoryVersion) -> Mapping[str, Any] | None:
        record = self._store.record.redacted.get(version.id)
        return record if record and record["at"] else None

    async def _content_of(self, version: MemoryVersion) -> bytes:
        return await self._tree.send(requests.show(version.change.file, version.change.revision))

    async def _all(self) -> list[MemoryVersion]:
        """Return all versions, newest first, with the redacted ones as they were."""
        redacted = {key: version_of_record(key, value) for key, value in self._store.record.redacted.items()}
        logged = [item for item in self._versions_of(await self._changes()) if item.id not in redacted]
        versions = sorted([*redacted.values(), *logged], key=lambda item: item.change.time_ns, reverse=True)
        # Without a redacted content the log shows the next one as that of a new file.
        existing = set[str]()
        for position in range(len(versions) - 1, -1, -1):
            version = versions[position]
            if version.operation == "created" and version.memory_id in existing:
                versions[position] = replace(version, operation="modified")
            (existing.discard if version.operation == "deleted" else existing.add)(version.memory_id)
        return versions

    async def responses(self, versions: Iterable[MemoryVersion], *, full: bool) -> list[dict[str, Any]]:
        """Return versions as clients receive them, without those of directories."""
        responses = []
        for version in versions:
            with suppress(IsADirectoryError):
                responses.append(await self.response(version, full=full))
        return responses

    async def _changes(self) -> list[LoggedChange]:
        """Return the changes of the store's files, newest first; none of a store that never had one."""
        directory = str(self._store.directory)
        try:
            changes = await list_changes(self._tree, directory)
        except FileNotFoundError:
            return []
        return [change for change in changes if change.file != directory]

    async def response(self, version: MemoryVersion, *, full: bool) -> dict[str, Any]:
        """Return a version as clients receive it. Raise OSError EISDIR for that of a directory."""
        change, data = version.change, None
        redaction = self._redaction_of(version)
        if version.operation != "deleted" and redaction is None:
            with suppress(FileNotFoundError):  # erased in the meantime
                data = await self._content_of(version)
        return {
            "id": version.id,
            "type": "memory_version",
            "memory_store_id": self._store.record.id,
            "memory_id": version.memory_id,
            "operation": version.operation,
            "path": None if redaction else version.path,
            "content": data.decode("utf-8", "replace") if full and data is not None else None,
            "content_sha256": hashlib.sha256(data).hexdigest() if data is not None else None,
            "content_size_bytes": len(data) if data is not None else None,
            "created_at": change.time_text,
            "created_by": actor_record(change),
            "redacted_at": redaction["at"] if redaction else None,
            "redacted_by": redaction["by"] if redaction else None,
        }

    def _versions_of(self, changes: Iterable[LoggedChange]) -> Iterable[MemoryVersion]:
        """Yield the versions of changes. A memory that leaves a path and comes to another one was renamed."""
        for _, group in groupby(changes, lambda change: change.time_ns):
            together = list(group)
            arrivals = {self._memory_id(change) for change in together if change.kind != "remove"}
            departures = {self._memory_id(change) for change in together if change.kind == "remove"}
            for change in together:
                memory_id = self._memory_id(change)
                is_renamed = memory_id in arrivals and memory_id in departures
                if is_renamed and change.kind == "remove":
                    continue
                operation = "modified" if is_renamed else _OPERATIONS[change.kind]
                path = self._path_of(change)
                yield MemoryVersion(version_id(change.time_ns, path), memory_id, path, operation, change)

    def _memory_id(self, change: LoggedChange) -> str:
        """Return the id of the memory of a change; that of a removal is the one before it."""
        time_ns = change.time_ns - 1 if change.kind == "remove" else change.time_ns
        return memory_id_at(self._path_of(change), time_ns, self._store.record.moves)

    def _path_of(self, change: LoggedChange) -> str:
        return f"/{Path.parse(change.file).relative_to(self._store.directory)}"


def actor_record(change: LoggedChange) -> dict[str, str]:
    """Return the author of a change: a person, a client of HTTP by its principal, or the session of an agent."""
    if change.principal.startswith("human:"):
        return {"type": "user_actor", "user_id": change.principal}
    if change.tool == _HTTP_TOOL:
        return {"type": "api_actor", "api_key_id": change.principal}
    return {"type": "session_actor", "session_id": change.session}


def version_record(version: MemoryVersion, by: str) -> Mapping[str, Any]:
    """Return the record of a version that is redacted now by a principal; without one, of a version to preserve."""
    change = version.change
    author = {"principal": change.principal, "session": change.session, "tool": change.tool}
    facts = {"memory_id": version.memory_id, "operation": version.operation, "time_ns": change.time_ns, **author}
    actor = (
        {"type": "user_actor", "user_id": by} if by.startswith("human:") else {"type": "api_actor", "api_key_id": by}
    )
    return {**facts, "path": "" if by else version.path, "at": now_text() if by else "", "by": actor}


def version_of_record(name: str, record: Mapping[str, Any]) -> MemoryVersion:
    """Return the version of a record, without its content."""
    change = LoggedChange(
        revision="",
        time_ns=int(record["time_ns"]),
        principal=str(record["principal"]),
        session=str(record["session"]),
        tool=str(record["tool"]),
        file="",
        kind="edit",
        size=0,
    )
    return MemoryVersion(name, str(record["memory_id"]), str(record["path"]), str(record["operation"]), change)


def _passes(version: MemoryVersion, query: Mapping[str, str]) -> bool:
    actor = actor_record(version.change)
    present = {"memory_id": version.memory_id, "operation": version.operation, "service_account_id": "", **actor}
    names = ("memory_id", "operation", "api_key_id", "session_id", "service_account_id")
    return all(present.get(name) == query[name] for name in names if name in query)
