"""Files that answer: what is written to one is a question, and the same handle reads the answer.

A question is a JSON object; it is asked as soon as it is whole. Whoever opened for writing only is told at once what is wrong with it;
whoever reads, too, reads the answer, a line of JSON, and before it lines with `progress` where they asked for them ("$call":
{"progress": true}), or, with {"plain": true}, the answer as `plain` makes it. A handle that is closed before its answer came gives the
call up.
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

SPEAKING = 1 << 41  # handles of conversations are numbered from here
_LONGEST = 192 * 1024 * 1024
# A read that the kernel waits for cannot be interrupted, so it ends now and then: readers try again, and signals get through.
_WAIT_SECONDS = 0.3

Call = Callable[..., Awaitable[Any]]


@dataclass(slots=True)
class _Transaction:
    """One handle: what it has asked, what it is told, and how far it has read that."""

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
    base: int | None = None  # the offset of the first byte of what it is told


class TransactionFiles:
    """The open ones of a mount."""

    def __init__(self, call: Call, loop: Loop) -> None:
        self._call = call
        self._loop = loop
        self._talks: Table[_Transaction] = Table(errno.EBADF)
        self._numbers = itertools.count(SPEAKING)

    def open(self, path: Path, *, hears: bool) -> int:
        """A handle on the `call` of a tool."""
        number = next(self._numbers)
        self._talks[number] = _Transaction("/".join(path.parent.parts[1:]), hears)
        return number

    async def write(self, number: int, data: bytes) -> int:
        """A piece of the question. EINVAL for one that cannot be meant, and what the tool refuses, where nobody reads the answer."""
        talk = self._talks[number]
        if talk.begun:
            raise path_error(errno.EBUSY, talk.tool, "one question a handle")
        if len(talk.asked) + len(data) > _LONGEST:
            raise path_error(errno.EFBIG, talk.tool)
        talk.asked += data
        if not talk.hears and _whole(talk.asked) is not None:
            try:
                await self._loop.call(self._begin, talk)
            except OSError:  # a buffer that could not be written is written again when its file is closed
                talk.asked.clear()
                talk.begun = False
                raise
        return len(data)

    async def read(self, number: int, offset: int, size: int) -> bytes:
        """What comes next of the answer. EINTR: not yet, try again, as every reader does; EINVAL without a question."""
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
        """The handle is closed: what nobody waits for is given up, unless nobody meant to."""
        talk = self._talks.take(number)
        try:
            await self._loop.call(self._end, talk)
        except OSError as error:  # nobody is left to be told but the log
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
        """Ask if nobody has, and wait a little for news."""
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
    """An answer for who would not read JSON: `ok` or the errno, or `failed`, and four lengths in bytes on a line; then as many bytes of
    text, of what it complained of, of why it failed, and of the paths of its files.
    """
    state = "ok" if said["ok"] else said.get("errno") or "failed"
    texts = (said.get("text", ""), said.get("stderr", ""), said.get("fault", ""), "\n".join(said.get("files", ())))
    parts = [each.encode("utf-8", "surrogateescape") for each in texts]
    return f"{state} {' '.join(str(len(each)) for each in parts)}\n".encode() + b"".join(parts)


def _answer(result: dict[str, Any]) -> dict[str, Any]:
    """The result; files that came are named by their paths in the tree."""
    place = f"tools/{result['tool']}/calls/{result['id']}"
    files = {"files": [f"{place}/{name}" for name in result["files"]]} if "files" in result else {}
    return {**result, **files}


def _whole(said: bytearray) -> dict[str, Any] | None:
    """The object that was written; None if it is not one yet."""
    if not said.rstrip().endswith(b"}"):
        return None
    try:
        found = json.loads(said)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
