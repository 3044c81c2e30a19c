"""Test the access over HTTP: tokens, hosts, bodies and paths from hostile clients."""

import http.client
import json
import os
import signal
import socket

import pytest

from tests.live import BOUND, Live, eventually
from tests.serve.server import Server, issue_token, serving

METHODS = ("stat", "list", "read", "search", "apply", "log", "whoami", "issue_token", "forget", "call_tool")
FORGED = "ctx_00000000_" + "A" * 43


@pytest.mark.parametrize("token", ["", FORGED, "forged", "Bearer", "\x7f"])
def test_without_a_valid_token_each_route_is_refused(server: Server, token: str) -> None:
    for name in METHODS:
        answer = server.call(name, token, path="AGENTS.md")
        assert answer.status in (401, 429), (name, answer.body)
        assert "token" in json.dumps(answer.json)
    for method in ("GET", "PUT", "DELETE"):
        assert server.send(method, "/files/AGENTS.md", token).status in (401, 429)


def test_the_description_needs_no_token_and_has_nothing_of_the_store(server: Server) -> None:
    answer = server.send("GET", "/openapi.json", "")
    assert answer.status == 200
    assert answer.json["paths"]["/api/search"]["post"]["operationId"] == "search"
    assert b"handbook" not in answer.body


def test_the_token_determines_the_principal(server: Server, alice: str, bob: str) -> None:
    assert server.result("whoami", alice)["principal"] == "agent:alice"
    assert server.result("whoami", bob)["principal"] == "agent:bob"
    key = server.send("POST", "/api/whoami", "", b"{}", {"X-Api-Key": alice})
    assert key.json["result"]["principal"] == "agent:alice"


def test_the_policy_is_that_of_the_principal(server: Server, alice: str, bob: str, live: Live) -> None:
    (live.store / "tree" / "memory" / "alice" / "fact").mkdir(parents=True, exist_ok=True)
    written = server.send("PUT", "/files/memory/alice/fact/lamp.md", alice, b"The lamp is violet.\n")
    assert written.status == 200, written.body
    assert server.result("read", alice, path="memory/alice/fact/lamp.md") == "The lamp is violet.\n"
    for answer in (
        server.call("read", bob, path="memory/alice/fact/lamp.md"),
        server.call("stat", bob, path="memory/alice/fact/lamp.md"),
        server.send("GET", "/files/memory/alice/fact/lamp.md", bob),
        server.send("PUT", "/files/memory/alice/fact/lamp.md", bob, b"green"),
        server.send("DELETE", "/files/memory/alice/fact/lamp.md", bob),
    ):
        assert answer.status in (403, 404)
        assert b"violet" not in answer.body
    for token, is_visible in ((alice, True), (bob, False)):
        hits = server.result("search", token, question="violet lamp")["hits"]
        assert any("violet" in hit["text"] for hit in hits) is is_visible
    for name, arguments in {
        "issue_token": {"principal": "agent:alice"},
        "forget": {"path": "memory"},
        "status": {},
        "audit": {},
        "add_remote": {"name": "x", "url": "/tmp/x"},
    }.items():
        assert server.call(name, alice, **arguments).status in (400, 403), name


def test_connections_and_mounts_are_not_served(server: Server, alice: str) -> None:
    for name in ("join", "mount", "unmount", "add", "stop", "watch", "mounted", "add_server", "reindex"):
        assert server.call(name, alice, principal="human:root").status == 404, name
    assert server.result("whoami", alice)["principal"] == "agent:alice"


def test_a_client_names_no_command_of_this_machine(server: Server, alice: str) -> None:
    answer = server.call("consolidate", alice, path="memory/alice", command="touch /tmp/owned")
    assert (answer.status, answer.error["path"]) == (400, "command")


def test_a_revoked_token_is_refused_soon(server: Server, live: Live) -> None:
    token = issue_token(live, "agent:carol")
    assert server.call("whoami", token).status == 200
    live.run("token", "revoke", "agent:carol")
    eventually("the token is refused", lambda: server.call("whoami", token).status in (401, 429))


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}", ""])
def test_another_host_name_is_refused(server: Server, alice: str, host: str) -> None:
    headers = {"Host": host.format(port=server.port)}
    assert server.send("POST", "/api/whoami", alice, b"{}", headers).status in (400, 421)
    assert server.send("GET", "/openapi.json", "", headers=headers).status in (400, 421)


