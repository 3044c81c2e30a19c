"""The state of a node in the repository's folder: the store that it is a node of, and the last entry that it has read.

`<repository>/ctxfs-shared.json` is `{"format": 1, "store": …, "number": …, "commit": …, "has_joined": …}`. It is replaced
without a wait for the disk: with an older state the node reads entries again, and an unreadable one means all of them.
"""

import contextlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path as HostPath

from ctxfs.shared.log import EMPTY, Head, LogRefused
from ctxfs.versions.objects.git import is_oid

_FORMAT = 1
_NAME = "ctxfs-shared.json"


@dataclass(frozen=True, slots=True)
class NodeState:
    """The shared store, the newest entry that was read, and True if this node has appended one."""

    store: str
    seen: Head = EMPTY
    has_joined: bool = False


class NodeStateFile:
    """The file with the state."""

    def __init__(self, repo: HostPath) -> None:
        self._file = repo / _NAME

    def read(self, store: str) -> NodeState:
        """Return the state as a node of `store`. Raise `LogRefused` if this is a node of another store."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            values = json.loads(self._file.read_text(encoding="utf-8"))
            seen, joined = Head(values["number"], values["commit"]), values["has_joined"]
            if values["format"] == _FORMAT and _is_valid(seen) and isinstance(joined, bool):
                if values["store"] != store:
                    raise LogRefused(
                        f"this is a node of the shared store '{values['store']}', not of '{store}'", "ctxfs leave"
                    )
                return NodeState(store, seen, joined)
        return NodeState(store)

    def write(self, state: NodeState) -> None:
        """Replace the state."""
        values = {
            "format": _FORMAT,
            "store": state.store,
            "number": state.seen.number,
            "commit": state.seen.commit,
            "has_joined": state.has_joined,
        }
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(values), encoding="utf-8")
        os.replace(temporary, self._file)

    def remove(self) -> None:
        """Remove the state: the next one reads all entries."""
        self._file.unlink(missing_ok=True)


def advanced(state: NodeState, seen: Head, *, has_joined: bool = False) -> NodeState:
    """Return the state after an entry."""
    return replace(state, seen=seen, has_joined=state.has_joined or has_joined)


def _is_valid(head: Head) -> bool:
    return type(head.number) is int and head.number > 0 and isinstance(head.commit, str) and is_oid(head.commit)
