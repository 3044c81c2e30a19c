"""Frames on the wire, in msgpack. This module imports few others, so that commands start fast.

A frame is a big-endian u32 length and a msgpack array:

- a request [number, method, {arguments}],
- a response [number, null, value] or [number, {error}, null],
- a push [0, topic, value],
- a cancellation [0, "cancel", number] from a client, for a request that it no longer waits for.

Texts may contain surrogateescape bytes.
"""

from __future__ import annotations

import struct

import msgpack

from ctxfs.model.errors import CommandError

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CANCEL = "cancel"
MAX_FRAME_BYTES = 256 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class WireError(Exception):
    """Raised if the peer violates the protocol."""


def pack_frame(message: object) -> bytes:
    """Return one frame, ready to send. Raise WireError if it is too long."""
    body = msgpack.packb(message, unicode_errors="surrogateescape")
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(f"a message of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return bytes(_LENGTH.pack(len(body)) + body)


class FrameReader:
    """A parser that splits a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> Iterator[Any]:
        """Yield the messages that `data` completes. Raise WireError for a malformed frame."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise WireError(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            try:
                yield msgpack.unpackb(body, unicode_errors="surrogateescape", strict_map_key=False)
            except (ValueError, TypeError, RecursionError) as error:  # TypeError: an unhashable key
                raise WireError(f"not msgpack: {error}") from error


def error_to_wire(error: Exception) -> dict[str, Any]:
    """Return an exception as plain values."""
    if isinstance(error, OSError):
        return {"errno": error.errno or 5, "message": error.strerror or str(error), "path": error.filename or ""}
    if isinstance(error, CommandError):
        return {"message": error.message, "remedy": error.remedy, "code": error.code}
    return {"errno": 5, "message": f"internal error: {error}", "path": ""}


OTHER_VERSION_REMEDY = "it is of another version of ctxfs: end it with ctxfs unmount --all, and try again"
_OLD_UNKNOWN_METHOD = "internal error: no method '"  # of an older daemon
ANSWERED = "the daemon's answer"  # the note of errors that were received over the socket


def unknown_method(name: str) -> CommandError:
    """Return the error for a method that a daemon does not have: the client is of another version."""
    return CommandError(f"the daemon has no method '{name[:80]}'", OTHER_VERSION_REMEDY)


def error_from_wire(value: dict[str, Any]) -> Exception:
    """Return the exception that `error_to_wire` packed."""
    if "errno" in value:
        if value["message"].startswith(_OLD_UNKNOWN_METHOD):
            return unknown_method(value["message"].removeprefix(_OLD_UNKNOWN_METHOD).rstrip("'"))
        error = OSError(value["errno"], value["message"], value["path"])
        error.add_note(ANSWERED)
        return error
    return CommandError(value["message"], value["remedy"], value["code"])
