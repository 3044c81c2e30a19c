"""The stores of a client: those of its principal, and those that all agents share."""

import errno
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ctxfs.http.tree import Tree
from ctxfs.library import requests
from ctxfs.model.change import ABSENT
from ctxfs.model.errors import invalid, not_found, path_error
from ctxfs.model.path import Path
from ctxfs.serve.memory_stores.store_records import (
    StoreRecord,
    change_record,
    check_store_id,
    make_record,
    now_text,
    parse_record,
)

_AREA = "memory"
_SHARED = "shared"
_FOLDER = "stores"
_RECORD_SUFFIX = ".json"
_MAX_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A store and the directory of its memories."""

    record: StoreRecord
    directory: Path

    @property
    def record_path(self) -> str:
        """The file of the record."""
        return f"{self.directory}{_RECORD_SUFFIX}"


class Stores:
    """The operations on stores for one request."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    async def create(self, body: Mapping[str, Any]) -> StoreRecord:
        """Make a store in the memory of the principal. Its directory is made with the first memory."""
        record = make_record(body)
        owner = (await self._tree.principal()).partition(":")[2]
        store = OpenStore(record, Path((_AREA, owner, _FOLDER)) / record.id)
        await self._tree.write(store.record_path, record.to_bytes(), expects=ABSENT)
        return record

    async def find(self, store_id: str) -> OpenStore:
        """Return a store. Raise OSError ENOENT for one that does not exist for the client."""
        try:
            check_store_id(store_id)
        except OSError as error:
            raise not_found(store_id[:80]) from error
        for folder in await self._folders():
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                data = await self._tree.send(requests.read(str(folder / f"{store_id}{_RECORD_SUFFIX}")))
                if (record := parse_record(data)) is not None and record.id == store_id:
                    return OpenStore(record, folder / store_id)
        raise not_found(store_id)

    async def find_open(self, store_id: str) -> OpenStore:
        """Return a store that may be changed. Raise OSError EINVAL for an archived one."""
        store = await self.find(store_id)
        if store.record.archived_at:
            raise invalid(store_id, "this store is archived: it can be read and deleted")
        return store

    async def list_records(self, *, with_archived: bool) -> list[StoreRecord]:
        """Return the stores, newest first."""
        records = []
        for folder in await self._folders():
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                for entry in await self._tree.send(requests.list_directory(str(folder))):
                    if not entry.name.endswith(_RECORD_SUFFIX) or entry.is_dir:
                        continue
                    record = parse_record(await self._tree.send(requests.read(str(folder / entry.name))))
                    if record is not None and f"{record.id}{_RECORD_SUFFIX}" == entry.name:
                        records.append(record)
        shown = [record for record in records if with_archived or not record.archived_at]
        return sorted(shown, key=lambda record: record.created_at, reverse=True)

    async def update(self, store_id: str, body: Mapping[str, Any]) -> StoreRecord:
        """Change name, description or metadata."""
        store = await self.find_open(store_id)
        return await self.change(store, lambda record: change_record(record, body))

    async def archive(self, store_id: str) -> StoreRecord:
        """Archive a store: from now on it is read only. A second call changes nothing."""
        store = await self.find(store_id)
        if store.record.archived_at:
            return store.record
        return await self.change(store, lambda record: replace(record, archived_at=now_text(), updated_at=now_text()))

    async def delete(self, store_id: str) -> None:
        """Delete a store and its memories. The versions of the tree still have them."""
        store = await self.find(store_id)
        if await self._tree.find_entry(str(store.directory)) is not None:
            await self._tree.remove_all(str(store.directory))
        await self._tree.send(requests.remove(store.record_path))

    async def change(self, store: OpenStore, edit: Callable[[StoreRecord], StoreRecord]) -> StoreRecord:
        """Replace the record by its edited form; repeat if another writer came between."""
        for attempt in range(_MAX_ATTEMPTS):
            data = await self._tree.send(requests.read(store.record_path))
            record = parse_record(data)
            if record is None:
                raise path_error(errno.EIO, store.record_path, "the record of this store is damaged")
            changed = edit(record)
            try:
                await self._tree.write(store.record_path, changed.to_bytes(), expects=requests.revision_of(data))
            except OSError as error:
                if error.errno != errno.ESTALE or attempt == _MAX_ATTEMPTS - 1:
                    raise
            else:
                return changed
        raise AssertionError  # the last attempt has returned or raised

    async def _folders(self) -> list[Path]:
        owner = (await self._tree.principal()).partition(":")[2]
        return [Path((_AREA, name, _FOLDER)) for name in (owner, _SHARED)]
