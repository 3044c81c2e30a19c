"""`ctx_write`, `ctx_edit`, `ctx_move`, `ctx_delete`: changes, each of them a version."""

import difflib
import errno
import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from ctxfs.index.extract.editable_text import CharsetConflict, append_text, parse_editable_text
from ctxfs.index.extract.text_decoding import decode
from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.mcp_server.tool_registry import CHANGES, PATH, Answer, Call, Entry
from ctxfs.mcp_server.tree_ops import (
    REVISION_DIGITS,
    apply,
    delete_tree,
    encode_text,
    entries,
    make_parents,
    read,
    revision_of,
    stat,
)
from ctxfs.mcp_server.uris import parse_path, printable_path
from ctxfs.model.change import ABSENT, Move, Put, Remove
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.line_ends import split_lines
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path
from ctxfs.model.text_edits import describe_lines, find_positions, match_line_ends

_APPEND_SECONDS = 10.0
_MAX_PAUSE_SECONDS = 0.3
_MAX_DIFF_LINES = 200
_REVISION_SCHEMA = {
    "type": "string",
    "description": "The revision that you read: refused, with a diff, if it has changed.",
}
_WRITE_PROPERTIES: Mapping[str, Mapping[str, Any]] = {
    "path": PATH,
    "content": {"type": "string"},
    "mode": {"enum": ["replace", "create", "append"], "description": "create: refused if it is there"},
    "if_revision": _REVISION_SCHEMA,
    "source": {
        "type": "string",
        "description": "Source, if it is not from you or your user: URL, tool, file. It is then marked as untrusted.",
    },
}
_EDIT_SCHEMA = {
    "type": "object",
    "properties": {
        "old": {"type": "string", "minLength": 1},
        "new": {"type": "string"},
        "all": {"type": "boolean", "description": "replace all"},
    },
    "required": ["old", "new"],
}


