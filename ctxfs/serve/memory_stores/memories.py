"""The memories of a store: files of its directory, by ids that stay when a memory is renamed."""

import errno
import re
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ctxfs.http.tree import Tree
from ctxfs.library import requests
from ctxfs.library.edits import directories_above
from ctxfs.model.change import ABSENT
from ctxfs.model.errors import invalid, not_found, path_error
from ctxfs.model.path import Path
from ctxfs.serve.memory_stores.identities import memory_id_at, path_of_memory, version_id
from ctxfs.serve.memory_stores.store_records import StoreRecord
from ctxfs.serve.memory_stores.stores import OpenStore, Stores
from ctxfs.serve.memory_stores.version_log import LoggedChange, newest_change

MAX_CONTENT_BYTES = 102_400
_MAX_PATH_BYTES = 1024
_MAX_SEGMENTS = 20
_MAX_MEMORIES = 10_000
_SHA256 = re.compile(r"\A[0-9a-f]{64}\Z")
_BAD_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")


@dataclass(frozen=True, slots=True)
class Position:
    """A memory: its id, its path in the store, and the path of its file in the tree."""

    id: str
    path: str
    file: str


class Memories:
    """The operations on the memories of one store, for one request."""

    def __init__(self, tree: Tree, store: OpenStore) -> None:
        self._tree = tree
        self._store = store

    async def create(self, body: Mapping[str, Any]) -> Position:
        """Make a memory. Raise OSError EEXIST if its path is taken."""
        path = parse_memory_path(body.get("path"))
        await self._tree.write(self._file_of(path), _content_of(body), expects=ABSENT)
        return self._position(path)

    def find(self, memory_id: str) -> Position:
        """Return a memory by its id, which may have no file any more. Raise OSError ENOENT for an impossible id."""
        path = path_of_memory(memory_id, time.time_ns(), self._store.record.moves)
        try:
            return Position(memory_id, path, self._file_of(parse_memory_path(path)))
        except OSError as error:
            raise not_found(memory_id[:80]) from error

    async def update(self, memory_id: str, body: Mapping[str, Any]) -> Position:
        """Change content, path or both. Raise OSError ESTALE if the precondition does not hold."""
        position, expects = self.find(memory_id), _precondition_of(body)
        data = await self._tree.send(requests.read(position.file))
        if body.get("content") is not None:
            content = _content_of(body)
            await self._tree.write(position.file, content, expects=expects or requests.revision_of(data))
            expects = requests.revision_of(content)
        if body.get("path") is not None and body["path"] != position.path:
            return await self._move(position, parse_memory_path(body["path"]), expects)
        if expects and body.get("content") is None and requests.revision_of(data) != expects:
            raise path_error(errno.ESTALE, memory_id, "it has changed since that revision")
        return position

    async def _move(self, position: Position, path: str, expects: str) -> Position:
        target = self._file_of(path)
        if await self._tree.find_entry(target) is not None:
            raise path_error(errno.EEXIST, path)
        await self._tree.make_directories(directories_above(target))
        await self._tree.send(requests.move(position.file, target, expects))
        change = await newest_change(self._tree, target)
        moved_ns = change.time_ns if change else time.time_ns()

        def record_move(record: StoreRecord) -> StoreRecord:
            spans = [*record.moves.get(position.id, [(0, position.path)]), (moved_ns, path)]
            return replace(record, moves={**record.moves, position.id: spans})

        record = await Stores(self._tree).change(self._store, record_move)
        self._store = replace(self._store, record=record)
        return Position(position.id, path, target)

    async def delete(self, memory_id: str, expects: str) -> None:
        """Delete a memory, only with this content if `expects` is a sha256."""
        await self._tree.send(requests.remove(self.find(memory_id).file, check_sha256(expects)))

    async def list_items(self, prefix: str, depth: int) -> list[Position | str]:
        """Return the memories below a prefix by path; with depth 1 the deeper ones as their directories, with a slash."""
        if prefix and (not prefix.startswith("/") or not prefix.endswith("/")):
            raise invalid("path_prefix", "a prefix begins and ends with a slash")
        top = self._store.directory.join(Path.parse(prefix))
        if await self._tree.find_entry(str(top)) is None:
            return []
        items: list[Position | str] = []
        pending = [top]
        while pending and len(items) < _MAX_MEMORIES:
            directory = pending.pop()
            for entry in await self._tree.send(requests.list_directory(str(directory))):
                path = f"/{(directory / entry.name).relative_to(self._store.directory)}"
                if not entry.is_dir:
                    items.append(self._position(path))
                elif depth == 1:
                    items.append(f"{path}/")
                else:
                    pending.append(directory / entry.name)
        return sorted(items, key=lambda item: item if isinstance(item, str) else item.path)

    async def response(self, position: Position, *, full: bool) -> dict[str, Any]:
        """Return a memory as clients receive it."""
        data = await self._tree.send(requests.read(position.file))
        attributes = await self._tree.send(requests.meta(position.file))
        change: LoggedChange | None = await newest_change(self._tree, position.file)
        updated = change.time_text if change else self._store.record.created_at
        return {
            "id": position.id,
            "type": "memory",
            "memory_store_id": self._store.record.id,
            "memory_version_id": version_id(change.time_ns if change else 0, position.path),
            "path": position.path,
            "content": data.decode("utf-8", "replace") if full else None,
            "content_sha256": requests.revision_of(data),
            "content_size_bytes": len(data),
            "created_at": attributes.get("created_at", updated),
            "updated_at": updated,
        }

    def _position(self, path: str) -> Position:
        memory_id = memory_id_at(path, time.time_ns(), self._store.record.moves)
        return Position(memory_id, path, self._file_of(path))

    def _file_of(self, path: str) -> str:
        return str(self._store.directory.join(Path.parse(path)))


