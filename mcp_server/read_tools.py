"""`ctx_list` and `ctx_read`: directories and contents."""

import base64
import errno
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from mcp.types import ImageContent, ResourceLink

from ctxfs.context.build.token_bound import longest_prefix, upper_bound
from ctxfs.index.extract.extracted_text import may_be_extracted
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.mcp_server.extracted_text import SourceContent, read_extracted
from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.mcp_server.tool_registry import PATH, READS, Answer, Call, Content, Entry, text
from ctxfs.mcp_server.tree_ops import entries, read_labelled, revision_of, stat
from ctxfs.mcp_server.uris import mime_type_of, parse_path, printable_path, uri_of
from ctxfs.model.entry import Entry as TreeEntry
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path, one_line

_MAX_LIST_ENTRIES = 1000
_DEFAULT_LIST_ENTRIES = 200
_MAX_PATHS = 50
_DEFAULT_TOKENS = 10_000
_MAX_TOKENS = 200_000
_MAX_IMAGE_BYTES = 4_000_000  # larger images are linked
_IMAGE_TYPES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
_KIND_SUFFIXES = {"dir": "/", "link": "@"}


async def _list(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path, depth = parse_path(arguments.get("path", "")), arguments.get("depth", 1)
    limit, after = arguments.get("limit", _DEFAULT_LIST_ENTRIES), arguments.get("cursor", "")
    start = parse_path(after).parts if after else None
    lines: list[str] = []
    last = ""
    async with aclosing(_walk(call.tree, path, depth)) as walk:
        async for child, entry in walk:
            if start is not None and child.parts <= start:
                continue
            if len(lines) == limit:
                return "\n".join([*lines, f"[more: cursor={last}]"])
            last = printable_path(child)
            name = last if last.startswith("ctx:") else str(child.relative_to(path))
            line = (
                f"{name}{_KIND_SUFFIXES.get(entry.kind, '')}{f' -> {one_line(entry.target)}' if entry.target else ''}"
            )
            lines.append(f"{_format_details(entry)}  {line}" if arguments.get("detail") else line)
    return "\n".join(lines) or "(empty)"


async def _walk(tree: TreeSession, path: Path, depth: int) -> AsyncGenerator[tuple[Path, TreeEntry], None]:
    """Yield the entries below a directory, in the order of paths.

    A subdirectory that cannot be listed counts as empty.
    """
    for entry in sorted(await entries(tree, path), key=lambda entry: entry.name):
        child = path / entry.name
        yield child, entry
        if entry.is_dir and depth > 1:
            try:
                async with aclosing(_walk(tree, child, depth - 1)) as subtree:
                    async for descendant in subtree:
                        yield descendant
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.ENOENT):
                    raise


def _format_details(entry: TreeEntry) -> str:
    size = "-" if entry.size is None or entry.is_dir else str(entry.size)
    when = datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%MZ") if entry.mtime_ns else "-"
    mode = "".join(letter if entry.mode & bit else "-" for letter, bit in (("r", 0o444), ("w", 0o222)))
    return f"{mode} {size:>8} {when:>17}"


