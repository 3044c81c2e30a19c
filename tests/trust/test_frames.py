"""Test the daemon's socket with arbitrary bytes of a peer: the daemon and its other peers go on."""

import contextlib
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxfs.model.errors import CommandError
from ctxfs.rpc.client import Client
from ctxfs.rpc.frames import FrameReader, WireError, pack_frame
from tests.live import Live, eventually

FUZZ_SECONDS = float(os.environ.get("CTXFS_FUZZ_SECONDS", "2"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = Live(tmp_path_factory.mktemp("frames"))
    live.run("init")
    live.run("mount", str(live.at))
    try:
        yield live
    finally:
        live.close()


def send(live: Live, data: bytes) -> bytes:
    """Return the first bytes of the response, none if the connection ended."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(live.store / "run" / "socket"))
        one.settimeout(0.2)
        try:
            one.sendall(data)
            return one.recv(65536)
        except OSError:
            return b""


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\3\x81\x90\1",  # a map whose key is a list
        frame(b"\x93" * 5000),  # nested deeply
        frame(b""),
        b"\xff\xff\xff\xff",
        frame(msgpack.packb([1, ["list"], {}])),
        frame(msgpack.packb([1, {"a": 1}, {}])),
        frame(msgpack.packb([1.5, "ping", {}])),
        frame(msgpack.packb([True, "ping", {}])),
        frame(msgpack.packb([None, None, None])),
        frame(msgpack.packb([0, "cancel", {"a": 1}])),
        frame(msgpack.packb([0, "cancel", 7])),
        frame(msgpack.packb({"number": 1})),
        frame(b"\xd6\xff\0\0\0\0"),  # a time stamp
        frame(b"\xdc\xff\xff"),
    ],
)
def test_frame_that_is_no_request_ends_its_connection_at_most(served: Live, data: bytes) -> None:
    before = served.daemon_pid()
    send(served, data)
    assert served.status()["mounts"]
    assert served.daemon_pid() == before


def answers(live: Live) -> bool:
    with contextlib.suppress(CommandError):
        return bool(live.status()["mounts"])
    return False


def random_value(chance: random.Random, depth: int = 0) -> Any:
    kinds = ["int", "text", "bytes", "none", "float", "path"] + (["list", "map"] if depth < 3 else [])
    match chance.choice(kinds):
        case "int":
            return chance.choice([0, 1, -1, 2**63, -(2**63), 2**32, chance.randrange(10**6)])
        case "text":
            return "".join(chance.choice("ab/.\0\n\ud800*é") for _ in range(chance.randrange(12)))
        case "bytes":
            return bytes(chance.randrange(256) for _ in range(chance.randrange(12)))
        case "float":
            return chance.choice([0.0, float("nan"), float("inf"), -1e308])
        case "path":
            return chance.choice(["", "memory", "memory/alice/x.md", "../x", "search/a", ".versions", "a" * 5000])
        case "list":
            return [random_value(chance, depth + 1) for _ in range(chance.randrange(4))]
        case "map":
            return {chance.choice(NAMES): random_value(chance, depth + 1) for _ in range(chance.randrange(4))}
    return None


METHODS = [
    "ping",
    "stat",
    "list",
    "read",
    "search",
    "grep",
    "glob",
    "metadata",
    "read_labelled",
    "read_extracted",
    "sessions",
    "session_names",
    "session_records",
    "session_day",
    "write_episodes",
    "import_state",
    "import_messages",
    "log",
    "show",
    "status",
    "join",
    "nothing",
]
NAMES = ["path", "below", "limit", "query", "pattern", "principal", "session", "at", "revision", "x"]


def test_random_requests_are_answered_or_refused(served: Live) -> None:
    """Send requests of read-only methods with arguments of every type; some of the frames are damaged."""
    chance = random.Random(os.environ.get("CTXFS_FUZZ_SEED", "25"))
    pid, end, sent = served.daemon_pid(), time.monotonic() + FUZZ_SECONDS, 0
    while time.monotonic() < end:
        arguments = {chance.choice(NAMES): random_value(chance) for _ in range(chance.randrange(4))}
        body = msgpack.packb([chance.randrange(5), chance.choice(METHODS), arguments], unicode_errors="surrogatepass")
        damaged = bytearray(frame(body) * chance.randrange(1, 4))
        if chance.random() < 0.5:
            for _ in range(chance.randrange(1, 5)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
            one.connect(str(served.store / "run" / "socket"))
            one.sendall(damaged)
            one.shutdown(socket.SHUT_WR)
            one.settimeout(10)
            while one.recv(65536):  # until the daemon closes it
                pass
            sent += 1
    assert sent > 10
    eventually("the daemon answers", lambda: answers(served), 60)
    assert served.daemon_pid() == pid


def test_client_with_endless_requests_does_not_exhaust_memory(served: Live) -> None:
    """The daemon bounds unread responses and drops the client."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(served.store / "run" / "socket"))
        one.settimeout(5)
        request = pack_frame([1, "ping", {}]) * 200

        def dropped() -> bool:
            try:
                one.sendall(request)
            except TimeoutError:
                return False
            except OSError:
                return True
            return False

        eventually("it is dropped", dropped, 60)
    assert served.status()["mounts"]


@given(st.binary(max_size=60))
def test_reader_of_frames_raises_nothing_but_its_own_error(data: bytes) -> None:
    reader = FrameReader()
    with contextlib.suppress(WireError):
        for _ in reader.feed(frame(data)):
            pass


def test_abandoned_request_is_cancelled(served: Live) -> None:
    """Use a method that changes nothing, because only such requests are cancelled."""
    (served.at / "pad" / "frames").mkdir()
    (served.at / "pad" / "frames" / "evil.txt").write_text("a" * 5000 + "!\n")
    eventually("it is found", lambda: served.try_run("grep", "a", "pad/frames").returncode == 0, 60)
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(served.store / "run" / "socket"))
        one.settimeout(20)
        one.sendall(pack_frame([7, "grep", {"pattern": "(a+)+$", "below": "pad/frames"}]))
        one.sendall(pack_frame([0, "cancel", 7]))
        one.sendall(pack_frame([8, "ping", {}]))
        reader = FrameReader()
        numbers: list[int] = []
        while 8 not in numbers:
            numbers += [message[0] for message in reader.feed(one.recv(65536))]
        assert 7 not in numbers
    client = Client(served.store / "run", timeout=20)
    assert client.call("grep", pattern="nowhere", below="pad/frames")["lines"] == []
    client.close()
