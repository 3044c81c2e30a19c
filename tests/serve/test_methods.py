"""Test the methods and the files over HTTP: shapes, preconditions, names and contents that are not UTF-8."""

import base64
import os
import threading
from urllib.parse import quote, quote_from_bytes

import pytest

from ctxfs.daemon.api.methods import METHODS
from tests.live import Live, eventually
from tests.serve.server import Answer, Server

BINARY = bytes(range(256))


def test_every_method_is_described_with_its_arguments(server: Server) -> None:
    paths = server.send("GET", "/openapi.json", "").json["paths"]
    assert {f"/api/{name}" for name in METHODS} <= set(paths)
    search = paths["/api/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert search["required"] == ["question"]
    assert search["properties"]["below"]["type"] == "string"
    assert {"type": "integer"} in search["properties"]["limit"]["anyOf"]
    command = paths["/api/consolidate"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "command" not in command["properties"]


def test_a_mistyped_method_has_a_suggestion(server: Server, alice: str) -> None:
    answer = server.call("serach", alice, question="keys")
    assert answer.status == 404
    assert "search" in answer.error["remedy"]


def test_entries_have_names(server: Server, alice: str) -> None:
    entries = server.result("list", alice, path="knowledge/handbook")
    assert {"name": "src", "kind": "dir"}.items() <= next(e for e in entries if e["name"] == "src").items()
    assert server.result("stat", alice, path="knowledge/handbook/rotation.md")["kind"] == "file"


def test_search_and_context_answer(server: Server, alice: str) -> None:
    found = server.result("search", alice, question="rotate the signing keys", below="knowledge")
    assert found["hits"][0]["path"].endswith("rotation.md")
    context = server.result("context", alice, request={"query": ["rotate the signing keys"], "budget": 500})
    assert "ninety days" in context["text"]
    same = server.result("verify_context", alice, manifest=context["manifest"])
    assert same["same"] is True


def test_contents_that_are_not_utf8_are_base64(server: Server, alice: str) -> None:
    encoded = {"base64": base64.b64encode(BINARY).decode()}
    server.result("apply", alice, change=["put", "pad/binary.bin", encoded, {"user.ctx.kind": "note"}, ""])
    assert server.result("read", alice, path="pad/binary.bin") == encoded
    assert server.result("metadata", alice, path="pad/binary.bin")["user.ctx.kind"] == "note"
    assert server.send("GET", "/files/pad/binary.bin", alice).body == BINARY
    for content in (7, {"base64": "%%"}, {"base64": 7}, {"text": "x"}, ["x"]):
        assert server.call("apply", alice, change=["put", "pad/x", content]).status == 400


def test_names_that_are_not_utf8_come_back(server: Server, alice: str) -> None:
    names = [entry["name"] for entry in server.result("list", alice, path="knowledge/handbook")]
    name = next(name for name in names if name.startswith("latin-"))
    assert "quokka" in server.result("read", alice, path=f"knowledge/handbook/{name}")
    encoded = quote_from_bytes(os.fsencode(name))
    assert b"quokka" in server.send("GET", f"/files/knowledge/handbook/{encoded}", alice).body


def test_a_written_file_is_found_and_has_a_version(server: Server, alice: str) -> None:
    text = "The heliotrope is watered on Thursdays.\n"
    answer = server.send("PUT", "/files/pad/garden/deep/plan.md", alice, text.encode())
    assert answer.status == 200, answer.body

    def found() -> bool:
        hits = server.result("search", alice, question="heliotrope")["hits"]
        return any(hit["path"] == "pad/garden/deep/plan.md" for hit in hits)

    eventually("it is found", found)
    versions = server.result("log", alice, path="pad/garden/deep/plan.md")
    assert versions[0]["principal"] == "agent:alice"
    assert versions[0]["tool"] == "http"


def test_of_two_writers_with_one_precondition_the_second_is_refused(server: Server, alice: str) -> None:
    path = "/files/pad/turns.md"
    first = server.send("PUT", path, alice, b"one", {"If-None-Match": "*"})
    assert first.status == 200
    etag = first.headers["etag"]
    assert server.send("PUT", path, alice, b"zero", {"If-None-Match": "*"}).status == 412
    assert server.send("PUT", path, alice, b"two", {"If-Match": etag}).status == 200
    refused = server.send("PUT", path, alice, b"three", {"If-Match": etag})
    assert refused.status == 412
    assert "changed" in refused.error["message"]
    assert server.send("DELETE", path, alice, headers={"If-Match": etag}).status == 412
    assert server.send("GET", path, alice).body == b"two"
    revision = etag.strip('"')
    for change in (
        ["put", "pad/turns.md", "x", {}, revision],
        ["remove", "pad/turns.md", revision],
        ["move", "pad/turns.md", "pad/other.md", revision],
    ):
        assert server.call("apply", alice, change=change).status == 409
    present = server.send("GET", path, alice).headers["etag"]
    assert server.send("GET", path, alice, headers={"If-None-Match": present}).status == 304
    assert server.send("DELETE", path, alice, headers={"If-Match": present}).status == 204
    assert server.send("GET", path, alice).status == 404


def test_of_many_simultaneous_writers_one_succeeds(server: Server, alice: str) -> None:
    path = "/files/pad/race.md"
    etag = server.send("PUT", path, alice, b"base").headers["etag"]
    answers: list[Answer] = []

    def write(number: int) -> None:
        answers.append(server.send("PUT", path, alice, b"%d" % number, {"If-Match": etag}))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200, *[412] * 15]


@pytest.mark.parametrize("tag", ["", "x", "abc", '"abc"', '"' + "g" * 64 + '"', "*", 'W/"' + "a" * 64 + '"'])
def test_a_precondition_that_is_not_understood_writes_nothing(server: Server, alice: str, tag: str) -> None:
    assert server.send("PUT", "/files/pad/guard.md", alice, b"kept").status == 200
    assert server.send("PUT", "/files/pad/guard.md", alice, b"lost", {"If-Match": tag}).status == 400
    assert server.send("PUT", "/files/pad/guard.md", alice, b"lost", {"If-None-Match": '"a"'}).status == 400
    assert server.send("GET", "/files/pad/guard.md", alice).body == b"kept"


def test_directories_are_removed_with_recursive_only(server: Server, alice: str) -> None:
    for name in ("a.md", "b/c.md"):
        assert server.send("PUT", f"/files/pad/folder/{name}", alice, b"x").status == 200
    assert server.send("DELETE", "/files/pad/folder", alice).status == 409
    assert server.send("DELETE", "/files/pad/folder?recursive=true", alice).status == 204
    assert server.call("stat", alice, path="pad/folder").status == 404


def test_unknown_routes_are_errors_in_json(server: Server, alice: str) -> None:
    assert server.send("GET", "/nowhere", alice).error["message"]
    assert server.send("GET", "/api/read", alice).status == 405
    assert server.send("PATCH", "/files/pad/x", alice).status == 405
    assert server.send("GET", f"/files/{quote('knowledge/handbook')}", alice).status == 400


def test_a_large_content_comes_whole(server: Server, alice: str, live: Live) -> None:
    data = os.urandom(8 * 2**20)
    assert server.send("PUT", "/files/pad/large.bin", alice, data).status == 200
    assert server.send("GET", "/files/pad/large.bin", alice).body == data
