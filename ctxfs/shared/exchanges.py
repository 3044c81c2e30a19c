"""The results of a node's exchange and of an erasure that it has ordered."""

from dataclasses import dataclass

from ctxfs.shared.erasures import Erased
from ctxfs.versions.recording.pathindex import PathChange


@dataclass(frozen=True, slots=True)
class Exchanged:
    """The result of an exchange: changes of the work tree, numbers of entries, paths kept beside each other, erasures.

    `turn_seconds` is the time during which the turn of its publication was held.
    """

    changes: tuple[PathChange, ...] = ()
    taken: int = 0
    published: int = 0
    conflicts: tuple[bytes, ...] = ()
    erased: tuple[Erased, ...] = ()
    turn_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeErasure:
    """An erasure that this node has ordered: its result here, paths of tombstones, changes of others meanwhile, copies.

    `copies` are files of others that hold phrases of the contents.
    """

    erased: Erased
    paths: tuple[bytes, ...]
    changes: tuple[PathChange, ...]
    copies: tuple[bytes, ...]
