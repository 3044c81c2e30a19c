"""`memory`: the commands and responses of Claude's memory tool (`memory_20250818`), on `memory/<agent>/`.

Its paths begin with `/memories`. The texts equal those of that tool's implementations, because models are trained on
them. Warnings of the tree, such as the memories that a new line contradicts, follow in lines of their own.
"""

import errno
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ctxfs.index.extract.editable_text import CharsetConflict, EditableText, insert_lines, parse_editable_text
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.mcp_server.tool_registry import CHANGES, Answer, Call, Entry, failure
from ctxfs.mcp_server.tree_ops import apply, delete_tree, encode_text, entries, make_parents, read, read_labelled, stat
from ctxfs.mcp_server.uris import parse_path, printable_uri
from ctxfs.model.change import ABSENT, Move, Put, Remove
from ctxfs.model.entry import Entry as TreeEntry
from ctxfs.model.line_ends import convert_line_ends, split_lines
from ctxfs.model.path import Path
from ctxfs.model.text_edits import describe_lines, find_positions, line_of, match_line_ends

_ROOT = "/memories"
_MAX_DEPTH = 2
_MAX_FILE_LINES = 999_999
_NUMBER_WIDTH = 6
_DIRECTORY_BYTES = 4096
_SNIPPET_LINES = 2  # lines of an edit's snippet before and after the change
_REQUIRED = {
    "view": ("path",),
    "create": ("path", "file_text"),
    "str_replace": ("path", "old_str", "new_str"),
    "insert": ("path", "insert_line", "insert_text"),
    "delete": ("path",),
    "rename": ("old_path", "new_path"),
}


class _Refused(Exception):
    """A refusal, with the text of the tool's error result."""


async def _memory(call: Call, arguments: Mapping[str, Any]) -> Answer:
    command = arguments["command"]
    missing = [name for name in _REQUIRED[command] if name not in arguments]
    if missing:
        return failure(f"memory {command}: {', '.join(missing)} missing")
    try:
        principal = (await call.tree.call("whoami"))["principal"]
        return await _COMMANDS[command](
            _Memories(call.tree, Path(("memory", str(principal).partition(":")[2]))), arguments
        )
    except _Refused as refused:
        return failure(str(refused))


class _Memories:
    """The memory directory of one agent."""

    def __init__(self, tree: TreeSession, root: Path) -> None:
        self.tree = tree
        self.root = root

    def tree_path(self, client_path: str) -> Path:
        """Return the tree path of a `/memories` path. Raises _Refused for a path outside of it."""
        if client_path != _ROOT and not client_path.startswith(f"{_ROOT}/"):
            raise _Refused(f"Path must start with {_ROOT}, got: {printable_uri(client_path)}")
        try:
            return self.root.join(parse_path(client_path.removeprefix(_ROOT)))
        except OSError as error:
            raise _Refused(f"Path {printable_uri(client_path)} would escape {_ROOT} directory") from error

    async def kind(self, path: Path) -> str:
        """Return `file`, `dir`, `link`, `other`, or empty if the path is absent. The root directory always exists."""
        try:
            return (await stat(self.tree, path)).kind
        except (FileNotFoundError, NotADirectoryError):
            return "dir" if path == self.root else ""

    async def read_file(self, client_path: str) -> tuple[Path, bytes]:
        """Return the path and content of a file. Raises _Refused if it is absent or no file."""
        path = self.tree_path(client_path)
        kind = await self.kind(path)
        if not kind:
            raise _Refused(f"The path {client_path} does not exist. Please provide a valid path.")
        if kind != "file":
            raise _Refused(f"The path {client_path} is not a file.")
        return path, await read(self.tree, path)

    async def read_editable(self, client_path: str) -> tuple[Path, EditableText, bytes]:
        """Return the path, text and content of a file. Raises _Refused for one that cannot be edited."""
        path, data = await self.read_file(client_path)
        try:
            return path, parse_editable_text(data), data
        except CharsetConflict as reason:
            raise _Refused(f"The file {client_path} cannot be edited: {reason}") from reason

    async def replace_file(self, path: Path, before: bytes | None, content: bytes) -> Sequence[str]:
        """Replace the content that was read, or create the file if `before` is None. Return lines with the warnings.

        Raises ESTALE or EEXIST if another writer was faster.
        """
        base = ABSENT if before is None else hashlib.sha256(before).hexdigest()
        await make_parents(self.tree, path)
        return [f"warning: {warning}" for warning in await apply(self.tree, Put(path, content, {}, base))]


