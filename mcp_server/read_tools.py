"""`ctx_list` and `ctx_read`: directories and contents."""

import base64
import errno
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from mcp.types import ImageContent, ResourceLink

from ctxfs.context.build.token_bound import upper_bound
from ctxfs.model.entry import Entry as TreeEntry
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path, one_line
from mcp_server.sessions import TreeSession
from mcp_server.tool_registry import PATH, READS, Answer, Call, Content, Entry, text
from mcp_server.tree_ops import entries, read_labelled, revision_of, stat
from mcp_server.uris import mime_type_of, parsed, shown, uri_of

_MOST_LISTED = 1000
_LISTED = 200
_MOST_PATHS = 50
_TOKENS = 10_000
_MOST_TOKENS = 200_000
_LARGEST_IMAGE = 4_000_000  # larger images are linked
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
_MARKS = {"dir": "/", "link": "@"}


async def _list(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path, depth = parsed(arguments.get("path", "")), arguments.get("depth", 1)
    limit, after = arguments.get("limit", _LISTED), arguments.get("cursor", "")
    start = parsed(after).parts if after else None
    lines: list[str] = []
    last = ""
    async with aclosing(_walk(call.door, path, depth)) as found:
        async for at, entry in found:
            if start is not None and at.parts <= start:
                continue
            if len(lines) == limit:
                return "\n".join([*lines, f"[more: cursor={last}]"])
            last = shown(at)
            name = last if last.startswith("ctx:") else str(at.relative_to(path))
            line = f"{name}{_MARKS.get(entry.kind, '')}{f' -> {one_line(entry.target)}' if entry.target else ''}"
            lines.append(f"{_details(entry)}  {line}" if arguments.get("detail") else line)
    return "\n".join(lines) or "(empty)"


async def _walk(door: TreeSession, path: Path, depth: int) -> AsyncGenerator[tuple[Path, TreeEntry], None]:
    """Yield the entries below a directory, in the order of paths.

    A subdirectory that cannot be listed counts as empty.
    """
    for entry in sorted(await entries(door, path), key=lambda each: each.name):
        at = path / entry.name
        yield at, entry
        if entry.is_dir and depth > 1:
            try:
                async with aclosing(_walk(door, at, depth - 1)) as inside:
                    async for below in inside:
                        yield below
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.ENOENT):
                    raise


def _details(entry: TreeEntry) -> str:
    size = "-" if entry.size is None or entry.is_dir else str(entry.size)
    when = datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%MZ") if entry.mtime_ns else "-"
    mode = "".join(letter if entry.mode & bit else "-" for letter, bit in (("r", 0o444), ("w", 0o222)))
    return f"{mode} {size:>8} {when:>17}"


async def _read(call: Call, arguments: Mapping[str, Any]) -> Answer:
    given = arguments["path"]
    paths = [given] if isinstance(given, str) else given
    cap = max(arguments.get("max_tokens", _TOKENS) // len(paths), 1)
    if len(paths) == 1:
        return await _one(call.door, parsed(paths[0]), arguments, cap)
    out: list[Content] = []
    for each in paths:
        try:
            parts = await _one(call.door, parsed(each), arguments, cap)
        except OSError as error:
            parts = [text(f"{one_line(str(error.filename))}: {error.strerror}")]  # the other paths are still read
        out += [text(f"==> {one_line(each)} <=="), *parts]
    return out


async def _one(door: TreeSession, path: Path, arguments: Mapping[str, Any], cap: int) -> list[Content]:
    wanted = arguments.get("as", "auto")
    if wanted == "link":
        entry = await stat(door, path)
        return [_link(path, entry.size)]
    data, label = await read_labelled(door, path)
    beside = [text(label)] if label else []
    kind = next((kind for mark, kind in _IMAGES.items() if data.startswith(mark)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if kind and wanted != "text":
        if len(data) > _LARGEST_IMAGE:
            return [
                *beside,
                text(f"{shown(path)}: an image of {len(data)} bytes, too large to show"),
                _link(path, len(data)),
            ]
        return [*beside, ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type=kind)]
    if b"\0" in data[:8192]:
        return [*beside, text(f"{shown(path)}: a binary file of {len(data)} bytes"), _link(path, len(data))]
    return [*beside, text(_part(data, arguments, cap))]


def _link(path: Path, size: int | None) -> ResourceLink:
    return ResourceLink(
        type="resource_link", uri=uri_of(path), name=shown(path), mime_type=mime_type_of(path), size=size
    )


def _part(data: bytes, arguments: Mapping[str, Any], cap: int) -> str:
    """Return the requested lines that fit into `cap` tokens.

    The last line contains the position to continue at, the number of lines, and the revision.
    """
    lines = data.decode("utf-8", "replace").split("\n")
    count = len(lines) - (not lines[-1])
    tail, column = arguments.get("tail", 0), arguments.get("column", 0)
    first = max(1, count - tail + 1) if tail else arguments.get("offset", 1)
    last = min(count, first + arguments.get("limit", count) - 1)
    if first > max(count, 1):
        raise invalid("offset", f"the file has {count} lines")
    out, used, more = list[str](), 0, ""
    for number in range(first, last + 1):
        skipped = column if number == first else 0
        line = lines[number - 1][skipped:]
        cost = upper_bound(line) + 1 if len(line) <= 4 * cap else cap + 1
        if used + cost > cap:
            if not out:
                out.append(_cut(line, cap))
                more = f"continue: offset={number} column={skipped + len(out[0])}; "
            else:
                more = f"continue: offset={number}; "
            break
        used += cost
        out.append(line)
    whole = first == 1 and not more and last == count and not column
    part = "" if whole or more else f"lines {first}-{last} of "
    ends = ", the last without a line end" if lines[-1] else ""
    return "\n".join([*out, f"[{more}{part}{count} lines{ends}, revision {revision_of(data)}]"])


def _cut(line: str, cap: int) -> str:
    """Return the longest prefix of a line that fits into `cap` tokens, at least one character."""
    low, high = 1, min(len(line), 4 * cap)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if upper_bound(line[:middle]) <= cap else (low, middle - 1)
    return line[:low]


def tools() -> Sequence[Entry]:
    """Return the tools in listing order."""
    positive = {"type": "integer", "minimum": 1}
    return (
        Entry(
            "ctx_list",
            "List a directory of the tree, one entry a line: `/` directory, `@` link. Start with no path.",
            READS,
            _list,
            {
                "path": {"type": "string"},
                "depth": {**positive, "maximum": 10},
                "detail": {"type": "boolean", "description": "rights, bytes, time of each"},
                "limit": {**positive, "maximum": _MOST_LISTED},
                "cursor": {"type": "string", "description": "as the last answer gave it"},
            },
        ),
        Entry(
            "ctx_read",
            "Read files. The last line says how many lines a text has, its revision, and where to continue if not all was shown. "
            "Images are shown, other binaries linked to. A path can be a question: search/<question>/context.md.",
            READS,
            _read,
            {
                "path": {
                    "anyOf": [
                        PATH,
                        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": _MOST_PATHS},
                    ]
                },
                "offset": {**positive, "description": "first line"},
                "column": {"type": "integer", "minimum": 0, "description": "characters of that line to skip"},
                "limit": {**positive, "description": "lines"},
                "tail": {**positive, "description": "the last lines instead"},
                "max_tokens": {**positive, "maximum": _MOST_TOKENS},
                "as": {"enum": ["auto", "text", "link"]},
            },
            ("path",),
        ),
    )
