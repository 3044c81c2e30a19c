"""`memory`: the commands and responses of Claude's memory tool (`memory_20250818`), on `memory/<agent>/`.

Its paths begin with `/memories`. The texts equal those of that tool's implementations, because models are trained on
them.
"""

import errno
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ctxfs.model.change import ABSENT, Move, Put, Remove
from ctxfs.model.entry import Entry as TreeEntry
from ctxfs.model.path import Path
from mcp_server.sessions import TreeSession
from mcp_server.tool_registry import CHANGES, Answer, Call, Entry, failure
from mcp_server.tree_ops import apply, as_bytes, delete_tree, entries, make_parents, read, read_labelled, stat
from mcp_server.uris import parsed, printable_uri

_ROOT = "/memories"
_DEEP = 2
_MOST_LINES = 999_999
_WIDTH = 6
_DIRECTORY_BYTES = 4096
_AROUND = 2  # lines of an edit's snippet before and after the change
_NEEDED = {
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
    missing = [name for name in _NEEDED[command] if name not in arguments]
    if missing:
        return failure(f"memory {command}: {', '.join(missing)} missing")
    try:
        who = (await call.door.call("whoami"))["principal"]
        return await _COMMANDS[command](_Memories(call.door, Path(("memory", str(who).partition(":")[2]))), arguments)
    except _Refused as refused:
        return failure(str(refused))


class _Memories:
    """The memory directory of one agent."""

    def __init__(self, door: TreeSession, root: Path) -> None:
        self.door = door
        self.root = root

    def place(self, said: str) -> Path:
        """Return the tree path of a `/memories` path. Raises _Refused for a path outside of it."""
        if said != _ROOT and not said.startswith(f"{_ROOT}/"):
            raise _Refused(f"Path must start with {_ROOT}, got: {printable_uri(said)}")
        try:
            return self.root.join(parsed(said.removeprefix(_ROOT)))
        except OSError as error:
            raise _Refused(f"Path {printable_uri(said)} would escape {_ROOT} directory") from error

    async def kind(self, path: Path) -> str:
        """Return `file`, `dir`, `link`, `other`, or empty if the path is absent. The root directory always exists."""
        try:
            return (await stat(self.door, path)).kind
        except (FileNotFoundError, NotADirectoryError):
            return "dir" if path == self.root else ""

    async def file(self, said: str) -> tuple[Path, bytes]:
        """Return the path and content of a file. Raises _Refused if it is absent or no file."""
        path = self.place(said)
        kind = await self.kind(path)
        if not kind:
            raise _Refused(f"The path {said} does not exist. Please provide a valid path.")
        if kind != "file":
            raise _Refused(f"The path {said} is not a file.")
        return path, await read(self.door, path)

    async def put(self, path: Path, before: bytes | None, words: str) -> None:
        """Replace the content that was read, or create the file if `before` is None.

        Raises ESTALE or EEXIST if another writer was faster.
        """
        base = ABSENT if before is None else hashlib.sha256(before).hexdigest()
        await make_parents(self.door, path)
        await apply(self.door, Put(path, as_bytes(words), {}, base))


async def _view(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    said = arguments["path"]
    path = memories.place(said)
    kind = await memories.kind(path)
    if kind == "dir":
        lines = [f"{_size(_DIRECTORY_BYTES)}\t{said}", *await _listed(memories, path, said, 1)]
        head = f"Here're the files and directories up to {_DEEP} levels deep in {said}, excluding hidden items:"
        return "\n".join((head, *lines))
    if not kind:
        raise _Refused(f"The path {said} does not exist. Please provide a valid path.")
    if kind != "file":
        raise _Refused(f"Unsupported file type for {said}")
    data, label = await read_labelled(memories.door, path)
    lines = data.decode("utf-8", "replace").split("\n")
    if len(lines) > _MOST_LINES:
        raise _Refused(f"File {said} exceeds maximum line limit of {_MOST_LINES:,} lines.")
    first, last = 0, len(lines)
    if (span := arguments.get("view_range")) is not None:
        first = max(1, span[0]) - 1
        last = len(lines) if span[1] == -1 else span[1]
    shown = _numbered(lines[first:last], first + 1)
    return "\n".join((f"Here's the content of {said} with line numbers:", *filter(None, (label,)), *shown))


async def _listed(memories: _Memories, path: Path, said: str, depth: int) -> list[str]:
    out: list[str] = []
    try:
        found: Sequence[TreeEntry] = await entries(memories.door, path)
    except FileNotFoundError:
        return out  # the agent has no memory yet
    for entry in found:
        if entry.name.startswith(".") or entry.kind not in ("file", "dir"):
            continue
        at = f"{said}/{entry.name}"
        if entry.is_dir:
            out.append(f"{_size(_DIRECTORY_BYTES)}\t{at}/")
            out += await _listed(memories, path / entry.name, at, depth + 1) if depth < _DEEP else []
        else:
            out.append(f"{_size(entry.size or 0)}\t{at}")
    return out


async def _create(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    said = arguments["path"]
    path = memories.place(said)
    if await memories.kind(path):
        raise _Refused(f"File {said} already exists")
    try:
        await memories.put(path, None, arguments["file_text"])
    except FileExistsError as error:
        raise _Refused(f"File {said} already exists") from error
    return f"File created successfully at: {said}"


async def _str_replace(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    async with memories.door.turns.at(memories.place(arguments["path"])):
        return await _str_replace_in_turn(memories, arguments)


async def _str_replace_in_turn(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    said, old, new = arguments["path"], arguments["old_str"], arguments["new_str"]
    path, before = await memories.file(said)
    words = before.decode("utf-8", "surrogateescape")
    at = [found for found in range(len(words) + 1) if words.startswith(old, found)] if old in words else []
    if not at:
        raise _Refused(f"No replacement was performed, old_str `{old}` did not appear verbatim in {said}.")
    if len(at) > 1:
        lines = ", ".join(str(words.count("\n", 0, found) + 1) for found in at)
        raise _Refused(
            f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines: {lines}. Please ensure it is unique"
        )
    after = words.replace(old, new)
    await memories.put(path, before, after)
    changed = words.count("\n", 0, at[0])
    lines_now = after.split("\n")
    first = max(0, changed - _AROUND)
    snippet = _numbered(lines_now[first : changed + _AROUND + 1], first + 1)
    head = "The memory file has been edited. Here is the snippet showing the change (with line numbers):"
    return "\n".join((head, *snippet))


async def _insert(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    async with memories.door.turns.at(memories.place(arguments["path"])):
        return await _insert_in_turn(memories, arguments)


async def _insert_in_turn(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    said, number = arguments["path"], arguments["insert_line"]
    path, before = await memories.file(said)
    lines = before.decode("utf-8", "surrogateescape").split("\n")
    if not lines[-1]:
        lines.pop()
    if not 0 <= number <= len(lines):
        raise _Refused(f"Invalid `insert_line` parameter: {number}. It should be within the range [0, {len(lines)}].")
    lines.insert(number, arguments["insert_text"].rstrip("\n"))
    words = "\n".join(lines)
    await memories.put(path, before, words if words.endswith("\n") else f"{words}\n")
    return f"The file {said} has been edited."


async def _delete(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    said = arguments["path"]
    path = memories.place(said)
    if path == memories.root:
        raise _Refused(f"Cannot delete the {_ROOT} directory itself")
    kind = await memories.kind(path)
    if not kind:
        raise _Refused(f"The path {said} does not exist")
    await (delete_tree(memories.door, path) if kind == "dir" else apply(memories.door, Remove(path)))
    return f"Successfully deleted {said}"


async def _rename(memories: _Memories, arguments: Mapping[str, Any]) -> str:
    old, new = arguments["old_path"], arguments["new_path"]
    source, target = memories.place(old), memories.place(new)
    if source == memories.root:
        raise _Refused(f"Cannot rename the {_ROOT} directory itself")
    if await memories.kind(target):
        raise _Refused(f"The destination {new} already exists")
    if not await memories.kind(source):
        raise _Refused(f"The path {old} does not exist")
    await make_parents(memories.door, target)
    try:
        await apply(memories.door, Move(source, target))
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


def _numbered(lines: Sequence[str], first: int) -> list[str]:
    return [f"{number:>{_WIDTH}}\t{line}" for number, line in enumerate(lines, first)]


def _size(count: int) -> str:
    """Format bytes as `0B`, `1.5K`, `4K`."""
    if not count:
        return "0B"
    power = min((count.bit_length() - 1) // 10, 3)
    size = count / 1024**power
    return f"{int(size) if size == int(size) else f'{size:.1f}'}{'BKMG'[power]}"


def tools() -> Sequence[Entry]:
    """Return the tool."""
    words = {"type": "string"}
    return (
        Entry(
            "memory",
            "Your own memory, under /memories: view, create, str_replace, insert, delete, rename. It is memory/<you>/ of the tree.",
            CHANGES,
            _memory,
            {
                "command": {"enum": list(_COMMANDS)},
                "path": words,
                "view_range": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
                "file_text": words,
                "old_str": words,
                "new_str": words,
                "insert_line": {"type": "integer"},
                "insert_text": words,
                "old_path": words,
                "new_path": words,
            },
            ("command",),
        ),
    )
