"""Transaction files: a handle accepts a request by write, and returns the response by read.

A request is a JSON object; it is sent as soon as it is complete. On a handle for writing only, the write fails if the
request is invalid. A handle for reading and writing returns the response, a line of JSON. With
`"$call": {"progress": true}` lines with `progress` precede it. With `{"plain": true}` the response has the format of
`format_plain`. Closing a handle before its response cancels the call.
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

FIRST_TRANSACTION_HANDLE = 1 << 41  # the first handle of transaction files; those of synthetic files are below
_MAX_REQUEST_BYTES = 192 * 1024 * 1024
# A read that the kernel waits for cannot be interrupted, so it ends after this time: readers retry, and signals arrive.
_WAIT_SECONDS = 0.3

Call = Callable[..., Awaitable[Any]]


@dataclass(slots=True)
class _Transaction:
    """One handle: the request, the response, and the state of the call."""

    tool: str
    is_readable: bool
    request: bytearray = field(default_factory=bytearray)
    response: bytearray = field(default_factory=bytearray)
    call_id: str = ""
    is_sent: bool = False
    is_complete: bool = False
    wants_progress: bool = False
    is_plain: bool = False
    progress: float = 0.0
    response_offset: int | None = None  # the file offset of the first byte of the response


class TransactionFiles:
    """The open transaction files of a mount."""

    def __init__(self, call: Call, loop: Loop) -> None:
        self._call = call
        self._loop = loop
        self._transactions: Table[_Transaction] = Table(errno.EBADF)
        self._handles = itertools.count(FIRST_TRANSACTION_HANDLE)

    def open(self, path: Path, *, is_readable: bool) -> int:
        """Open the file `call` of a tool. Return its handle."""
        number = next(self._handles)
        self._transactions[number] = _Transaction("/".join(path.parent.parts[1:]), is_readable)
        return number

    async def write(self, number: int, data: bytes) -> int:
        """Add bytes to the request. Return their count.

        Raise EBUSY after the request is sent, EFBIG if it is too long. On a handle for writing only, also raise the
        error of a tool that refuses it.
        """
        transaction = self._transactions[number]
        if transaction.is_sent:
            raise path_error(errno.EBUSY, transaction.tool, "one question a handle")
        if len(transaction.request) + len(data) > _MAX_REQUEST_BYTES:
            raise path_error(errno.EFBIG, transaction.tool)
        transaction.request += data
        if not transaction.is_readable and _parse_request(transaction.request) is not None:
            try:
                await self._loop.call(self._send_request, transaction)
            except OSError:  # C libraries write a refused buffer again when the file is closed
                transaction.request.clear()
                transaction.is_sent = False
                raise
        return len(data)

    async def read(self, number: int, offset: int, size: int) -> bytes:
        """Return the next bytes of the response.

        Raise EINTR if there are none yet, on which readers retry; EINVAL without a request; EBADF on a handle for
        writing only.
        """
        transaction = self._transactions[number]
        if not transaction.is_readable:
            raise path_error(errno.EBADF, transaction.tool)
        if not transaction.request:
            raise path_error(errno.EINVAL, transaction.tool, "write the arguments first")
        if transaction.response_offset is None:
            transaction.response_offset = len(transaction.request) if offset >= len(transaction.request) else 0
        start = max(0, offset - transaction.response_offset)
        if start >= len(transaction.response) and not transaction.is_complete:
            await self._loop.call(self._await_response, transaction)
            if start >= len(transaction.response):
                raise path_error(errno.EINTR, transaction.tool)
        return bytes(transaction.response[start : start + size])

    async def release(self, number: int) -> None:
        """Close a handle.

        A call without a response yet is cancelled. On a handle for writing only, an unsent request is sent.
        """
        transaction = self._transactions.take(number)
        try:
            await self._loop.call(self._finish, transaction)
        except OSError as error:  # the caller has gone: only the log can report it
            log.warning(
                "the request that was written to 'tools/%s/call' was refused: %s", transaction.tool, error.strerror
            )

    # under trio

    async def _send_request(self, transaction: _Transaction) -> None:
        arguments = _parse_request(transaction.request)
        if arguments is None:
            raise path_error(errno.EINVAL, transaction.tool, "the arguments are no JSON object")
        transaction.is_sent = True
        options = arguments.get("$call")
        if isinstance(options, dict):
            transaction.wants_progress = bool(options.pop("progress", False))
            transaction.is_plain = bool(options.pop("plain", False))
        transaction.call_id = (await self._call("begin_call", name=transaction.tool, arguments=arguments))["id"]

    async def _await_response(self, transaction: _Transaction) -> None:
        """Send the request unless it is sent, and wait briefly for the response or for progress."""
        try:
            if not transaction.is_sent:
                await self._send_request(transaction)
            state = await self._call(
                "wait_call", id=transaction.call_id, seconds=_WAIT_SECONDS, seen=transaction.progress
            )
        except OSError as error:
            fault = error.strerror or str(error)
            name = errno.errorcode.get(error.errno or 0, "EIO")
            transaction.is_complete = True
            self._append_response(transaction, {"ok": False, "fault": fault, "errno": name, "text": ""})
            return
        if state["result"] is not None:
            transaction.is_complete = True
            self._append_response(transaction, _with_file_paths(state["result"]))
        elif transaction.wants_progress and state["progress"] > transaction.progress:
            self._append_line(transaction, {"progress": state["progress"], "message": state["message"]})
        transaction.progress = max(transaction.progress, state["progress"])

    async def _finish(self, transaction: _Transaction) -> None:
        if transaction.is_readable and transaction.is_sent and not transaction.is_complete:
            await self._call("cancel_call", id=transaction.call_id)
        elif not transaction.is_readable and not transaction.is_sent and transaction.request:
            await self._send_request(transaction)

    def _append_response(self, transaction: _Transaction, result: dict[str, Any]) -> None:
        if transaction.is_plain:
            transaction.response += format_plain(result)
        else:
            self._append_line(transaction, result)

    @staticmethod
    def _append_line(transaction: _Transaction, message: dict[str, Any]) -> None:
        transaction.response += json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def format_plain(result: dict[str, Any]) -> bytes:
    """Return a response in a format that needs no JSON parser.

    The first line has `ok`, the errno name or `failed`, and four lengths in bytes. The parts follow: text, stderr,
    fault, and the paths of its files, one a line.
    """
    state = "ok" if result["ok"] else result.get("errno") or "failed"
    texts = (
        result.get("text", ""),
        result.get("stderr", ""),
        result.get("fault", ""),
        "\n".join(result.get("files", ())),
    )
    parts = [part.encode("utf-8", "surrogateescape") for part in texts]
    return f"{state} {' '.join(str(len(part)) for part in parts)}\n".encode() + b"".join(parts)


def _with_file_paths(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result with the names of its files replaced by their paths in the tree."""
    folder = f"tools/{result['tool']}/calls/{result['id']}"
    files = {"files": [f"{folder}/{name}" for name in result["files"]]} if "files" in result else {}
    return {**result, **files}


def _parse_request(text: bytearray) -> dict[str, Any] | None:
    """Return the request as an object, None if it is incomplete or not an object."""
    if not text.rstrip().endswith(b"}"):
        return None
    try:
        request = json.loads(text)
    except ValueError:
        return None
    return request if isinstance(request, dict) else None