def parse_memory_path(path: object) -> str:
    """Return the path of a memory. Raise OSError EINVAL or ENAMETOOLONG for one that the interface excludes."""
    if not isinstance(path, str) or not path.startswith("/") or len(path) > _MAX_PATH_BYTES:
        raise invalid("path", f"a path begins with a slash and has at most {_MAX_PATH_BYTES} bytes")
    if any(unicodedata.category(character) in _BAD_CATEGORIES for character in path):
        raise invalid("path", "a path has no NUL, control or format characters")
    if len(path.encode()) > _MAX_PATH_BYTES or not unicodedata.is_normalized("NFC", path):
        raise invalid("path", f"a path has at most {_MAX_PATH_BYTES} bytes, in Unicode normalization form C")
    segments = path[1:].split("/")
    if len(segments) > _MAX_SEGMENTS or not all(segments) or {".", ".."} & set(segments):
        raise invalid("path", f"a path has 1 to {_MAX_SEGMENTS} segments, none of them empty, '.' or '..'")
    return f"/{Path.parse(path)}"


def check_sha256(text: object) -> str:
    """Return a sha256, empty for none. Raise OSError EINVAL for another text."""
    if text and (not isinstance(text, str) or not _SHA256.match(text)):
        raise invalid("content_sha256", "64 lowercase hexadecimal characters are needed")
    return str(text or "")


def _precondition_of(body: Mapping[str, Any]) -> str:
    precondition = body.get("precondition")
    if precondition is None:
        return ""
    if not isinstance(precondition, Mapping) or precondition.get("type") != "content_sha256":
        raise invalid("precondition", "its type is content_sha256")
    return check_sha256(precondition.get("content_sha256"))


def _content_of(body: Mapping[str, Any]) -> bytes:
    content = body.get("content")
    try:
        data = content.encode() if isinstance(content, str) else None
    except UnicodeEncodeError:
        data = None
    if data is None:
        raise invalid("content", "a text is needed")
    if len(data) > MAX_CONTENT_BYTES:
        raise invalid("content", f"a memory has at most {MAX_CONTENT_BYTES} bytes")
    return data
