"""Passing of descriptors to the daemon, over a separate socket, `<store>/run/descriptors`.

Each connection has one message. A message is a JSON object of at most 8 KB with one descriptor (SCM_RIGHTS). Only
processes of the daemon's user or of root are accepted.
"""

import contextlib
import json
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path as HostPath
from typing import Any

import trio

from ctxfs.rpc.address import listen_privately, socket_path

log = logging.getLogger(__name__)

_NAME = "descriptors"
_MAX_MESSAGE_BYTES = 8192
_MESSAGE_SECONDS = 5.0
_BACKLOG = 64
_CREDENTIALS = struct.Struct("3i")

# (message, pid of the sender, descriptor), of which the callee owns the descriptor
Receive = Callable[[Mapping[str, Any], int, int], None]


def send_descriptor(run: HostPath, message: Mapping[str, object], descriptor: int) -> bool:
    """Send the daemon a copy of a descriptor. Return False if there is no daemon."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as stream:
        stream.settimeout(_MESSAGE_SECONDS)
        try:
            with socket_path(run, _NAME) as path:
                stream.connect(path)
            socket.send_fds(stream, [json.dumps(message).encode()], [descriptor])
        except OSError:
            return False
    return True


class FdSocket:
    """The daemon's side of the socket; `receive` is called for each message."""

    def __init__(self, run: HostPath, receive: Receive) -> None:
        self._run = run
        self._receive = receive

    def listen(self) -> trio.socket.SocketType:
        """Bind the socket. The caller must hold the store's lock."""
        return trio.socket.from_stdlib_socket(listen_privately(self._run, _NAME, _BACKLOG))

    async def serve(self, listener: trio.socket.SocketType) -> None:
        """Receive messages one after the other, until cancelled."""
        try:
            while True:
                stream, _ = await listener.accept()
                with stream, trio.move_on_after(_MESSAGE_SECONDS):
                    await self._receive_message(stream)
        finally:
            (self._run / _NAME).unlink(missing_ok=True)

    async def _receive_message(self, stream: trio.socket.SocketType) -> None:
        credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid not in (os.geteuid(), 0):
            return
        flags, ancillary_size = socket.MSG_CMSG_CLOEXEC, socket.CMSG_LEN(4)
        data, ancillary, _, _ = await stream.recvmsg(_MAX_MESSAGE_BYTES, ancillary_size, flags)
        descriptors = [
            int.from_bytes(part[:4], sys.byteorder, signed=True)
            for level, kind, part in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        ]
        message: object = None
        with contextlib.suppress(ValueError):
            message = json.loads(data)
        if not isinstance(message, dict) or len(descriptors) != 1:
            log.warning("a message without exactly one descriptor was discarded")
            for descriptor in descriptors:
                os.close(descriptor)
            return
        self._receive(message, pid, descriptors[0])
