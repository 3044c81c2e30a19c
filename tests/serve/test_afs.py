"""Test the interface of AFS: shapes, modes of writing, rights, actions, hostile requests."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live import Live, eventually
from tests.serve.server import Answer, Server, issue_token, serving

BINARY = bytes(range(256))


class Client:
    """A client of `/rpc`, with a token."""

    def __init__(self, server: Server, token: str) -> None:
        self.server = server
        self.token = token

    def send(self, body: object) -> Answer:
        return self.server.send("POST", "/rpc", self.token, json.dumps(body).encode())

    def call(self, method: str, /, **params: Any) -> Any:
        """Return the data of a call, which must succeed."""
        answer = self.send({"method": method, "params": params})
        assert answer.json["success"] is True, answer.body
        return answer.json["data"]

    def fail(self, method: str, /, **params: Any) -> Any:
        """Return the error of a call, which must fail as an operation."""
        answer = self.send({"method": method, "params": params})
        assert (answer.status, answer.json["success"]) == (200, False), answer.body
        return answer.json["error"]

    def write(self, path: str, content: object, mode: str = "replace") -> Any:
        return self.call("write", path=path, content={"content": content}, options={"mode": mode})

    def content(self, path: str) -> Any:
        return self.call("read", path=path)["data"]["content"]


@pytest.fixture(scope="module")
def rooted(live: Live, alice: str) -> Iterator[Client]:
    with serving(live, "--afs-root", "pad/afs", "--afs-block", "archive") as server:
        client = Client(server, alice)
        client.write("/start.md", "start")
        yield client


def test_the_root_is_the_tree_or_a_directory_of_it(server: Server, rooted: Client, alice: str) -> None:
    whole = Client(server, alice)
    names = [entry["path"] for entry in whole.call("list", path="/")["data"]]
    assert {"/memory", "/knowledge", "/pad"} <= set(names)
    assert whole.content("/pad/afs/start.md") == "start"
    assert rooted.call("list", path="/")["data"][0]["path"] == "/start.md"
    for path in ("/../secret", "/a/../../..", "..", "/x\0y", "/" + "n" * 300):
        for method in ("read", "list", "stat", "delete", "explain"):
            error = rooted.fail(method, path=path)
            assert len(error["message"]) > 10, error
        assert rooted.fail("write", path=path, content={"content": "x"})["code"] == 5


def test_both_forms_of_a_request_are_understood(rooted: Client) -> None:
    by_position = rooted.send({"method": "read", "args": ["/start.md"]}).json
    assert by_position["data"] == rooted.call("read", path="/start.md")
    for body in (
        [],
        {},
        {"method": 7},
        {"method": "constructor", "params": {}},
        {"method": "read"},
        {"method": "read", "args": {}},
        {"method": "read", "args": ["/", {}, {}]},
        {"method": "read", "params": []},
        {"method": "read", "params": {"path": "/", "options": 7}},
    ):
        answer = rooted.send(body)
        assert (answer.status, answer.json["success"]) == (400, False), body
        assert answer.json["error"]["code"] == 5


def test_a_request_without_a_token_has_the_code_of_the_interface(rooted: Client) -> None:
    answer = rooted.server.send("POST", "/rpc", "", b"{}")
    assert (answer.status, answer.json["error"]["code"]) == (401, 6)


def test_the_policy_is_that_of_the_principal(server: Server, alice: str, bob: str) -> None:
    Client(server, alice).write("/memory/alice/fact/moth.md", "The moth is ochre.")
    stranger = Client(server, bob)
    for method in ("read", "stat", "explain", "list", "delete"):
        assert stranger.fail(method, path="/memory/alice/fact/moth.md")["code"] in (1, 2), method
    assert stranger.fail("write", path="/memory/alice/fact/moth.md", content={"content": ""})["code"] in (1, 2)
    assert stranger.call("search", path="/", query="ochre")["data"] == []
    ranked = stranger.call("search", path="/", query="the ochre moth", options={"mode": "ranked"})["data"]
    assert not [hit for hit in ranked if "moth" in hit["path"]]
    assert stranger.fail("write", path="/knowledge/handbook/new.md", content={"content": "x"})["code"] == 2


def test_entries_have_metadata_and_pages(rooted: Client) -> None:
    for number in range(5):
        rooted.write(f"/list/{number}.md", str(number))
    rooted.write("/list/deep/er/x.md", "x")
    page = rooted.call("list", path="/list", options={"offset": 1, "limit": 2})
    assert (len(page["data"]), page["total"]) == (2, 6)
    deep = rooted.call("list", path="/list", options={"maxDepth": 3})
    assert "/list/deep/er/x.md" in [entry["path"] for entry in deep["data"]]
    assert rooted.call("list", path="/list/0.md") == {"data": [], "total": 0}
    for options in ({"limit": -1}, {"limit": "2"}, {"offset": 1.5}, {"maxDepth": True}):
        assert rooted.fail("list", path="/list", options=options)["code"] == 5
    eventually(
        "it has a version", lambda: "author" in rooted.call("stat", path="/list/0.md")["data"]["meta"]["attributes"]
    )
    entry = rooted.call("stat", path="/list/0.md")["data"]
    assert entry["meta"]["kind"] == "file"
    assert entry["meta"]["attributes"]["author"] == "agent:alice"
    assert "content" not in entry
    assert rooted.call("read", path="/list")["data"]["meta"]["kind"] == "directory"


def test_a_range_of_lines_is_read(rooted: Client) -> None:
    rooted.write("/lines.md", "one\ntwo\nthree\nfour\n")
    for options, text in (
        ({"startLine": 2, "endLine": 3}, "two\nthree\n"),
        ({"startLine": 4}, "four\n"),
        ({"endLine": 1}, "one\n"),
        ({"startLine": 9}, "four\n"),
        ({"startLine": 3, "endLine": 2}, ""),
    ):
        assert rooted.call("read", path="/lines.md", options=options)["data"]["content"] == text


def test_bytes_come_as_base64(rooted: Client, live: Live) -> None:
    (live.store / "tree" / "pad" / "afs" / "bytes.bin").write_bytes(BINARY)
    entry = rooted.call("read", path="/bytes.bin")["data"]
    assert entry["meta"]["encoding"] == "base64"
    assert base64.b64decode(entry["content"]) == BINARY


def test_modes_of_writing(rooted: Client) -> None:
    rooted.write("/modes.md", "b", "create")
    assert rooted.fail("write", path="/modes.md", content={"content": "x"}, options={"mode": "create"})["code"] == 3
    rooted.write("/modes.md", "c", "append")
    rooted.write("/modes.md", "a", "prepend")
    assert rooted.content("/modes.md") == "abc"
    patches = [
        {"op": "str_replace", "target": "b", "content": "B"},
        {"op": "insert_before", "target": "B", "content": "<"},
        {"op": "insert_after", "target": "B", "content": ">"},
        {"op": "delete", "target": "c"},
    ]
    rooted.call("write", path="/modes.md", content={"patches": patches}, options={"mode": "patch"})
    assert rooted.content("/modes.md") == "a<B>"
    for patch in (
        {"op": "str_replace", "target": "zzz", "content": ""},
        {"op": "run", "target": "a"},
        {"op": "delete"},
        7,
    ):
        assert rooted.fail("write", path="/modes.md", content={"patches": [patch]}, options={"mode": "patch"})
    assert rooted.content("/modes.md") == "a<B>"
    rooted.write("/modes.md", "new", "update")
    rooted.write("/value.json", {"a": [1, 2]})
    assert json.loads(rooted.content("/value.json")) == {"a": [1, 2]}
    assert rooted.fail("write", path="/none.md", content={"content": "x"}, options={"mode": "update"})["code"] == 1
    for content, mode in (
        ("text", "replace"),
        ({}, "replace"),
        ({"content": "x"}, "other"),
        ({"content": "x"}, ["append"]),
    ):
        assert rooted.fail("write", path="/modes.md", content=content, options={"mode": mode})["code"] == 5
    assert rooted.fail("write", path="/half.md", content={"content": "\ud800"})["code"] == 5


def test_simultaneous_appends_are_all_kept(rooted: Client) -> None:
    rooted.write("/log.md", "")
    answers: list[Answer] = []

    def append(number: int) -> None:
        body = {"path": "/log.md", "content": {"content": f"{number}\n"}, "options": {"mode": "append"}}
        answers.append(rooted.send({"method": "write", "params": body}))

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    succeeded = sum(answer.json["success"] for answer in answers)
    assert len(rooted.content("/log.md").splitlines()) == succeeded
    assert succeeded == 4


def test_renames_and_deletions(rooted: Client) -> None:
    for name in ("a", "b", "dir/c"):
        rooted.write(f"/move/{name}.md", name)
    assert rooted.fail("rename", path="/move/a.md", newPath="/move/b.md")["code"] == 3
    rooted.call("rename", oldPath="/move/a.md", newPath="/move/b.md", options={"overwrite": True})
    rooted.call("rename", path="/move/b.md", newPath="/move/new/place.md")
    assert rooted.content("/move/new/place.md") == "a"
    assert rooted.fail("rename", path="/move/none.md", newPath="/move/x.md")["code"] == 1
    assert rooted.fail("delete", path="/move")["code"] == 3
    assert rooted.fail("delete", path="/", options={"recursive": True})["code"] == 2
    rooted.call("delete", path="/move", options={"recursive": True})
    assert rooted.fail("stat", path="/move")["code"] == 1


def test_search_finds_texts_and_answers_questions(rooted: Client, server: Server, alice: str) -> None:
    rooted.write("/find/one.md", "first line\nThe Capybara swims.\n")
    [hit] = rooted.call("search", path="/find", query="capybara")["data"]
    assert (hit["path"], hit["meta"]["line"], hit["summary"]) == ("/find/one.md", 2, "The Capybara swims.")
    assert rooted.call("search", path="/find", query="capybara", options={"caseSensitive": True})["data"] == []
    ranked = Client(server, alice).call(
        "search", path="/knowledge", query="rotate the signing keys", options={"mode": "ranked", "limit": 3}
    )
    assert ranked["data"][0]["path"].endswith("rotation.md")
    assert rooted.fail("search", path="/find", query="")["code"] == 5


def test_explain_names_entries_and_attributes(rooted: Client) -> None:
    rooted.write("/about/`odd`\n# name.md", "x")
    page = rooted.call("explain", path="/about")
    assert page["format"] == "markdown"
    assert "\n# name" not in page["content"], "a name is no heading"
    assert "sha256" in rooted.call("explain", path="/start.md")["content"]
    assert rooted.fail("explain", path="/none")["code"] == 1


def test_actions_and_tools_are_executed(rooted: Client, server: Server, alice: str) -> None:
    done = rooted.call("exec", path="/.actions/checksum", args={"path": "start.md"})
    assert done["data"]["checksum"] == hashlib.sha256(b"start").hexdigest()
    assert rooted.fail("exec", path="/.actions/checksum", args={"path": "../../x"})["code"] == 5
    assert "blocked" in rooted.fail("exec", path="/.actions/archive", args={})["message"]
    assert rooted.fail("exec", path="/.actions/none", args={})["code"] == 1
    assert rooted.fail("exec", path="/start.md", args={})["code"] == 1
    tools = [entry["path"] for entry in Client(server, alice).call("list", path="/tools")["data"]]
    assert tools
    assert Client(server, alice).fail("exec", path="/tools/none", args={})["code"] == 1


def test_the_safe_policy_refuses_actions_and_tools(live: Live) -> None:
    token = issue_token(live, "agent:alice")
    with serving(live, "--afs-actions", "safe") as server:
        client = Client(server, token)
        for path in ("/pad/.actions/checksum", "/tools/anything", "/tools/anything/run"):
            error = client.fail("exec", path=path, args={})
            assert error["code"] == 2
            assert "severity" in error["message"]
