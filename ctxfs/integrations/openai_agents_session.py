"""A session of the OpenAI Agents SDK over the tree: its items are lines of JSON in a pad, versions like other files."""

import errno
import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from ctxfs.library.async_store import AsyncStore
from ctxfs.library.requests import revision_of
from ctxfs.model.change import ABSENT

_MAX_ATTEMPTS = 50
_Items = list[Any]


class ContextSession:
    """The items of a conversation, oldest first, in `pad/sessions/<id>.jsonl`; a line that is no JSON is left out.

    Several processes may add to one session: a write on an outdated state is repeated on the present one.
    """

    session_settings = None

    def __init__(self, session_id: str, store: AsyncStore, folder: str = "pad/sessions") -> None:
        self.session_id = session_id
        self._store = store
        self.path = f"{folder}/{quote(session_id, safe=' @')}.jsonl"

    async def get_items(self, limit: int | None = None) -> _Items:
        """Return the newest `limit` items, oldest first; None is for all."""
        items = _parse(await self._read())
        return items if limit is None else items[len(items) - min(limit, len(items)) :]

    async def add_items(self, items: Sequence[Any]) -> None:
        """Add items at the end."""
        if items:
            lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()
            await self._change(lambda before: before + lines)

    async def pop_item(self) -> Any | None:
        """Remove the newest item and return it; None for an empty session."""
        popped: _Items = []

        def without_last(before: bytes) -> bytes:
            items = _parse(before)
            popped[:] = items[-1:]
            return b"".join(before.splitlines(keepends=True)[:-1]) if items else before

        await self._change(without_last)
        return popped[0] if popped else None

    async def clear_session(self) -> None:
        """Remove all items."""
        if await self._store.exists(self.path):
            await self._change(lambda _: b"")

    async def _read(self) -> bytes:
        try:
            return await self._store.read(self.path)
        except FileNotFoundError:
            return b""

    async def _change(self, edit: Callable[[bytes], bytes]) -> None:
        for attempt in range(_MAX_ATTEMPTS):
            existing = await self._store.exists(self.path)
            before = await self._read()
            after = edit(before)
            if after == before:
                return
            try:
                await self._store.write(self.path, after, expects=revision_of(before) if existing else ABSENT)
            except OSError as error:
                if error.errno not in (errno.ESTALE, errno.EEXIST) or attempt == _MAX_ATTEMPTS - 1:
                    raise
            else:
                return


def _parse(data: bytes) -> _Items:
    items = []
    for line in data.splitlines():
        try:
            items.append(json.loads(line))
        except ValueError:
            continue
    return items
