"""Test the verdict on questions through each access path: known, weak and unknown answers, and failed searches."""

import json
from typing import Any

import pytest

from tests.live import Live
from tests.spec.conftest import Shell

NONSENSE = "purple zebra unicorn quantum marmalade"
KNOWN = "how often are the signing keys rotated"


def head(shell: Shell, question: str) -> dict[str, Any]:
    return json.loads(shell.read(f"search/{question}/results.jsonl").splitlines()[0])  # type: ignore[no-any-return]


def test_unknown_answer_is_a_text_and_nothing_else(shell: Shell, live: Live) -> None:
    live.wait_idle()
    assert shell.names(f"search/{NONSENSE}") == {"unknown.txt"}
    text = shell.read(f"search/{NONSENSE}/unknown.txt")
    assert NONSENSE in text
    assert "no file contains" in text
    assert head(shell, NONSENSE)["answer"]["verdict"] == "unknown"
    assert "unknown: the searched files do not seem to answer this" in shell.read(f"search/{NONSENSE}/context.md")


def test_known_answer_has_a_probability_and_hits(shell: Shell, live: Live) -> None:
    live.wait_idle()
    answer = head(shell, KNOWN)["answer"]
    assert answer["verdict"] == "known"
    assert 0.7 <= answer["p"] <= 1
    assert any(name.startswith("01 ") for name in shell.names(f"search/{KNOWN}"))
    with pytest.raises(OSError):
        shell.read(f"search/{KNOWN}/unknown.txt")


@pytest.mark.parametrize("question", ["runbook", "retry_request", "kind:dialogue", '"signing keys"', "mode:exact wiki"])
def test_word_identifier_filter_and_phrase_are_not_refused(shell: Shell, live: Live, question: str) -> None:
    live.wait_idle()
    assert head(shell, question)["answer"]["verdict"] != "unknown"


def test_context_of_an_unknown_answer_is_empty_unless_it_is_filled(shell: Shell, live: Live, place: str) -> None:
    live.wait_idle()
    shell.mkdir(f"context/{place}")
    request = f'query = "{NONSENSE}"\nbudget = 2000\n'
    shell.write(f"context/{place}/request.toml", request)
    manifest = json.loads(shell.read(f"context/{place}/manifest.json"))
    assert manifest["answer"]["verdict"] == "unknown"
    assert not manifest["items"]
    assert {out["reason"] for out in manifest["excluded"]} <= {"low-score", "duplicate"}
    assert "unknown:" in shell.read(f"context/{place}/context.md")
    shell.write(f"context/{place}/request.toml", f"{request}fill = true\n")
    assert json.loads(shell.read(f"context/{place}/manifest.json"))["items"]


def test_exit_codes_and_errors_of_the_command_line(live: Live) -> None:
    live.wait_idle()
    unknown = live.try_run("search", NONSENSE)
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert "unknown" in unknown.stderr
    assert "knowledge/" in live.try_run("search", "--weak", NONSENSE).stdout
    document = json.loads(live.try_run("search", "--json", NONSENSE).stdout)
    assert document["answer"]["verdict"] == "unknown"
    assert all(0 <= hit["p"] <= 1 for hit in document["hits"])
    assert live.try_run("context", NONSENSE).returncode == 3
    assert live.try_run("context", "--fill", NONSENSE).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ("search", "--below", "knowledge/handbok", "keys"),
        ("context", "--below", "knowledge/handbok", "keys"),
        ("meta", "find", "--below", "nope", "kind:fact"),
    ],
)
def test_missing_directory_is_an_error_and_not_an_empty_answer(live: Live, command: tuple[str, ...]) -> None:
    done = live.try_run(*command)
    assert done.returncode == 1
    assert "No such file" in done.stderr


def test_bad_value_of_a_filter_is_named(live: Live) -> None:
    for question, name in (
        ("since:garbage keys", "since:garbage"),
        ("mode:foo keys", "mode:foo"),
        ("confidence:>abc keys", "confidence:>abc"),
        ("kind:nonsense keys", "kind:nonsense"),
        ("pinned:maybe keys", "pinned:maybe"),
    ):
        assert name in live.try_run("search", question).stderr
    assert "since:" in live.try_run("meta", "find", "since:garbage").stderr


def test_too_small_a_budget_is_named_with_the_one_that_is_needed(live: Live) -> None:
    live.wait_idle()
    done = live.try_run("context", "--budget", "20", KNOWN)
    assert done.returncode == 1
    assert "needs a budget of" in done.stderr