async def _write(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path, mode = parse_path(arguments["path"]), arguments.get("mode", "replace")
    data = encode_text(arguments["content"])
    source = " ".join(arguments.get("source", "").split())
    origin = {"source": source, "trust": "untrusted"} if source else {}
    attributes = {f"{PREFIX}{name}": value.encode("utf-8", "replace") for name, value in origin.items()}
    expects = ABSENT if mode == "create" else arguments.get("if_revision", "")
    await make_parents(call.tree, path)
    if mode == "append":
        content, warnings = await _append(call.tree, path, arguments["content"], attributes, expects)
    else:
        content = data
        try:
            warnings = await apply(call.tree, Put(path, data, attributes, expects))
        except OSError as error:
            raise await _describe_conflict(call.tree, path, error, expects) from error
    summary = f"wrote {printable_path(path)} [{len(content)} bytes, revision {revision_of(content)}]"
    return "\n".join([summary, *(f"warning: {warning}" for warning in warnings)])


async def _append(
    tree: TreeSession, path: Path, added: str, attributes: Mapping[str, bytes], expects: str
) -> tuple[bytes, list[str]]:
    """Append to the current end of a file; return (new content, warnings).

    Calls of one client take turns. A write of another process in between causes a retry.
    """
    async with tree.path_locks.at(path):
        with trio.move_on_after(_APPEND_SECONDS):
            return await _append_with_retries(tree, path, added, attributes, expects)
    raise path_error(errno.EAGAIN, path, "others go on writing to it")


async def _append_with_retries(
    tree: TreeSession, path: Path, added: str, attributes: Mapping[str, bytes], expects: str
) -> tuple[bytes, list[str]]:
    attempts = 0
    while True:
        try:
            before = await read(tree, path)
        except FileNotFoundError:
            before, base = b"", ABSENT
        else:
            base = hashlib.sha256(before).hexdigest()
        if expects and not base.startswith(expects):
            raise await _describe_conflict(tree, path, path_error(errno.ESTALE, path), expects)
        after = _append_to(path, before, added)
        try:
            return after, await apply(tree, Put(path, after, attributes, base))
        except OSError as error:
            if error.errno not in (errno.ESTALE, errno.EEXIST):
                raise
        attempts += 1
        # Backoff with jitter: processes must not retry at the same moment.
        await trio.sleep(random.uniform(0, min(_MAX_PAUSE_SECONDS, 0.005 * 2**attempts)))  # noqa: S311 - no secret


def _append_to(path: Path, before: bytes, added: str) -> bytes:
    """Return the content with a text at its end, in the charset and with the line ends of the file."""
    try:
        return append_text(before, added)
    except CharsetConflict as reason:
        raise invalid(path, str(reason)) from reason


async def _describe_conflict(tree: TreeSession, path: Path, error: OSError, expects: str) -> OSError:
    """Return the error with the differences to the current content, if it is ESTALE."""
    if error.errno != errno.ESTALE:
        return error
    try:
        current = await read(tree, path)
    except FileNotFoundError:
        return path_error(errno.ESTALE, path, "it is not there any more; nothing was written")
    message = f"it has changed since revision {expects}: it is {revision_of(current)} now, and nothing was written"
    base = (await tree.call("content_of", path=str(path), sha256=expects))["data"]
    if base is None:
        return path_error(errno.ESTALE, path, f"{message}. Read it again")
    return path_error(
        errno.ESTALE, path, f"{message}. What changed:\n{_format_diff(base, current, path)}\nMerge, and write again"
    )


async def _edit(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path = parse_path(arguments["path"])
    async with call.tree.path_locks.at(path):
        return await _edit_locked(call.tree, path, arguments)


async def _edit_locked(tree: TreeSession, path: Path, arguments: Mapping[str, Any]) -> Answer:
    expects = arguments.get("if_revision", "")
    before = await read(tree, path)
    base = hashlib.sha256(before).hexdigest()
    if expects and not base.startswith(expects):
        raise await _describe_conflict(tree, path, path_error(errno.ESTALE, path), expects)
    try:
        editable = parse_editable_text(before)
        content = editable.text
        for number, edit in enumerate(arguments["edits"], 1):
            content = _replace_text(path, content, edit, f"edit {number}: " if len(arguments["edits"]) > 1 else "")
        after = editable.encode(content)
    except CharsetConflict as reason:
        raise invalid(path, str(reason)) from reason
    if arguments.get("dry_run"):
        return f"{_format_diff(before, after, path)}\n[nothing was written]"
    try:
        warnings = await apply(tree, Put(path, after, {}, base))
    except OSError as error:
        raise await _describe_conflict(tree, path, error, base[:REVISION_DIGITS]) from error
    summary = f"edited {printable_path(path)} [revision {revision_of(after)}]"
    return "\n".join([summary, _format_diff(before, after, path), *(f"warning: {warning}" for warning in warnings)])


def _replace_text(path: Path, content: str, edit: Mapping[str, Any], prefix: str) -> str:
    old, new = match_line_ends(content, edit["old"], edit["new"])
    encode_text(new)
    count = content.count(old)
    if count == 0:
        lines = [line.strip() for line in split_lines(content)]
        matches = difflib.get_close_matches(old.split("\n")[0].strip(), lines, 1)
        hint = f"; the nearest line is: {matches[0][:200]}" if matches else ""
        raise invalid(path, f"{prefix}'old' is not in it{hint}. Copy it exactly, spaces too; nothing was written")
    if count > 1 and not edit.get("all"):
        numbers = describe_lines(content, find_positions(content, old))
        raise invalid(
            path, f"{prefix}'old' is there {count} times, in lines {numbers}: take in more around it, or set all"
        )
    return content.replace(old, new)


def _format_diff(before: bytes, after: bytes, path: Path) -> str:
    before_lines, after_lines = (decode(data).splitlines() for data in (before, after))
    lines = list(
        difflib.unified_diff(
            before_lines, after_lines, f"a/{printable_path(path)}", f"b/{printable_path(path)}", lineterm="", n=2
        )
    )
    if len(lines) > _MAX_DIFF_LINES:
        lines = [*lines[:_MAX_DIFF_LINES], f"[{len(lines) - _MAX_DIFF_LINES} lines more]"]
    return "\n".join(lines) or "[no difference]"


async def _move(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path, target = parse_path(arguments["path"]), parse_path(arguments["to"])
    if not arguments.get("replace"):
        try:
            await stat(call.tree, target)
        except FileNotFoundError:
            pass
        else:
            raise path_error(errno.EEXIST, target, "something is there; set replace to put this in its place")
    await make_parents(call.tree, target)
    await apply(call.tree, Move(path, target))
    return f"moved {printable_path(path)} to {printable_path(target)}"


async def _delete(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path = parse_path(arguments["path"])
    count = 0
    try:
        await apply(call.tree, Remove(path))  # a task or a review is removed with its content
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        if not arguments.get("recursive"):
            entry_count = len(await entries(call.tree, path))
            raise path_error(errno.ENOTEMPTY, path, f"a directory with {entry_count} entries") from error
        count = await delete_tree(call.tree, path)
    contents = f" and {count} entries in it" if count else ""
    return f"deleted {printable_path(path)}{contents}; ctx_history with mode restore brings it back"


def tools() -> Sequence[Entry]:
    """Return the tools in listing order."""
    boolean = {"type": "boolean"}
    return (
        Entry(
            "ctx_write",
            "Write a whole file, or add to its end; under memory/<you>/, memory/shared/, pad/, context/<task>/. Each is a version.",
            CHANGES,
            _write,
            _WRITE_PROPERTIES,
            ("path", "content"),
        ),
        Entry(
            "ctx_edit",
            "Replace pieces of a text file, each of which must be in it exactly once. Its charset and line ends stay.",
            CHANGES,
            _edit,
            {
                "path": PATH,
                "edits": {"type": "array", "minItems": 1, "items": _EDIT_SCHEMA},
                "if_revision": _REVISION_SCHEMA,
                "dry_run": {"type": "boolean", "description": "only show the diff"},
            },
            ("path", "edits"),
        ),
        Entry(
            "ctx_move",
            "Rename or move a file or directory within memory/, pad/ or one source.",
            CHANGES,
            _move,
            {"path": PATH, "to": {"type": "string"}, "replace": boolean},
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
