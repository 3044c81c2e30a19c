"""Private parts of a text are removed, in linear time; sessions of clients have one name each."""

import time

import pytest

from ctxfs.eventlog.client_sessions import (
    CapturedMessages,
    matched_text,
    session_of_client,
)
from ctxfs.eventlog.log import is_session
from ctxfs.eventlog.private_text import strip_private, strip_private_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no tag", "no tag"),
        ("a <b> & \\n < c", "a <b> & \\n < c"),
        ("a<private>x</private>b", "ab"),
        ("a<PRIVATE>x</Private>b", "ab"),
        ("a< private >x</ private >b", "ab"),
        ('a<private reason="mine">x</private>b', "ab"),
        ("a<private>x\n<private>y</private>\nz</private>b", "ab"),
        ("a<private>x", "a"),
        ("a<private>x</private", "a"),
        ("a<private>x<private>y</private>z", "a"),
        ("a</private>b", "ab"),
        ("a<private/>b", "a"),
        ("a<privateer>b</privateer>", "a<privateer>b</privateer>"),
        ("a\\u003cprivate\\u003ex\\u003c/private\\u003eb", "ab"),
        ("a&lt;private&gt;x&lt;/private&gt;b", "ab"),
        ("<private>1</private>a<private>2</private>b", "ab"),
    ],
)
def test_private_parts_are_removed(text: str, expected: str) -> None:
    assert strip_private(text) == expected


def test_private_parts_are_removed_at_any_depth() -> None:
    value = {"text": "a<private>x</private>", "n": 1, "data": [{"y": "<private>z"}, None, ["k<private>"]]}
    assert strip_private_values(value) == {"text": "a", "n": 1, "data": [{"y": ""}, None, ["k"]]}


@pytest.mark.parametrize(
    "unit", ["<", "<private>", "</private>", "< " * 3, "<private ", "<private" + " " * 90, "\\u003cprivate", "&lt;/"]
)
def test_removal_is_linear(unit: str) -> None:
    def seconds(characters: int) -> float:
        text, started = unit * (characters // len(unit)), time.process_time()
        strip_private(text)
        return time.process_time() - started

    # Some kernels count processor time in ticks of ten milliseconds.
    assert min(seconds(800_000) for _ in range(3)) < 12 * max(0.01, min(seconds(100_000) for _ in range(3)))


@pytest.mark.parametrize(
    ("client", "session", "name"),
    [
        ("claude-code", "0f3c-1a", "claude-code-0f3c-1a"),
        ("gemini-cli", "s1", "gemini-s1"),
        ("gemini", "s1", "gemini-s1"),
        ("Gemini-CLI", "s1", "gemini-s1"),
        ("Codex", "a.b_c", "codex-a.b_c"),
    ],
)
def test_session_has_the_client_and_its_id(client: str, session: str, name: str) -> None:
    assert session_of_client(client, session) == name


def test_two_ids_never_share_a_session() -> None:
    ids = ["a b", "a-b", "a/b", "a\nb", "a--b", "", "/", "-", "ä", "x" * 500, "x" * 501, "../..", "\ud800"]
    names = [session_of_client("codex", session) for session in ids]
    assert len(set(names)) == len(ids)
    assert all(map(is_session, names))
    assert all(is_session(session_of_client(client, "s")) for client in ("", "../x", "É" * 99, "--"))


def test_captured_messages_are_taken_once_each() -> None:
    captured = CapturedMessages([("input", "go on"), ("input", "go on\n"), ("tool_call", "")])
    assert captured.take("input", " go  on <private>and hide this</private>")
    assert not captured.take("output", "go on")
    assert not captured.take("tool_call", ""), "a record without a text matches nothing"
    assert captured.take("input", "go on")
    assert not captured.take("input", "go on"), "the client was told three times to go on, and capture recorded two"


def test_calls_of_tools_are_matched_by_their_id() -> None:
    assert matched_text({"kind": "input", "text": "x", "call": "c"}) == "x"
    assert matched_text({"kind": "tool_result", "text": "x", "call": "c"}) == "call c"
    assert matched_text({"kind": "tool_result", "text": "x"}) == ""
    assert matched_text({"kind": "output", "data": {}}) == ""
