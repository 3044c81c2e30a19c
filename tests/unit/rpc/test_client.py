"""Test clients that reach a daemon which dies before it responds."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ctxfs.daemon.session import LocalSession, connect
from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.model.errors import CommandError
from ctxfs.rpc.address import socket_path
from ctxfs.rpc.client import Client, NoDaemon
from ctxfs.store.layout import Layout, create_store


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    create_store(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening, socket_path(tmp_path / "run") as path:
        listening.bind(path)
        listening.listen()
        yield listening


def die_after_request(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    connection.recv(1)
    listening.close()
    connection.close()


def test_killed_daemon_whose_socket_still_accepts_counts_as_no_daemon(listener: socket.socket, tmp_path: Path) -> None:
    threading.Thread(target=die_after_request, args=(listener,)).start()
    with pytest.raises(NoDaemon):
        Client(tmp_path / "run")


def test_command_opens_the_store_itself_if_the_daemon_dies_before_it_responds(
    listener: socket.socket, tmp_path: Path
) -> None:
    threading.Thread(target=die_after_request, args=(listener,)).start()
    session = connect(Layout(tmp_path))
    assert isinstance(session, LocalSession)
    session.close()


def test_mcp_server_opens_the_store_itself_if_the_daemon_dies_before_it_responds(
    listener: socket.socket, tmp_path: Path
) -> None:
    threading.Thread(target=die_after_request, args=(listener,)).start()

    async def read_name() -> str:
        async with trio.open_nursery() as nursery:
            session = TreeSession(Layout(tmp_path), nursery)
            principal = (await session.call("whoami"))["principal"]
            await session.close()
            nursery.cancel_scope.cancel()
        return str(principal)

    assert trio.run(read_name).startswith("human:")


def test_frozen_daemon_is_an_error_and_not_an_absent_daemon(listener: socket.socket, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="stopped answering") as caught:
        Client(tmp_path / "run", timeout=0.05)
    assert not isinstance(caught.value, NoDaemon)
