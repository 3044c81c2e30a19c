"""The tree as an fsspec file system, `ctx://memory/alice/fact/keys.md`: for pandas, DuckDB, Dask and others.

Options are those of `ctxfs.open`: `fsspec.open("ctx://pad/x.csv", store=…, principal="agent:x")`. A file that is written
becomes one version when it is closed.
"""

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from fsspec.spec import AbstractFileSystem

from ctxfs.library.results import Entry
from ctxfs.library.store import Store, open_store

_TYPES = {"file": "file", "dir": "directory", "link": "link", "other": "other"}


class ContextFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """An fsspec file system over a store, with the rights of one principal. Errors are OSErrors of the tree."""

    protocol = "ctx"
    root_marker = ""
    cachable = True

    def __init__(
        self, store: str | None = None, principal: str = "", token: str = "", session: str = "", **options: Any
    ) -> None:
        super().__init__(store=store, principal=principal, token=token, session=session, **options)
        self.store: Store = open_store(store, principal=principal, token=token, session=session)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """Return the path in the tree, without protocol and slashes around it."""
        stripped = super()._strip_protocol(path)
        return [item.strip("/") for item in stripped] if isinstance(stripped, list) else stripped.strip("/")

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """Return the entries of a directory, or the entry of a file."""
        path = self._strip_protocol(path)
        entry = self.store.stat(path)
        if entry.is_dir:
            records = [
                self._record(f"{path}/{child.name}" if path else child.name, child) for child in self._entries(path)
            ]
        else:
            records = [self._record(path, entry)]
        return records if detail else [record["name"] for record in records]

    def _entries(self, path: str) -> Iterator[Entry]:
        for entry in self.store.list(path):
            if entry.size is not None:
                yield entry
                continue
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                yield self.store.stat(f"{path}/{entry.name}")

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Return the record of a path: name, type, size in bytes, time of its last change."""
        path = self._strip_protocol(path)
        return self._record(path, self.store.stat(path))

    @staticmethod
    def _record(path: str, entry: Entry) -> dict[str, Any]:
        return {
            "name": path,
            "type": _TYPES[entry.kind],
            "size": 0 if entry.is_dir else entry.size,
            "mode": entry.mode,
            "mtime": entry.mtime_ns / 1e9,
            **({"destination": entry.target} if entry.kind == "link" else {}),
        }

    def modified(self, path: str) -> datetime:
        """Return the time of the last change of a path."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Return the content of a file, or its bytes from `start` to `end`, as slices have them."""
        return self.store.read(self._strip_protocol(path))[start:end]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        """Write a file; with mode `create` raise FileExistsError if it exists."""
        self.store.write(self._strip_protocol(path), bytes(value), expects="absent" if mode == "create" else "")

    def touch(self, path: str, truncate: bool = True, **options: Any) -> None:
        """Make an empty file; with `truncate` also of an existing one."""
        if truncate or not self.exists(path):
            self.pipe_file(path, b"")

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Make a directory. Raise FileExistsError if it exists."""
        path = self._strip_protocol(path)
        if self.store.exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        parent = self._parent(path)
        if parent and not create_parents:
            self.store.stat(parent)  # raises FileNotFoundError
        self.store.make_directory(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory and those above it. Raise FileExistsError if it exists, without `exist_ok`."""
        if exist_ok:
            self.store.make_directory(self._strip_protocol(path))
        else:
            self.mkdir(path)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self.store.remove(self._strip_protocol(path))

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        self.store.remove(self._strip_protocol(path))

    def _rm(self, path: str) -> None:
        self.store.remove(self._strip_protocol(path))

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copy a file, or make a directory like the one at `path1`."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if self.store.stat(source).is_dir:
            self.store.make_directory(target)
        else:
            self.store.write(target, self.store.read(source))

    def mv_file(self, path1: str, path2: str, **options: Any) -> None:
        """Rename a file."""
        self.store.move(self._strip_protocol(path1), self._strip_protocol(path2))

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> io.BytesIO:
        path = self._strip_protocol(path)
        if mode == "rb":
            return _ReadFile(self.store.read(path))
        if self.store.exists(path) and self.store.stat(path).is_dir:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if mode == "xb" and self.store.exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        before = self.store.read(path) if mode == "ab" and self.store.exists(path) else b""
        return _WrittenFile(self.store, path, before, expects="absent" if mode == "xb" else "", autocommit=autocommit)


class _ReadFile(io.BytesIO):
    """The content of a file, read when it was opened."""

    @property
    def size(self) -> int:
        return self.getbuffer().nbytes


class _WrittenFile(io.BytesIO):
    """A file that is written as a whole when it is closed, and not at all after an exception in its block."""

    def __init__(self, store: Store, path: str, before: bytes, *, expects: str, autocommit: bool) -> None:
        super().__init__(before)
        self.seek(0, io.SEEK_END)
        self._store, self._path, self._expects = store, path, expects
        self._should_commit = autocommit
        self._content: bytes | None = None

    def readable(self) -> bool:
        return False

    def close(self) -> None:
        """Write the file, unless a transaction or an exception holds it back."""
        if self.closed:
            return
        self._content = self.getvalue()
        super().close()
        if self._should_commit:
            self.commit()

    def commit(self) -> None:
        """Write the content of the closed file."""
        if self._content is not None:
            self._store.write(self._path, self._content, expects=self._expects)
            self._content = None

    def discard(self) -> None:
        """Drop the content."""
        self._should_commit, self._content = False, None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.discard()
        super().__exit__(kind, error, trace)
