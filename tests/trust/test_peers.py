"""Test that the daemon survives every way in which a peer leaves its socket."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ctxfs.rpc.frames import pack_frame
from ctxfs.rpc.server import Peer, Server


def test_push_to_peer_that_has_just_left_is_dropped() -> None:
    async def run() -> None:
        mine, other = trio.socket.socketpair()
        peer = Peer(trio.SocketStream(mine))
        other.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        peer.push("changed", [])  # the task that reads the queue has ended
        mine.close()

    trio.run(run)


def test_failure_in_one_connection_leaves_the_others_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def echo(peer: Peer, arguments: Mapping[str, Any]) -> Any:
        return arguments["value"]

    def leave(peer: Peer) -> None:
        raise RuntimeError("the table of peers is damaged")

    async def ask() -> bytes:
        async with await trio.open_unix_socket(str(tmp_path / "socket")) as stream:
            await stream.send_all(pack_frame([7, "echo", {"value": "well"}]))
            return await stream.receive_some()

    async def run() -> None:
        server = Server(tmp_path, {"echo": echo}, leave)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, server.listen())
            with trio.fail_after(10):
                assert await ask() == pack_frame([7, None, "well"])
                while server.peers:
                    await trio.lowlevel.checkpoint()
                assert await ask() == pack_frame([7, None, "well"])
            nursery.cancel_scope.cancel()

    trio.run(run)
    assert "the end of a connection could not be handled" in caplog.text


def test_many_watchers_that_leave_while_files_change_end_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        watchers: set[Peer] = set()

        async def watch(peer: Peer, arguments: Mapping[str, Any]) -> Any:
            watchers.add(peer)
            return None

        async def change() -> None:
            while True:
                for peer in list(watchers):
                    peer.push("changed", ["x" * 1000] * 100)
                await trio.lowlevel.checkpoint()

        server = Server(tmp_path, {"watch": watch}, watchers.discard)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, server.listen())
            nursery.start_soon(change)
            for _ in range(34):
                stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                await trio.to_thread.run_sync(stream.connect, str(tmp_path / "socket"))
                stream.sendall(pack_frame([1, "watch", {}]))
                await trio.lowlevel.checkpoint()
                stream.close()
            with trio.fail_after(10):
                while server.peers:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    trio.run(run)
