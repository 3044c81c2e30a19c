"""Provide the three shells that every promise is tested through: the daemon's VFS, the kernel mount, MCP."""

import hashlib
import os
import re
from collections.abc import Iterator
from typing import Protocol

import pytest

from ctxfs.model.change import MakeDir, Put, Remove
from ctxfs.model.path import Path
from ctxfs.rpc.client import Client
from ctxfs.rpc.wire import change_to_wire
from tests.live import Live, mcp_call


class Shell(Protocol):
    """The operations of every access path to the tree; a failure is an OSError.

    Its errno may be lost on the way, as in MCP.
    """

    def names(self, path: str) -> set[str]: ...
    def read(self, path: str) -> str: ...
    def write(self, path: str, text: str) -> None: ...
    def mkdir(self, path: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def close(self) -> None: ...


class VfsShell:
    """The namespace itself, over the daemon's socket."""

    def __init__(self, live: Live) -> None:
        self._client = Client(live.store / "run", timeout=30)

    def close(self) -> None:
        self._client.close()

    def names(self, path: str) -> set[str]:
        return {entry[0] for entry in self._client.call("list", path=path)}

    def read(self, path: str) -> str:
        return str(self._client.call("read", path=path).decode())

    def write(self, path: str, text: str) -> None:
        self._client.call("apply", change=change_to_wire(Put(Path.parse(path), text.encode())))

    def mkdir(self, path: str) -> None:
        self._client.call("apply", change=change_to_wire(MakeDir(Path.parse(path))))

    def remove(self, path: str) -> None:
        self._client.call("apply", change=change_to_wire(Remove(Path.parse(path))))


class FuseShell:
    """System calls on the mount point."""

    def __init__(self, live: Live) -> None:
        self._at = live.at

    def close(self) -> None:
        pass

    def names(self, path: str) -> set[str]:
        return set(os.listdir(self._at / path))

    def read(self, path: str) -> str:
        return (self._at / path).read_text()

    def write(self, path: str, text: str) -> None:
        (self._at / path).write_text(text)

    def mkdir(self, path: str) -> None:
        host_path = self._at / path
        # Every query exists as a path, so the kernel itself refuses mkdir: touch saves the query.
        host_path.touch() if path.startswith("search/") else host_path.mkdir()

    def remove(self, path: str) -> None:
        host_path = self._at / path
        host_path.rmdir() if host_path.is_dir() else host_path.unlink()


class McpShell(VfsShell):
    """A real MCP client; operations without a tool go through the VFS."""

    def __init__(self, live: Live) -> None:
        super().__init__(live)
        self._live = live

    def _call(self, tool: str, **arguments: object) -> str:
        text, failed = mcp_call(self._live, tool, arguments)
        if failed:
            raise OSError(0, text)
        return text

    def names(self, path: str) -> set[str]:
        lines = self._call("ctx_list", path=path, limit=1000).splitlines()
        return {line.split(" -> ")[0].rstrip("/@") for line in lines if line != "(empty)"}

    def read(self, path: str) -> str:
        text, offset, column = "", 1, 0
        while True:
            part, _, last = self._call("ctx_read", path=path, offset=offset, column=column).rpartition("\n")
            match = re.match(r"\[continue: offset=(\d+)(?: column=(\d+))?; ", last)
            if match is None:
                return text + part + ("\n" if part and "without a line end" not in last else "")
            text += part + ("" if match[2] else "\n")
            offset, column = int(match[1]), int(match[2] or 0)

    def write(self, path: str, text: str) -> None:
        self._call("ctx_write", path=path, content=text)

    def remove(self, path: str) -> None:
        self._call("ctx_delete", path=path, recursive=True)


@pytest.fixture(params=[VfsShell, FuseShell, McpShell], ids=["vfs", "fuse", "mcp"])
def shell(request: pytest.FixtureRequest, live: Live) -> Iterator[Shell]:
    made = request.param(live)
    yield made
    made.close()


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """Return a name that only this test uses."""
    return f"t{hashlib.sha256(request.node.name.encode()).hexdigest()[:20]}"
