"""The operations of the interface that read, list, search and change files."""

import errno
from collections.abc import Mapping
from itertools import islice
from typing import Any

from ctxfs.http.bodies import MAX_RESULT_BYTES
from ctxfs.http.tree import Tree
from ctxfs.library import requests
from ctxfs.library.edits import directories_above
from ctxfs.model.errors import invalid, not_permitted, path_error
from ctxfs.model.path import Path
from ctxfs.serve.afs.entries import PathMapping, Record, content_record, decode_content, entry_record
from ctxfs.serve.afs.writing import write_content

Options = Mapping[str, Any]

_DEFAULT_LIMIT = 1000
_MAX_ENTRIES = 10_000
_MAX_DEPTH = 32
_DEFAULT_HITS = 20
_MAX_HITS = 1000


class Operations:
    """The operations on files for one request, on behalf of its client."""

    def __init__(self, tree: Tree, paths: PathMapping) -> None:
        self._tree = tree
        self._paths = paths

    async def list(self, path: object, options: Options) -> Record:
        """List a directory: `offset`, `limit`, `maxDepth`. `total` is the number of entries down to that depth."""
        offset = _number(options, "offset", 0, _MAX_ENTRIES)
        limit = _number(options, "limit", _DEFAULT_LIMIT, _MAX_ENTRIES)
        depth = _number(options, "maxDepth", 1, _MAX_DEPTH)
        top = self._paths.to_tree(path)
        if not (await self._tree.send(requests.stat(str(top)))).is_dir:
            return {"data": [], "total": 0}
        records: list[Record] = []
        level = [top]
        for _ in range(depth):
            below: list[Path] = []
            for directory in level:
                for entry in await self._tree.send(requests.list_directory(str(directory))):
                    child = directory / entry.name
                    records.append(entry_record(self._paths.to_interface(child), entry))
                    if entry.is_dir:
                        below.append(child)
                if len(records) > _MAX_ENTRIES:
                    message = f"there are more than {_MAX_ENTRIES} entries: list a part of them"
                    return {"data": records[offset : offset + limit], "total": len(records), "message": message}
            level = below
        return {"data": records[offset : offset + limit], "total": len(records)}

    async def read(self, path: object, options: Options) -> Record:
        """Read a file, or with `startLine` and `endLine` (from 1) a part of it. A directory has no content."""
        tree_path = self._paths.to_tree(path)
        name = self._paths.to_interface(tree_path)
        try:
            data = await self._tree.send(requests.read(str(tree_path)))
        except IsADirectoryError:
            return {"data": entry_record(name, await self._tree.send(requests.stat(str(tree_path))))}
        if len(data) > MAX_RESULT_BYTES:
            raise path_error(errno.EFBIG, name, f"{len(data)} bytes are too many for JSON: get /files/PATH")
        text = decode_content(data)
        if text is not None and ("startLine" in options or "endLine" in options):
            lines = text.splitlines(keepends=True)
            first = max(1, _number(options, "startLine", 1, len(lines) or 1))
            last = _number(options, "endLine", len(lines), len(lines))
            text = "".join(islice(lines, first - 1, max(first - 1, last)))
        return {"data": content_record(name, data, text)}

    async def stat(self, path: object, options: Options) -> Record:
        """Return the entry of a path with its attributes, without its content."""
        tree_path = self._paths.to_tree(path)
        record = entry_record(self._paths.to_interface(tree_path), await self._tree.send(requests.stat(str(tree_path))))
        if record["meta"]["kind"] == "file":
            record["meta"]["attributes"] = await self._tree.send(requests.meta(str(tree_path)))
        return {"data": record}

    async def write(self, path: object, content: object, options: Options) -> Record:
        """Write a file in one of the modes of the interface, see `writing.write_content`."""
        tree_path = self._paths.to_tree(path)
        if not isinstance(content, Mapping):
            raise invalid("content", "an object with `content` or `patches` is needed")
        written = await write_content(self._tree, str(tree_path), content, options.get("mode", "replace"))
        entry = await self._tree.send(requests.stat(str(tree_path)))
        record: Record = {"data": entry_record(self._paths.to_interface(tree_path), entry)}
        if written.warnings:
            record["message"] = "\n".join(written.warnings)
        return record

    async def delete(self, path: object, options: Options) -> Record:
        """Delete a file or an empty directory, with `recursive` a directory and its content."""
        tree_path = self._paths.to_tree(path)
        if self._paths.is_root(tree_path):
            raise not_permitted("/", "the root of the interface is not deleted")
        if options.get("recursive") is True:
            await self._tree.remove_all(str(tree_path))
        else:
            await self._tree.send(requests.remove(str(tree_path)))
        return {"message": f"{self._paths.to_interface(tree_path)} is deleted"}

    async def rename(self, path: object, new_path: object, options: Options) -> Record:
        """Rename a file or a directory. EEXIST for an existing target, unless `overwrite`."""
        source, target = self._paths.to_tree(path), self._paths.to_tree(new_path)
        if options.get("overwrite") is not True and await self._tree.find_entry(str(target)) is not None:
            raise path_error(errno.EEXIST, target)
        await self._tree.send(requests.stat(str(source)))
        await self._tree.make_directories(directories_above(str(target)))
        await self._tree.send(requests.move(str(source), str(target)))
        names = self._paths.to_interface(source), self._paths.to_interface(target)
        return {"message": "{} is now {}".format(*names)}

    async def search(self, path: object, query: object, options: Options) -> Record:
        """Return the files with a text, each with its first line that has it; `caseSensitive`, `limit`.

        With the option `mode` "ranked" return the hits of a question by words and meaning, the best first.
        """
        below, limit = str(self._paths.to_tree(path)), _number(options, "limit", _DEFAULT_HITS, _MAX_HITS)
        if not isinstance(query, str) or not query:
            raise invalid("query", "a text is needed")
        if options.get("mode") == "ranked":
            answer = await self._tree.send(requests.search(query, below, limit))
            hits = [(hit.path, hit.first, hit.snippet) for hit in answer.hits]
        else:
            arguments = {"pattern": query, "below": below, "limit": limit, "fixed": True, "only": "first"}
            ignore_case = options.get("caseSensitive") is not True
            reply = await self._tree.call("grep", {**arguments, "ignore_case": ignore_case})
            hits = [(path, line, text) for path, line, text in reply["lines"]]
        return {"data": [self._hit_record(*hit) for hit in hits[:limit]]}

    def _hit_record(self, path: str, line: int, text: str) -> Record:
        name = self._paths.to_interface(Path.parse(path))
        return {"id": name, "path": name, "summary": text, "meta": {"kind": "file", "line": line}}


def _number(options: Options, name: str, default: int, maximum: int) -> int:
    """Return an option as a number from 0 to `maximum`. Raise OSError EINVAL for another value."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise invalid(name, "a number from 0 on is needed")
    return min(value, maximum)