PATHS = {
    "../etc/passwd": "..",
    "a/../../b": "..",
    "a\0b": "NUL",
    "x" * 300: "long",
    "pad/" + "é" * 150: "long",
}


@pytest.mark.parametrize(("path", "word"), PATHS.items(), ids=range(len(PATHS)))
def test_bad_paths_are_refused_with_a_sentence(server: Server, alice: str, path: str, word: str) -> None:
    from urllib.parse import quote

    change = ["put", path, "x", {}, ""]
    for answer in (
        server.call("read", alice, path=path),
        server.call("stat", alice, path=path),
        server.call("apply", alice, change=change),
        server.send("GET", f"/files/{quote(path, safe='')}", alice),
        server.send("PUT", f"/files/{quote(path, safe='/')}", alice, b"x"),
    ):
        assert answer.status == 400, answer.body
        assert word in answer.error["message"], answer.error


BODIES = {
    "no JSON": b"{",
    "a list": b"[]",
    "a number that JSON does not have": b'{"path": NaN}',
    "a number without bound": b'{"limit": ' + b"9" * 10_000 + b', "question": "x"}',
    "a number of 80 bits": b'{"limit": 1208925819614629174706176, "question": "x"}',
    "depth": b'{"path": ' + b"[" * 200_000,
    "half a character": b'{"path": "\\ud800"}',
    "no UTF-8": b'{"path": "\xff\xfe"}',
    "another type": b'{"path": 7}',
    "an unknown argument": b'{"path": "pad", "mode": "w"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bad_bodies_are_refused_and_the_server_lives(server: Server, alice: str, body: bytes) -> None:
    for name in ("read", "search", "apply", "record"):
        answer = server.send("POST", f"/api/{name}", alice, body)
        assert answer.status == 400, (name, answer.body)
        assert answer.error["message"]
    assert server.call("whoami", alice).status == 200


def test_a_body_of_100_mb_is_refused_before_it_is_read(server: Server, alice: str) -> None:
    for headers in ({"Content-Length": str(100 * 2**20)}, {"Content-Length": "9" * 30}):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=BOUND)
        connection.putrequest("POST", "/api/apply", skip_accept_encoding=True)
        for name, value in {"Authorization": f"Bearer {alice}", **headers}.items():
            connection.putheader(name, value)
        connection.endheaders(b"{")
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert response.status in (400, 413), body
    assert server.call("whoami", alice).status == 200


def test_an_endless_body_is_refused_at_the_limit(server: Server, alice: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), BOUND) as client:
        head = f"PUT /files/pad/endless HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {alice}\r\n"
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk, sent = b"10000\r\n" + b"x" * 65536 + b"\r\n", 0
        try:
            while sent < 100 * 2**20:
                client.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        assert sent < 100 * 2**20
    assert server.call("stat", alice, path="pad/endless").status == 404


def test_a_body_without_a_token_is_not_read(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), BOUND) as client:
        head = f"PUT /files/pad/x HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 1000000\r\n\r\n"
        client.sendall(head.encode())
        assert b" 401 " in client.recv(100)


def test_guesses_of_tokens_are_limited(live: Live) -> None:
    with serving(live) as server:
        statuses = [server.call("whoami", f"ctx_00000000_{number:043d}").status for number in range(40)]
        assert statuses[0] == 401
        assert statuses[-1] == 429


def test_an_unusable_address_is_an_error_with_a_remedy(live: Live, server: Server) -> None:
    for address in ("nowhere", "127.0.0.1:99999", "127.0.0.1:x", f"127.0.0.1:{server.port}"):
        done = live.try_run("serve", "--http", address)
        assert done.returncode in (2, 5), address
        assert "→" in done.stderr


def test_the_server_survives_the_end_of_the_daemon(own_live: Live) -> None:
    token = issue_token(own_live, "agent:alice")
    with serving(own_live) as server:
        assert server.call("whoami", token).status == 200
        own_live.run("unmount", "--all")
        os.kill(own_live.daemon_pid(), signal.SIGKILL)
        eventually("the daemon is away", lambda: server.call("whoami", token).status == 503)
        own_live.run("mount", str(own_live.at))
        eventually("the new daemon answers", lambda: server.call("whoami", token).status == 200)
