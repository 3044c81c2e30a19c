"""Test request files, policy files and queries of others: errors are sentences, and parsing takes bounded time."""

import os
import random
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ctxfs.context.build.request import parse_request
from ctxfs.index.query import parse_query
from ctxfs.index.search.query_hints import read_hints
from ctxfs.index.search.searcher import MAX_QUESTION_CHARS, Searcher
from ctxfs.model.errors import CommandError
from ctxfs.model.path import ROOT
from ctxfs.model.toml import MAX_KEY_PARTS, parse_toml
from ctxfs.policy.rules import parse_policy

FUZZ_SECONDS = float(os.environ.get("CTXFS_FUZZ_SECONDS", "2"))

REQUEST = """query = ["how do we rotate keys", "who signs"]
budget = 2000
paths = ["knowledge/handbook"]
kinds = ["fact"]
pins = ["memory/shared/x.md:1-3"]
since = "7d"
format = "markdown"
min_score = 0.5
[quota]
fact = 500
[reserve]
memory = "20%"
"""
POLICY = """[[rule]]
principal = "agent:*"
path = "memory/shared/**"
verbs = "lrwxa"
effect = "deny"
expires = 2026-12-31T00:00:00Z
[groups]
writers = ["agent:alice", "human:bob"]
"""
PIECES = (
    "[",
    "]",
    "{",
    "}",
    "=",
    ".",
    '"',
    "'",
    "\n",
    "a.",
    "9" * 50,
    "[[rule]]",
    "inf",
    "-",
    "**",
    "\0",
    "\ud800",
    "é",
    ",",
    "'''",
)


def cpu_seconds(act: Callable[[], object]) -> float:
    begun = time.thread_time()
    act()
    return time.thread_time() - begun


HOSTILE = [
    "a = " + "[" * 50_000,
    "a = " + "{a=" * 20_000,
    "a." * 20_000 + "b = 1",
    '"a".' * 20_000 + "b = 1",
    "'a' . " * 20_000 + "b = 1",
    "x = {" + "a." * 20_000 + "b = 1}",
    "a = " + "9" * 100_000,
    "a = '''" + "'" * 100_000,
    "a = 1\n" * 20_000,
    "a = 9999-99-99",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=[text[:12].replace("\n", " ") for text in HOSTILE])
def test_hostile_toml_is_refused_in_bounded_time(text: str) -> None:
    def refuse() -> None:
        with pytest.raises(tomllib.TOMLDecodeError):
            parse_toml(text)

    assert cpu_seconds(refuse) < 1


def test_ordinary_toml_is_read() -> None:
    prose = 'text = """' + "One sentence. Another one, e.g. this. " * 200 + '"""'
    assert parse_toml(f"{REQUEST}\n[more]\n{prose}")["budget"] == 2000
    assert parse_toml(".".join(["a"] * MAX_KEY_PARTS) + " = 1")


def damaged(text: str, chance: random.Random) -> str:
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(PIECES) * chance.choice([1, 1, 3, 200]) + text[at + chance.randrange(8) :]
    return text


def test_damaged_requests_and_policies_are_read_or_refused() -> None:
    chance = random.Random(os.environ.get("CTXFS_FUZZ_SEED", "25"))
    end, tried, refused = time.monotonic() + FUZZ_SECONDS, 0, 0
    while time.monotonic() < end:
        tried += 2
        try:
            parse_request(damaged(REQUEST, chance), 1000)
        except OSError as error:
            refused += 1
            assert error.strerror
        try:
            parse_policy(parse_toml(damaged(POLICY, chance)), "policy.toml", frozenset(), alone=True)
        except (CommandError, tomllib.TOMLDecodeError):
            refused += 1
    assert 0 < refused < tried


@pytest.mark.parametrize(
    "piece", ["2020-01-01 ", '"', '+"a', "kind:", 'author:"', "'s", "may ", "12 ", "-x ", "a", "8 May 2023 "]
)
def test_query_is_parsed_in_linear_time(piece: str) -> None:
    text = piece * (MAX_QUESTION_CHARS // len(piece))
    assert cpu_seconds(lambda: read_hints(parse_query(text), {})) < 0.5


def test_endless_query_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="characters at most"):
        Searcher(tmp_path, None).search(parse_query("a " * MAX_QUESTION_CHARS), ROOT, 5)
