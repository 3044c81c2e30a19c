"""`ctx_write`, `ctx_edit`, `ctx_move`, `ctx_delete`: changes, each of them a version."""

import difflib
import errno
import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from ctxfs.model.change import ABSENT, Move, Put, Remove
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path
from mcp_server.sessions import TreeSession
from mcp_server.tool_registry import CHANGES, PATH, Answer, Call, Entry
from mcp_server.tree_ops import DIGITS, apply, as_bytes, delete_tree, entries, make_parents, read, revision_of, stat
from mcp_server.uris import parsed, shown

_APPEND_SECONDS = 10.0
_MAX_PAUSE_SECONDS = 0.3
_MOST_DIFFERENT = 200  # lines of a diff
_MOST_PLACES = 10
_REVISION = {
    "type": "string",
    "description": "The revision that you read: refused, with a diff, if it has changed since.",
}


async def _write(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path, mode = parsed(arguments["path"]), arguments.get("mode", "replace")
    data = as_bytes(arguments["content"])
    source = " ".join(arguments.get("source", "").split())
    said = {"source": source, "trust": "untrusted"} if source else {}
    attributes = {f"{PREFIX}{name}": value.encode("utf-8", "replace") for name, value in said.items()}
    expects = ABSENT if mode == "create" else arguments.get("if_revision", "")
    await make_parents(call.door, path)
    if mode == "append":
        whole, warnings = await _appended(call.door, path, data, attributes, expects)
    else:
        whole = data
        try:
            warnings = await apply(call.door, Put(path, data, attributes, expects))
        except OSError as error:
            raise await _conflict(call.door, path, error, expects) from error
    done = f"wrote {shown(path)} [{len(whole)} bytes, revision {revision_of(whole)}]"
    return "\n".join([done, *(f"warning: {warning}" for warning in warnings)])


async def _appended(
    door: TreeSession, path: Path, data: bytes, attributes: Mapping[str, bytes], expects: str
) -> tuple[bytes, list[str]]:
    """Append to the current end of a file; return (new content, warnings).

    Calls of one client take turns. A write of another process in between causes a retry.
    """
    async with door.turns.at(path):
        with trio.move_on_after(_APPEND_SECONDS):
            return await _append_when_still(door, path, data, attributes, expects)
    raise path_error(errno.EAGAIN, path, "others go on writing to it")


async def _append_when_still(
    door: TreeSession, path: Path, data: bytes, attributes: Mapping[str, bytes], expects: str
) -> tuple[bytes, list[str]]:
    tries = 0
    while True:
        try:
            before = await read(door, path)
        except FileNotFoundError:
            before, base = b"", ABSENT
        else:
            base = hashlib.sha256(before).hexdigest()
        if expects and not base.startswith(expects):
            raise await _conflict(door, path, path_error(errno.ESTALE, path), expects)
        try:
            return before + data, await apply(door, Put(path, before + data, attributes, base))
        except OSError as error:
            if error.errno not in (errno.ESTALE, errno.EEXIST):
                raise
        tries += 1
        # Backoff with jitter: processes must not retry at the same moment.
        await trio.sleep(random.uniform(0, min(_MAX_PAUSE_SECONDS, 0.005 * 2**tries)))  # noqa: S311 - no secret


async def _conflict(door: TreeSession, path: Path, error: OSError, expects: str) -> OSError:
    """Return the error with the differences to the current content, if it is ESTALE."""
    if error.errno != errno.ESTALE:
        return error
    try:
        now = await read(door, path)
    except FileNotFoundError:
        return path_error(errno.ESTALE, path, "it is not there any more; nothing was written")
    told = f"it has changed since revision {expects}: it is {revision_of(now)} now, and nothing was written"
    was = (await door.call("content_of", path=str(path), sha256=expects))["data"]
    if was is None:
        return path_error(errno.ESTALE, path, f"{told}. Read it again")
    return path_error(errno.ESTALE, path, f"{told}. What changed:\n{_diff(was, now, path)}\nMerge, and write again")


async def _edit(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path = parsed(arguments["path"])
    async with call.door.turns.at(path):
        return await _edit_in_turn(call.door, path, arguments)


async def _edit_in_turn(door: TreeSession, path: Path, arguments: Mapping[str, Any]) -> Answer:
    expects = arguments.get("if_revision", "")
    before = await read(door, path)
    base = hashlib.sha256(before).hexdigest()
    if expects and not base.startswith(expects):
        raise await _conflict(door, path, path_error(errno.ESTALE, path), expects)
    words = before.decode("utf-8", "surrogateescape")
    for number, edit in enumerate(arguments["edits"], 1):
        words = _replaced(path, words, edit, f"edit {number}: " if len(arguments["edits"]) > 1 else "")
    after = words.encode("utf-8", "surrogateescape")
    if arguments.get("dry_run"):
        return f"{_diff(before, after, path)}\n[nothing was written]"
    try:
        warnings = await apply(door, Put(path, after, {}, base))
    except OSError as error:
        raise await _conflict(door, path, error, base[:DIGITS]) from error
    done = f"edited {shown(path)} [revision {revision_of(after)}]"
    return "\n".join([done, _diff(before, after, path), *(f"warning: {warning}" for warning in warnings)])


def _replaced(path: Path, words: str, edit: Mapping[str, Any], which: str) -> str:
    old, new = edit["old"], edit["new"]
    as_bytes(new)
    count = words.count(old)
    if count == 0:
        near = difflib.get_close_matches(old.split("\n")[0].strip(), [line.strip() for line in words.split("\n")], 1)
        hint = f"; the nearest line is: {near[0][:200]}" if near else ""
        raise invalid(path, f"{which}'old' is not in it{hint}. Copy it exactly, spaces too; nothing was written")
    if count > 1 and not edit.get("all"):
        lines = ", ".join(str(words.count("\n", 0, at) + 1) for at in _positions(words, old))
        raise invalid(
            path, f"{which}'old' is there {count} times, in lines {lines}: take in more around it, or set all"
        )
    return words.replace(old, new)


def _positions(words: str, old: str) -> list[int]:
    found: list[int] = []
    at = words.find(old)
    while at >= 0 and len(found) < _MOST_PLACES:
        found.append(at)
        at = words.find(old, at + len(old))
    return found


def _diff(before: bytes, after: bytes, path: Path) -> str:
    one, two = (data.decode("utf-8", "replace").splitlines() for data in (before, after))
    found = list(difflib.unified_diff(one, two, f"a/{shown(path)}", f"b/{shown(path)}", lineterm="", n=2))
    if len(found) > _MOST_DIFFERENT:
        found = [*found[:_MOST_DIFFERENT], f"[{len(found) - _MOST_DIFFERENT} lines more]"]
    return "\n".join(found) or "[no difference]"


async def _move(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path, to = parsed(arguments["path"]), parsed(arguments["to"])
    if not arguments.get("replace"):
        try:
            await stat(call.door, to)
        except FileNotFoundError:
            pass
        else:
            raise path_error(errno.EEXIST, to, "something is there; set replace to put this in its place")
    await make_parents(call.door, to)
    await apply(call.door, Move(path, to))
    return f"moved {shown(path)} to {shown(to)}"


async def _delete(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path = parsed(arguments["path"])
    count = 0
    try:
        await apply(call.door, Remove(path))  # a task or a review is removed with its content
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        if not arguments.get("recursive"):
            inside = len(await entries(call.door, path))
            raise path_error(errno.ENOTEMPTY, path, f"a directory with {inside} entries") from error
        count = await delete_tree(call.door, path)
    more = f" and {count} entries in it" if count else ""
    return f"deleted {shown(path)}{more}; ctx_history with mode restore brings it back"


def tools() -> Sequence[Entry]:
    """Return the tools in listing order."""
    flag = {"type": "boolean"}
    edit = {
        "type": "object",
        "properties": {
            "old": {"type": "string", "minLength": 1},
            "new": {"type": "string"},
            "all": {"type": "boolean", "description": "every place"},
        },
        "required": ["old", "new"],
        "additionalProperties": False,
    }
    return (
        Entry(
            "ctx_write",
            "Write a whole file, or add to its end; under memory/<you>/, memory/shared/, pad/, context/<task>/. Each is a version.",
            CHANGES,
            _write,
            {
                "path": PATH,
                "content": {"type": "string"},
                "mode": {"enum": ["replace", "create", "append"], "description": "create: refused if it is there"},
                "if_revision": _REVISION,
                "source": {
                    "type": "string",
                    "description": "Where it is from, if not from you or your user: URL, tool, file. It is then marked as untrusted.",
                },
            },
            ("path", "content"),
        ),
        Entry(
            "ctx_edit",
            "Replace pieces of a text file, each of which must be in it exactly once.",
            CHANGES,
            _edit,
            {
                "path": PATH,
                "edits": {"type": "array", "minItems": 1, "items": edit},
                "if_revision": _REVISION,
                "dry_run": {"type": "boolean", "description": "only show the diff"},
            },
            ("path", "edits"),
        ),
        Entry(
            "ctx_move",
            "Rename or move a file or directory within memory/, pad/ or one source.",
            CHANGES,
            _move,
            {"path": PATH, "to": {"type": "string"}, "replace": flag},
            ("path", "to"),
        ),
        Entry(
            "ctx_delete",
            "Delete a file or a directory. It stays in the history.",
            CHANGES,
            _delete,
            {"path": PATH, "recursive": {"type": "boolean", "description": "with all that is in it"}},
            ("path",),
        ),
    )
