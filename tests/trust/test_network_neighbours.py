"""Test limits for network clients, with or without a token, and bytes that are no HTTP."""

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import trio
import trio.testing

from ctxfs.http.limits import HttpLimits, Limits, Message, Receive, Send
from tests.live import Live, eventually
from tests.mcp_server.test_clients import HELLO, PLAIN, Http, free_port, request

TOKEN = "ctx_{:08x}_" + "A" * 43
FUZZ_SECONDS = float(os.environ.get("CTXFS_FUZZ_SECONDS", "2"))


class Application:
    """An application with the responses of the MCP server.

    It returns 401 for an invalid token, and a new session for a request without one.
    """

    def __init__(self, good: str = "") -> None:
        self.good = good
        self.asked = 0
        self.sessions: list[str] = []
        self.hold = trio.Event()
        self.hold.set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.asked += 1
        headers = dict(scope["headers"])
        while (message := await receive())["type"] == "http.request" and message.get("more_body"):
            pass
        await self.hold.wait()
        status, answered = 200, []
        if headers.get(b"authorization") != f"Bearer {self.good}".encode():
            status = 401
        elif scope["method"] == "DELETE":
            self.sessions.remove(headers[b"mcp-session-id"].decode())
        elif b"mcp-session-id" not in headers:
            self.sessions.append(f"s{self.asked}")
            answered = [(b"mcp-session-id", self.sessions[-1].encode())]
        await send({"type": "http.response.start", "status": status, "headers": answered})
        await send({"type": "http.response.body", "body": b""})


async def ask(
    limits: Limits, token: str, address: str = "10.0.0.1", receive: Receive | None = None, **more: str
) -> int:
    """Return the status of a request."""
    statuses: list[int] = []
    headers = [(b"authorization", f"Bearer {token}".encode())]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]

    async def whole() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "method": "POST", "client": (address, 1), "headers": headers}
    await limits(scope, receive or whole, send)
    (status,) = statuses
    return status


def test_guesses_at_tokens_are_slowed_down_for_their_address_alone() -> None:
    async def main() -> None:
        good = TOKEN.format(0)
        clock = [0.0]
        app = Application(good)
        limits = Limits(app, needs_token=True, now=lambda: clock[0])
        assert await ask(limits, good, "10.0.0.9") == 200
        answers = [await ask(limits, TOKEN.format(number)) for number in range(1, 41)]
        assert answers == [401] * 20 + [429] * 20
        assert app.asked == 21, "refused requests are not verified"
        assert await ask(limits, good) == 200, "a verified client goes on, from the same address too"
        assert await ask(limits, TOKEN.format(99), "10.0.0.2") == 401
        clock[0] += 1.0
        assert [await ask(limits, TOKEN.format(77)) for _ in range(2)] == [401, 429]
        assert await ask(limits, "not-a-token") == 401

    trio.run(main)


def test_number_of_sessions_of_a_token_is_bounded_and_the_longest_idle_one_ends() -> None:
    async def main() -> None:
        app = Application(TOKEN.format(0))
        limits = Limits(app, needs_token=True, limits=HttpLimits(sessions_of_token=3))
        for _ in range(3):
            assert await ask(limits, app.good) == 200
        first, second, third = app.sessions
        assert await ask(limits, app.good, mcp_session_id=first) == 200
        assert await ask(limits, app.good) == 200
        assert app.sessions[:2] == [first, third]
        assert second not in app.sessions
        assert len(app.sessions) == 3

    trio.run(main)


def test_simultaneous_requests_are_bounded_by_token_and_by_address() -> None:
    async def main() -> None:
        app = Application(TOKEN.format(0))
        limits = Limits(app, needs_token=True, limits=HttpLimits(requests_of_token=4, requests_of_address=6))
        app.hold = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask, limits, app.good)
            await trio.testing.wait_all_tasks_blocked()
            assert await ask(limits, app.good) == 429
            for number in (1, 2):
                nursery.start_soon(ask, limits, TOKEN.format(number))
            await trio.testing.wait_all_tasks_blocked()
            assert await ask(limits, TOKEN.format(3)) == 429
            nursery.start_soon(ask, limits, TOKEN.format(3), "10.0.0.2")
            await trio.testing.wait_all_tasks_blocked()
            app.hold.set()
        assert await ask(limits, app.good) == 200, "the slots are released"

    trio.run(main)


