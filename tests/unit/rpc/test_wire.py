import errno
import socket
from pathlib import Path as HostPath

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ctxfs.model.change import MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.entry import Entry
from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path
from ctxfs.rpc.async_client import AsyncClient
from ctxfs.rpc.frames import (
    MAX_FRAME_BYTES,
    FrameReader,
    WireError,
    error_from_wire,
    error_to_wire,
    pack_frame,
    unknown_method,
)
from ctxfs.rpc.wire import change_from_wire, change_to_wire, entry_from_wire, entry_to_wire


@given(
    st.lists(st.one_of(st.integers(-(2**60), 2**60), st.binary(max_size=50), st.text(max_size=20)), max_size=5),
    st.integers(1, 7),
)
def test_messages_arrive_whole_for_any_split_of_the_stream(values: list[object], step: int) -> None:
    stream = pack_frame(values) + pack_frame([1])
    reader, got = FrameReader(), []
    for start in range(0, len(stream), step):
        got.extend(reader.feed(stream[start : start + step]))
    assert got == [values, [1]]


def test_a_name_that_is_not_utf8_crosses_the_wire() -> None:
    entry = Entry(b"caf\xe9".decode("utf-8", "surrogateescape"), "file", size=3)
    (got,) = FrameReader().feed(pack_frame(entry_to_wire(entry)))
    assert entry_from_wire(got) == entry


@pytest.mark.parametrize(
    "change",
    [
        Put(Path.parse("a/b"), b"\0\xff"), MakeDir(Path.parse("a")), Remove(Path.parse("a")),
        Move(Path.parse("a"), Path.parse("b/c")), SetMeta(Path.parse("a"), "user.x", None),
    ],
)  # fmt: skip
def test_every_change_crosses_the_wire(change: Put) -> None:
    assert change_from_wire(change_to_wire(change)) == change


def test_errors_keep_their_errno_path_and_remedy() -> None:
    error = error_from_wire(error_to_wire(OSError(errno.ENOENT, "gone", "a/b")))
    assert isinstance(error, FileNotFoundError)
    assert (error.filename, error.strerror) == ("a/b", "gone")
    command = error_from_wire(error_to_wire(CommandError("no", "do this", 5)))
    assert isinstance(command, CommandError)
    assert (command.message, command.remedy, command.code) == ("no", "do this", 5)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", (5).to_bytes(4, "big") + b"\xc1abcd", (MAX_FRAME_BYTES + 1).to_bytes(4, "big")]
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        list(FrameReader().feed(data))


@pytest.mark.parametrize("value", [[], ["put"], ["explode", "a"], [1, 2], ["move", "a"]])
def test_a_malformed_change_is_refused(value: list[object]) -> None:
    with pytest.raises(WireError):
        change_from_wire(value)


def test_unknown_message_of_the_daemon_ends_no_connection(tmp_path: HostPath) -> None:
    heard: list[object] = []

    def pushed(topic: str, value: object) -> None:
        heard.append(value)
        if topic == "strange":
            raise ValueError(value)

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(pack_frame([0, "strange", 1]) + pack_frame([0, "known", 2]))
        ((number, method, _),) = FrameReader().feed(await stream.receive_some())
        await stream.send_all(pack_frame([number, None, f"{method} answered"]))

    async def talk() -> object:
        client = AsyncClient(pushed)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(tmp_path / "socket"))
            listening.listen()
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
            await client.connect(tmp_path)
            async with trio.open_nursery() as nursery, await listener.accept() as stream:
                nursery.start_soon(client.run)
                nursery.start_soon(serve, stream)
                answer = await client.call("status")
                await client.close()
        return answer

    assert trio.run(talk) == "status answered"
    assert heard == [1, 2]


@pytest.mark.parametrize("message", ["internal error: no method 'nearest'", None])
def test_method_that_another_version_lacks_is_a_sentence_with_the_remedy(message: str | None) -> None:
    old = {"errno": 5, "message": message, "path": ""}
    error = error_from_wire(old if message else error_to_wire(unknown_method("nearest")))
    assert isinstance(error, CommandError)
    assert error.message == "the daemon has no method 'nearest'"
    assert "another version of ctxfs" in error.remedy
    assert "ctxfs unmount --all" in error.remedy
