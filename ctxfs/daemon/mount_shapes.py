"""The mount table as each mount process gets it: in a branch, memory and pads have no host folders."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.store import tree_shape
from ctxfs.rpc.server import Peer
from ctxfs.vfs.caller_context import in_branch
from ctxfs.vfs.session import Session


class MountShapes:
    """The mount tables of the peers that watch the tree."""

    def __init__(self, app: App, caller_of: Callable[[Peer], Session]) -> None:
        self._app = app
        self._caller_of = caller_of
        self._in_own_branch: set[Peer] = set()  # peers whose last table was that of an agent's own branch

    def shape_for(self, peer: Peer) -> Mapping[str, Any]:
        """Return the mount table for a peer."""
        branch = self._app.branches.acting_for(self._caller_of(peer))
        self._in_own_branch.discard(peer)
        if branch is not None and branch.is_own:
            self._in_own_branch.add(peer)
        with in_branch(branch):
            return tree_shape(self._app)

    def push_policy(self, peers: Iterable[Peer]) -> None:
        """Send the policy to mount processes, which invalidate the kernel's caches; a new table if a branch follows."""
        for peer in peers:
            peer.push("policy", self._app.policy.wire)
            if self._app.policy.has_own_branch(self._caller_of(peer).principal) != (peer in self._in_own_branch):
                peer.push("tree", self.shape_for(peer))

    def drop_peer(self, peer: Peer) -> None:
        """Forget a connection that has ended."""
        self._in_own_branch.discard(peer)