async def _view(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    client_path = arguments["path"]
    path = memories.tree_path(client_path)
    kind = await memories.kind(path)
    if kind == "dir":
        lines = [
            f"{_format_size(_DIRECTORY_BYTES)}\t{client_path}",
            *await _list_directory(memories, path, client_path, 1),
        ]
        head = f"Here're the files and directories up to {_MAX_DEPTH} levels deep in {client_path}, excluding hidden items:"
        return "\n".join((head, *lines))
    if not kind:
        raise _Refused(f"The path {client_path} does not exist. Please provide a valid path.")
    if kind != "file":
        raise _Refused(f"Unsupported file type for {client_path}")
    data, label = await read_labelled(memories.tree, path)
    content = read_text(data)
    lines = (data.decode("utf-8", "replace") if content is None else content).split("\n")
    if len(lines) > _MAX_FILE_LINES:
        raise _Refused(f"File {client_path} exceeds maximum line limit of {_MAX_FILE_LINES:,} lines.")
    first, last = 0, len(lines)
    if (span := arguments.get("view_range")) is not None:
        first = max(1, span[0]) - 1
        last = len(lines) if span[1] == -1 else span[1]
    numbered = _number_lines(lines[first:last], first + 1)
    return "\n".join((f"Here's the content of {client_path} with line numbers:", *filter(None, (label,)), *numbered))


async def _list_directory(memories: _Memories, path: Path, client_path: str, depth: int) -> list[str]:
    lines: list[str] = []
    try:
        tree_entries: Sequence[TreeEntry] = await entries(memories.tree, path)
    except FileNotFoundError:
        return lines  # the agent has no memory yet
    for entry in tree_entries:
        if entry.name.startswith(".") or entry.kind not in ("file", "dir"):
            continue
        child = f"{client_path}/{entry.name}"
        if entry.is_dir:
            lines.append(f"{_format_size(_DIRECTORY_BYTES)}\t{child}/")
            lines += await _list_directory(memories, path / entry.name, child, depth + 1) if depth < _MAX_DEPTH else []
        else:
            lines.append(f"{_format_size(entry.size or 0)}\t{child}")
    return lines


async def _create(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    client_path = arguments["path"]
    path = memories.tree_path(client_path)
    if await memories.kind(path):
        raise _Refused(f"File {client_path} already exists")
    try:
        warnings = await memories.replace_file(path, None, encode_text(arguments["file_text"]))
    except FileExistsError as error:
        raise _Refused(f"File {client_path} already exists") from error
    return "\n".join((f"File created successfully at: {client_path}", *warnings))


async def _str_replace(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    async with memories.tree.path_locks.at(memories.tree_path(arguments["path"])):
        return await _str_replace_locked(memories, arguments)


async def _str_replace_locked(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    client_path, old, new = arguments["path"], arguments["old_str"], arguments["new_str"]
    if not old:
        raise _Refused("No replacement was performed, old_str is empty. Use insert to add text.")
    path, editable, before = await memories.read_editable(client_path)
    content = editable.text
    encode_text(new)
    old, new = match_line_ends(content, old, new)
    offsets = find_positions(content, old)
    if not offsets:
        raise _Refused(f"No replacement was performed, old_str `{old}` did not appear verbatim in {client_path}.")
    if len(offsets) > 1:
        lines = describe_lines(content, offsets)
        raise _Refused(
            f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines: {lines}. Please ensure it is unique"
        )
    after = content.replace(old, new)
    warnings = await memories.replace_file(path, before, _encode_edit(client_path, editable, after))
    changed_line = line_of(content, offsets[0]) - 1
    lines_now = convert_line_ends(after, "\n").split("\n")
    first = max(0, changed_line - _SNIPPET_LINES)
    snippet = _number_lines(lines_now[first : changed_line + _SNIPPET_LINES + 1], first + 1)
    head = "The memory file has been edited. Here is the snippet showing the change (with line numbers):"
    return "\n".join((head, *snippet, *warnings))


async def _insert(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    async with memories.tree.path_locks.at(memories.tree_path(arguments["path"])):
        return await _insert_locked(memories, arguments)


async def _insert_locked(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    client_path, number = arguments["path"], arguments["insert_line"]
    path, editable, before = await memories.read_editable(client_path)
    line_count = len(split_lines(editable.text))
    if not 0 <= number <= line_count:
        raise _Refused(f"Invalid `insert_line` parameter: {number}. It should be within the range [0, {line_count}].")
    inserted = arguments["insert_text"].rstrip("\r\n")
    encode_text(inserted)
    content = insert_lines(editable.text, number, inserted)
    warnings = await memories.replace_file(path, before, _encode_edit(client_path, editable, content))
    return "\n".join((f"The file {client_path} has been edited.", *warnings))


def _encode_edit(client_path: str, editable: EditableText, content: str) -> bytes:
    """Return the bytes of an edited file. Raises _Refused if its charset lacks a character."""
    try:
        return editable.encode(content)
    except CharsetConflict as reason:
        raise _Refused(f"The file {client_path} cannot be edited: {reason}") from reason


async def _delete(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    client_path = arguments["path"]
    path = memories.tree_path(client_path)
    if path == memories.root:
        raise _Refused(f"Cannot delete the {_ROOT} directory itself")
    kind = await memories.kind(path)
    if not kind:
        raise _Refused(f"The path {client_path} does not exist")
    await (delete_tree(memories.tree, path) if kind == "dir" else apply(memories.tree, Remove(path)))
    return f"Successfully deleted {client_path}"


async def _rename(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    old, new = arguments["old_path"], arguments["new_path"]
    source, target = memories.tree_path(old), memories.tree_path(new)
    if source == memories.root:
        raise _Refused(f"Cannot rename the {_ROOT} directory itself")
    if await memories.kind(target):
        raise _Refused(f"The destination {new} already exists")
    if not await memories.kind(source):
        raise _Refused(f"The path {old} does not exist")
    await make_parents(memories.tree, target)
    try:
        await apply(memories.tree, Move(source, target))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _Refused(f"The destination {new} is inside {old}") from error
    return f"Successfully renamed {old} to {new}"


_Command = Callable[[_Memories, Mapping[str, Any]], Awaitable[str]]
_COMMANDS: Mapping[str, _Command] = {
    "view": _view,
    "create": _create,
    "str_replace": _str_replace,
    "insert": _insert,
    "delete": _delete,
    "rename": _rename,
}


def _number_lines(lines: Sequence[str], first: int) -> list[str]:
    return [f"{number:>{_NUMBER_WIDTH}}\t{line}" for number, line in enumerate(lines, first)]


def _format_size(count: int) -> str:
    """Format bytes as `0B`, `1.5K`, `4K`."""
    if not count:
        return "0B"
    power = min((count.bit_length() - 1) // 10, 3)
    size = count / 1024**power
    return f"{int(size) if size == int(size) else f'{size:.1f}'}{'BKMG'[power]}"


def tools() -> Sequence[Entry]:
    """Return the tool."""
    string = {"type": "string"}
    return (
        Entry(
            "memory",
            "Your own memory, under /memories: view, create, str_replace, insert, delete, rename. It is memory/<you>/ of the tree.",
            CHANGES,
            _memory,
            {
                "command": {"enum": list(_COMMANDS)},
                "path": string,
                "view_range": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
                "file_text": string,
                "old_str": string,
                "new_str": string,
                "insert_line": {"type": "integer"},
                "insert_text": string,
                "old_path": string,
                "new_path": string,
            },
            ("command",),
        ),
    )
