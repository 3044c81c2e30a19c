"""The requests of the library on behalf of the client of an HTTP request."""

from collections.abc import Mapping
from typing import Any, TypeVar

from ctxfs.http.access import Access
from ctxfs.http.daemon_sessions import DaemonSessions
from ctxfs.library import requests
from ctxfs.library.edits import directories_above
from ctxfs.library.results import Entry, Written
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path

Result = TypeVar("Result")


class Tree:
    """The tree as the principal of an access has it. Errors are those of the methods, and those of `DaemonSessions`."""

    def __init__(self, daemon: DaemonSessions, access: Access) -> None:
        self._daemon = daemon
        self._access = access

    async def call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Return the response of a method. Raise OSError EINVAL for arguments that cannot be sent to the daemon."""
        try:
            return await self._daemon.call(self._access, method, **arguments)
        except (OverflowError, UnicodeEncodeError, RecursionError, TypeError, ValueError) as error:
            raise invalid(
                "arguments", f"a number, a text or a depth is out of range: {type(error).__name__}"
            ) from error

    async def send(self, request: requests.Request[Result]) -> Result:
        """Return the decoded result of a request of the library."""
        return request.decode(await self.call(request.method, request.arguments))

    async def principal(self) -> str:
        """Return the principal of the access."""
        return str(await self._daemon.principal_of(self._access))

    async def find_entry(self, path: str) -> Entry | None:
        """Return the entry of a path; None if it does not exist for the principal."""
        try:
            return await self.send(requests.stat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    async def write(
        self, path: str, data: bytes, attributes: Mapping[str, str] | None = None, expects: str = ""
    ) -> Written:
        """Create or replace a file and make missing directories. ESTALE or EEXIST if `expects` does not hold."""
        request = requests.put(path, data, attributes or {}, expects)
        try:
            return await self.send(request)
        except FileNotFoundError:
            await self.make_directories(directories_above(path))
        return await self.send(request)

    async def make_directories(self, paths: list[str]) -> None:
        """Make directories that are missing; the nearest first, as `directories_above` returns them."""
        missing = []
        for path in paths:
            if await self.find_entry(path) is not None:
                break
            missing.append(path)
        for path in reversed(missing):
            try:
                await self.send(requests.make_directory(path))
            except FileExistsError:
                continue

    async def remove_all(self, path: str) -> None:
        """Remove a file, or a directory with its content; links are not followed."""
        entry = await self.send(requests.stat(path))
        if not entry.is_dir:
            await self.send(requests.remove(path))
            return
        pending, directories = [Path.parse(path)], list[Path]()
        while pending:
            directory = pending.pop()
            directories.append(directory)
            for child in await self.send(requests.list_directory(str(directory))):
                if child.is_dir:
                    pending.append(directory / child.name)
                else:
                    await self.send(requests.remove(str(directory / child.name)))
        for directory in reversed(directories):
            await self.send(requests.remove(str(directory)))
