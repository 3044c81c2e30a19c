"""Transitions of states that are made through a mount: each one is a version of its own, with its principal."""

import stat as st
import time
from contextlib import suppress
from typing import Any

import trio

from ctxfs.fuse.backed_xattrs import BackedAttributes
from ctxfs.fuse.inodes import Node
from ctxfs.fuse.state import State
from ctxfs.memory.states import STATE_ATTRIBUTES

_MAX_COMMIT_SECONDS = 1.0  # that a transition waits for the daemon; its version then has other changes, too
_MAX_BURST = 16
_TRANSITIONS_PER_SECOND = 4.0

_NAMES = frozenset(name.encode() for name in STATE_ATTRIBUTES)


class StateTransitions:
    """Commits before and after a change of `user.ctx.state`, so that no other writer is named for it.

    Many transitions in a row, as of a copied tree, share versions: a commit takes longer than a change.
    """

    def __init__(self, state: State, attributes: BackedAttributes) -> None:
        self._attributes = attributes
        self._call = state.call
        self._loop = state.loop
        self._budget = float(_MAX_BURST)
        self._budget_time = 0.0

    def follows(self, node: Node, name: bytes, value: bytes | None) -> bool:
        """Return True for a change of the state of a file, unless there were many at once."""
        if name not in _NAMES or node.disk_key.kind != st.S_IFREG:
            return False
        with suppress(OSError):
            if self._attributes.stored_xattr(node, name) == (value or b""):
                return False
        return self._take_turn()

    async def set_state(self, node: Node, name: bytes, value: bytes, flags: int) -> None:
        """Set a state; raise OSError as `BackedAttributes.set_xattr`. Without the daemon only the state is set."""
        await self._commit()
        self._attributes.set_xattr(node, name, value, flags)
        await self._commit()

    async def remove_state(self, node: Node, name: bytes) -> None:
        """Remove a state; raise OSError as `BackedAttributes.remove_xattr`."""
        await self._commit()
        self._attributes.remove_xattr(node, name)
        await self._commit()

    def _take_turn(self) -> bool:
        now = time.monotonic()
        self._budget = min(_MAX_BURST, self._budget + (now - self._budget_time) * _TRANSITIONS_PER_SECOND)
        self._budget_time = now
        if self._budget < 1:
            return False
        self._budget -= 1
        return True

    async def _commit(self) -> None:
        with suppress(OSError):
            await self._loop.call(self._call_commit)

    async def _call_commit(self) -> Any:
        with trio.move_on_after(_MAX_COMMIT_SECONDS):
            return await self._call("commit")
        return None