async def _read(call: Call, arguments: Mapping[str, Any]) -> Answer:
    requested = arguments["path"]
    paths = [requested] if isinstance(requested, str) else requested
    cap = max(arguments.get("max_tokens", _DEFAULT_TOKENS) // len(paths), 1)
    if len(paths) == 1:
        return await _read_one(call.tree, parse_path(paths[0]), arguments, cap)
    contents: list[Content] = []
    for client_path in paths:
        try:
            parts = await _read_one(call.tree, parse_path(client_path), arguments, cap)
        except OSError as error:
            parts = [text(f"{one_line(str(error.filename))}: {error.strerror}")]  # the other paths are still read
        contents += [text(f"==> {one_line(client_path)} <=="), *parts]
    return contents


async def _read_one(tree: TreeSession, path: Path, arguments: Mapping[str, Any], cap: int) -> list[Content]:
    form = arguments.get("as", "auto")
    if form == "link":
        entry = await stat(tree, path)
        return [_link(path, entry.size)]
    if form != "source" and may_be_extracted(path.name):
        extracted = await read_extracted(tree, path, arguments, cap)
        if not isinstance(extracted, SourceContent):
            label, passages, has_text = extracted
            return [*map(text, filter(None, (label, passages))), *([] if has_text else [_link(path, None)])]
        data, label = extracted
    else:
        data, label = await read_labelled(tree, path)
    labels = [text(label)] if label else []
    kind = next((kind for mark, kind in _IMAGE_TYPES.items() if data.startswith(mark)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if kind and form in ("auto", "link"):
        if len(data) > _MAX_IMAGE_BYTES:
            return [
                *labels,
                text(f"{printable_path(path)}: an image of {len(data)} bytes, too large to show"),
                _link(path, len(data)),
            ]
        return [*labels, ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type=kind)]
    content = read_text(data, keeps_line_ends=True)
    if content is None:
        return [*labels, text(f"{printable_path(path)}: a binary file of {len(data)} bytes"), _link(path, len(data))]
    return [*labels, text(_select_lines(content, revision_of(data), arguments, cap))]


def _link(path: Path, size: int | None) -> ResourceLink:
    return ResourceLink(
        type="resource_link", uri=uri_of(path), name=printable_path(path), mime_type=mime_type_of(path), size=size
    )


def _select_lines(content: str, revision: str, arguments: Mapping[str, Any], cap: int) -> str:
    """Return the requested lines that fit into `cap` tokens.

    The last line contains the position to continue at, the number of lines, and the revision.
    """
    lines = content.split("\n")
    count = len(lines) - (not lines[-1])
    tail, column = arguments.get("tail", 0), arguments.get("column", 0)
    first = max(1, count - tail + 1) if tail else arguments.get("offset", 1)
    last = min(count, first + arguments.get("limit", count) - 1)
    if first > max(count, 1):
        raise invalid("offset", f"the file has {count} lines")
    selected, used, more = list[str](), 0, ""
    for number in range(first, last + 1):
        skipped = column if number == first else 0
        line = lines[number - 1][skipped:]
        cost = upper_bound(line) + 1 if len(line) <= 4 * cap else cap + 1
        if used + cost > cap:
            if not selected:
                selected.append(longest_prefix(line, cap))
                more = f"continue: offset={number} column={skipped + len(selected[0])}; "
            else:
                more = f"continue: offset={number}; "
            break
        used += cost
        selected.append(line)
    is_whole = first == 1 and not more and last == count and not column
    range_text = "" if is_whole or more else f"lines {first}-{last} of "
    ending = ", the last without a line end" if lines[-1] else ""
    return "\n".join([*selected, f"[{more}{range_text}{count} lines{ending}, revision {revision}]"])


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
                "limit": {**positive, "maximum": _MAX_LIST_ENTRIES},
                "cursor": {"type": "string", "description": "from the last result"},
            },
        ),
        Entry(
            "ctx_read",
            "Read files. The last line has the number of lines, the revision, and where to continue if not all was shown. "
            "Images are shown; of PDF, office files, mail, notebooks the text; other binaries linked to. "
            "A path can be a question: search/<question>/context.md.",
            READS,
            _read,
            {
                "path": {
                    "anyOf": [
                        PATH,
                        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": _MAX_PATHS},
                    ]
                },
                "offset": {**positive, "description": "first line"},
                "column": {"type": "integer", "minimum": 0, "description": "characters of that line to skip"},
                "limit": {**positive, "description": "lines"},
                "tail": {**positive, "description": "the last lines instead"},
                "max_tokens": {**positive, "maximum": _MAX_TOKENS},
                "as": {"enum": ["auto", "text", "source", "link"]},
            },
            ("path",),
        ),
    )
