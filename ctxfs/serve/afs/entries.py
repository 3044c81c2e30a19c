"""Paths and entries of the interface: paths begin with `/`, entries are records with `path`, `meta` and `content`."""

import base64
from datetime import UTC, datetime
from typing import Any

from ctxfs.model.entry import Entry
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path, printable_text

Record = dict[str, Any]


class PathMapping:
    """The paths of the interface below a directory of the tree."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def to_tree(self, path: object) -> Path:
        """Return the path in the tree. Raise OSError EINVAL or ENAMETOOLONG for one that is malformed."""
        if not isinstance(path, str):
            raise invalid("path", "a text is needed")
        return self._root.join(Path.parse(path))

    def to_interface(self, path: Path) -> str:
        """Return the path of the interface."""
        return f"/{path.relative_to(self._root)}"

    def is_root(self, path: Path) -> bool:
        """Return True for the directory that is `/`."""
        return path == self._root


def entry_record(path: str, entry: Entry) -> Record:
    """Return an entry without content."""
    meta: Record = {"kind": "directory" if entry.is_dir else entry.kind, "mode": entry.mode}
    if entry.size is not None:
        meta["size"] = entry.size
    record: Record = {"id": path, "path": path, "meta": meta}
    if entry.mtime_ns:
        record["updatedAt"] = datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC).isoformat()
    return record


def content_record(path: str, data: bytes, text: str | None) -> Record:
    """Return the entry of a file with a content: `text`, or base64 for bytes that are not UTF-8."""
    meta: Record = {"kind": "file", "size": len(data)}
    if text is not None:
        return {"id": path, "path": path, "content": text, "meta": meta}
    content = base64.b64encode(data).decode()
    return {"id": path, "path": path, "content": content, "meta": {**meta, "encoding": "base64"}}


def decode_content(data: bytes) -> str | None:
    """Return a content as text, None if it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def safe_text(value: object) -> str:
    """Return a value of the tree as text for a document."""
    return printable_text(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
