"""Changes and entries of the tree as plain values, for the frames of the socket."""

from typing import Any, assert_never

from ctxfs.model.change import Append, Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.entry import Entry
from ctxfs.model.path import Path
from ctxfs.rpc.frames import WireError


def entry_to_wire(entry: Entry) -> list[Any]:
    """Return an entry as an array of its fields."""
    flags = [entry.answers, entry.derived]
    return [entry.name, entry.kind, entry.version, entry.size, entry.mtime_ns, entry.mode, entry.target, *flags]


def entry_from_wire(value: list[Any]) -> Entry:
    """Return the entry that `entry_to_wire` packed."""
    return Entry(*value)


def change_to_wire(change: Change) -> list[Any]:
    """Return a change as [verb, path, …]."""
    match change:
        case Put(path, data, attributes, expects):
            return ["put", str(path), data, dict(attributes), expects]
        case Append(path, data):
            return ["append", str(path), data]
        case MakeDir(path):
            return ["mkdir", str(path)]
        case Remove(path, expects):
            return ["remove", str(path), expects]
        case Move(path, to, expects):
            return ["move", str(path), str(to), expects]
        case SetMeta(path, name, value):
            return ["meta", str(path), name, value]
        case _:
            assert_never(change)


def change_from_wire(value: list[Any]) -> Change:
    """Return the change that `change_to_wire` packed. Raise WireError if it is malformed."""
    try:
        verb, path = value[0], Path.parse(value[1])
        match verb:
            case "put":
                return Put(
                    path, value[2], dict(value[3]) if len(value) > 3 else {}, str(value[4]) if len(value) > 4 else ""
                )
            case "append":
                return Append(path, value[2])
            case "mkdir":
                return MakeDir(path)
            case "remove":
                return Remove(path, str(value[2]) if len(value) > 2 else "")
            case "move":
                return Move(path, Path.parse(value[2]), str(value[3]) if len(value) > 3 else "")
            case "meta":
                return SetMeta(path, value[2], value[3])
    except (IndexError, TypeError, AttributeError) as error:
        raise WireError(f"malformed change: {error}") from error
    raise WireError(f"unknown change '{verb}'")
