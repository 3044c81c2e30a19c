"""Transaction files: a handle accepts a request by write, and returns the response by read.

A request is a JSON object; it is sent as soon as it is complete. On a handle for writing only, the write fails if the
request is invalid. A handle for reading and writing returns the response, a line of JSON. With `"$call": {"progress":
true}` lines with `progress` precede it. With `{"plain": true}` the response has the format of `plain`. Closing a handle
before its response cancels the call.
"""

import errno
import itertools
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ctxfs.fuse.interfaces import Loop
from ctxfs.model.errors import path_error
from ctxfs.model.path import Path
from ctxfs.model.tables import Table

log = logging.getLogger(__name__)

SPEAKING = 1 << 41  # the first handle of transaction files; those of synthetic files are below
_LONGEST = 192 * 1024 * 1024
# A read that the kernel waits for cannot be interrupted, so it ends after this time: readers retry, and signals arrive.
_WAIT_SECONDS = 0.3

Call = Callable[..., Awaitable[Any]]


@dataclass(slots=True)
class _Transaction:
    """One handle: the request, the response, and the state of the call."""

    tool: str
    hears: bool
    asked: bytearray = field(default_factory=bytearray)
    told: bytearray = field(default_factory=bytearray)
    number: str = ""
    begun: bool = False
    over: bool = False
    wants_progress: bool = False
    plain: bool = False
    progress: float = 0.0
    base: int | None = None  # the file offset of the first byte of the response


class TransactionFiles:
    """The open transaction files of a mount."""

    def __init__(self, call: Call, loop: Loop) -> None:
        self._call = call
        self._loop = loop
        self._talks: Table[_Transaction] = Table(errno.EBADF)
        self._numbers = itertools.count(SPEAKING)

    def open(self, path: Path, *, hears: bool) -> int:
        """Open the file `call` of a tool. Return its handle."""
        number = next(self._numbers)
        self._talks[number] = _Transaction("/".join(path.parent.parts[1:]), hears)
        return number

    async def write(self, number: int, data: bytes) -> int:
        """Add bytes to the request. Return their count.

        Raise EBUSY after the request is sent, EFBIG if it is too long. On a handle for writing only, raise EINVAL for a
        malformed request, and the error of a tool that refuses it.
        """
        talk = self._talks[number]
        if talk.begun:
            raise path_error(errno.EBUSY, talk.tool, "one question a handle")
        if len(talk.asked) + len(data) > _LONGEST:
            raise path_error(errno.EFBIG, talk.tool)
        talk.asked += data
        if not talk.hears and _whole(talk.asked) is not None:
            try:
                await self._loop.call(self._begin, talk)
            except OSError:  # C libraries write a refused buffer again when the file is closed
                talk.asked.clear()
                talk.begun = False
                raise
        return len(data)

    async def read(self, number: int, offset: int, size: int) -> bytes:
        """Return the next bytes of the response.

        Raise EINTR if there are none yet, on which readers retry; EINVAL without a request; EBADF on a handle for
        writing only.
        """
        talk = self._talks[number]
        if not talk.hears:
            raise path_error(errno.EBADF, talk.tool)
        if not talk.asked:
            raise path_error(errno.EINVAL, talk.tool, "write the arguments first")
        if talk.base is None:
            talk.base = len(talk.asked) if offset >= len(talk.asked) else 0
        start = max(0, offset - talk.base)
        if start >= len(talk.told) and not talk.over:
            await self._loop.call(self._go_on, talk)
            if start >= len(talk.told):
                raise path_error(errno.EINTR, talk.tool)
        return bytes(talk.told[start : start + size])

    async def release(self, number: int) -> None:
        """Close a handle.

        A call whose response has not been read is cancelled. On a handle for writing only, an unsent request is sent.
        """
        talk = self._talks.take(number)
        try:
            await self._loop.call(self._end, talk)
        except OSError as error:  # the caller has gone: only the log can report it
            log.warning("what was written to 'tools/%s/call' was refused: %s", talk.tool, error.strerror)

    # under trio

    async def _begin(self, talk: _Transaction) -> None:
        arguments = _whole(talk.asked)
        if arguments is None:
            raise path_error(errno.EINVAL, talk.tool, "the arguments are no JSON object")
        talk.begun = True
        said = arguments.get("$call")
        if isinstance(said, dict):
            talk.wants_progress, talk.plain = bool(said.pop("progress", False)), bool(said.pop("plain", False))
        talk.number = (await self._call("begin_call", name=talk.tool, arguments=arguments))["id"]

    async def _go_on(self, talk: _Transaction) -> None:
        """Send the request unless it is sent, and wait briefly for the response or for progress."""
        try:
            if not talk.begun:
                await self._begin(talk)
            state = await self._call("wait_call", id=talk.number, seconds=_WAIT_SECONDS, seen=talk.progress)
        except OSError as error:
            why = error.strerror or str(error)
            name = errno.errorcode.get(error.errno or 0, "EIO")
            talk.over = True
            self._answer(talk, {"ok": False, "fault": why, "errno": name, "text": ""})
            return
        if state["result"] is not None:
            talk.over = True
            self._answer(talk, _answer(state["result"]))
        elif talk.wants_progress and state["progress"] > talk.progress:
            self._tell(talk, {"progress": state["progress"], "message": state["message"]})
        talk.progress = max(talk.progress, state["progress"])

    async def _end(self, talk: _Transaction) -> None:
        if talk.hears and talk.begun and not talk.over:
            await self._call("cancel_call", id=talk.number)
        elif not talk.hears and not talk.begun and talk.asked:
            await self._begin(talk)

    def _answer(self, talk: _Transaction, said: dict[str, Any]) -> None:
        if talk.plain:
            talk.told += plain(said)
        else:
            self._tell(talk, said)

    @staticmethod
    def _tell(talk: _Transaction, said: dict[str, Any]) -> None:
        talk.told += json.dumps(said, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def plain(said: dict[str, Any]) -> bytes:
    """Return a response in a format that needs no JSON parser.

    The first line has `ok`, the errno name or `failed`, and four lengths in bytes. The parts follow: text, stderr,
    fault, and the paths of its files, one a line.
    """
    state = "ok" if said["ok"] else said.get("errno") or "failed"
    texts = (said.get("text", ""), said.get("stderr", ""), said.get("fault", ""), "\n".join(said.get("files", ())))
    parts = [each.encode("utf-8", "surrogateescape") for each in texts]
    return f"{state} {' '.join(str(len(each)) for each in parts)}\n".encode() + b"".join(parts)


def _answer(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result with the names of its files replaced by their paths in the tree."""
    place = f"tools/{result['tool']}/calls/{result['id']}"
    files = {"files": [f"{place}/{name}" for name in result["files"]]} if "files" in result else {}
    return {**result, **files}


def _whole(said: bytearray) -> dict[str, Any] | None:
    """Return the request as an object, None if it is incomplete or not an object."""
    if not said.rstrip().endswith(b"}"):
        return None
    try:
        found = json.loads(said)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
