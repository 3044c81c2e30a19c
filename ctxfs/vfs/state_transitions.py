"""The transitions of states (`user.ctx.state`), checked for the calling principal by the rules of memory.toml."""

from collections.abc import Callable, Mapping, Sequence

from ctxfs.memory.states import STATE_ATTRIBUTES, Transition, check_transition
from ctxfs.model.change import Change, Put, SetMeta
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.vfs.caller_context import acting_principal
from ctxfs.vfs.mount_wrapper import MountWrapper


class StateTransitions(MountWrapper):
    """A tree that refuses transitions which the rules do not give to the calling principal.

    It does not guard the content of frozen files: the mounts of host folders do (`store/folder.py`).
    """

    def __init__(self, tree: Mount, transitions: Callable[[], Sequence[Transition]]) -> None:
        super().__init__(tree)
        self._transitions = transitions

    async def apply(self, change: Change) -> None:
        """Implement `Mount.apply`. Raise EPERM for a transition that the rules refuse."""
        changed: Mapping[str, bytes | None] = {}
        if isinstance(change, SetMeta) and change.name in STATE_ATTRIBUTES:
            changed = {change.name: change.value}
        elif isinstance(change, Put):
            changed = {name: value for name, value in change.attributes.items() if name in STATE_ATTRIBUTES}
        if changed:
            await self._check(change.path, changed)
        await self._tree.apply(change)

    async def _check(self, path: Path, changed: Mapping[str, bytes | None]) -> None:
        try:
            attributes = await self._tree.metadata(path)
        except FileNotFoundError:
            attributes = {}
        check_transition(path, attributes, changed, self._transitions(), acting_principal())