def test_missing_body_times_out() -> None:
    async def never() -> Message:
        await trio.sleep_forever()
        raise AssertionError

    async def main() -> None:
        limits = Limits(Application(TOKEN.format(0)), needs_token=True)
        assert await ask(limits, TOKEN.format(0), receive=never) == 408

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    """Yield the HTTP server of a store with a daemon."""
    live = Live(tmp_path_factory.mktemp("net"))
    live.run("init")
    live.run("mount", str(live.at))
    port = free_port()
    made = Http(live, f"127.0.0.1:{port}", f"http://127.0.0.1:{port}/mcp")

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        eventually("it listens", answers, 90)
        yield made
        stderr = made.close()
        assert "Traceback" not in stderr, stderr
        assert live.errors() == []
    finally:
        live.close()


def opened(client: httpx2.Client, http: Http, token: str) -> str:
    """Return the id of a new session.

    After wrong tokens an address has to wait, even with a valid token that it has not used before.
    """
    headers = {**PLAIN, "Authorization": f"Bearer {token}"}
    answers: list[httpx2.Response] = []

    def may_try() -> bool:
        answers.append(client.post(http.url, json=request("initialize", HELLO), headers=headers))
        return int(answers[-1].status_code) != 429

    eventually("the address may try again", may_try)
    assert answers[-1].status_code == 200
    return str(answers[-1].headers["mcp-session-id"])


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_wrong_tokens_leave_nothing_behind(http: Http) -> None:
    server, daemon = http._process.pid, http.live.daemon_pid()
    good = http.token("agent:alice")
    with httpx2.Client(timeout=30) as client:
        opened(client, http, good)
        before = descriptors(server), descriptors(daemon)
        statuses = set()
        for number in range(200):
            wrong = {**PLAIN, "Authorization": f"Bearer {TOKEN.format(number)}"}
            statuses.add(client.post(http.url, json={}, headers=wrong).status_code)
        assert statuses == {401, 429}
        headers = {**PLAIN, "Authorization": f"Bearer {good}"}
        assert client.post(http.url, json=request("initialize", HELLO), headers=headers).status_code == 200

    def as_before() -> bool:
        return descriptors(server) <= before[0] + 1 and descriptors(daemon) <= before[1] + 1

    eventually("connections are closed", as_before)


def test_one_token_does_not_take_every_session(http: Http) -> None:
    many, other = http.token("agent:many"), http.token("agent:other")
    with httpx2.Client(timeout=30) as client:
        sessions = [opened(client, http, many) for _ in range(HttpLimits().sessions_of_token + 5)]
        ping = request("ping", {}, 2)

        def is_open(session: str) -> bool:
            headers = {**PLAIN, "Authorization": f"Bearer {many}", "Mcp-Session-Id": session}
            return int(client.post(http.url, json=ping, headers=headers).status_code) == 200

        assert [is_open(session) for session in sessions] == [False] * 5 + [True] * HttpLimits().sessions_of_token
        assert opened(client, http, other) not in sessions


def mutations(chance: random.Random) -> bytes:
    """Return a request in which parts are wrong, damaged or missing."""
    body = json.dumps(request("initialize", HELLO)).encode()
    lines = [
        b"POST /mcp HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Content-Type: application/json",
        b"Content-Length: " + chance.choice([str(len(body)).encode(), b"-1", b"99999999999", b"x"]),
        b"Transfer-Encoding: " + chance.choice([b"chunked", b"gzip", b"identity"]),
        b"Authorization: Bearer " + chance.choice([b"", b"\xff" * 9, TOKEN.format(1).encode(), b"a" * 9000]),
        b"Upgrade: websocket",
        b"Mcp-Session-Id: " + bytes(chance.randrange(256) for _ in range(8)),
    ]
    chance.shuffle(lines)
    data = b"\r\n".join(lines[: chance.randrange(len(lines))]) + b"\r\n\r\n" + body
    start = chance.choice([b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /mcp HTTP/1.1\r\n", b"\0\0\0\3\x81\x90\1"])
    damaged = bytearray(start + data)
    for _ in range(chance.randrange(6)):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    return bytes(damaged[: chance.randrange(len(damaged))])


def test_bytes_that_are_no_http_end_nothing(http: Http) -> None:
    port = int(http.url.rsplit(":", 1)[1].split("/")[0])
    chance = random.Random(os.environ.get("CTXFS_FUZZ_SEED", "25"))
    good = http.token("agent:fuzz")
    end = time.monotonic() + FUZZ_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as one:
            one.sendall(mutations(chance))
            one.settimeout(0.05)
            one.recv(4096)
    with httpx2.Client(timeout=30) as client:
        assert opened(client, http, good)
