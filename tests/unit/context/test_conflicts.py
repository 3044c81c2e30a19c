"""Conflicts among memories of one context: named at its top, within the budget, the preferred memory first."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import jsonschema
import trio

from ctxfs.context.build.constructor import Candidates, Context, assemble
from ctxfs.context.build.manifest import parse_manifest, schema
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.rebuild import rebuild
from ctxfs.context.build.request import Request
from ctxfs.context.build.tokens import open_tokenizer
from ctxfs.index.search.file_status import superseded_paths
from tests.unit.context.test_build import extract_chunks

BOUND = open_tokenizer("bound")
DAY = 86_400 * 10**9
OLD, NEW = "memory/a/fact/tokens.md", "memory/b/fact/review.md"
OLD_TEXT, NEW_TEXT = "Access tokens expire after 90 days.", "Access tokens expire after 30 days."


def piece(path: str, text: str, score: float = 1.0, day: int = 100, **more: Any) -> Piece:
    sha = hashlib.sha256(text.encode()).hexdigest()
    return Piece(
        path, 1, 1 + text.count("\n"), text, score=score, sha256=sha, kind="markdown", mtime_ns=day * DAY, **more
    )


def built(*pieces: Piece, budget: int = 400, cited: frozenset[str] = frozenset(), **more: Any) -> Context:
    request = Request(("how long do tokens last",), budget, **more)
    return assemble(request, Candidates((), pieces, (), ("a note",), len(pieces), cited=cited), BOUND)


def conflicts_of(context: Context) -> list[dict[str, Any]]:
    body = json.loads(context.manifest)
    jsonschema.validate(body, json.loads(schema()))
    found: list[dict[str, Any]] = body.get("conflicts", [])
    return found


def test_context_names_a_conflict_at_its_top_and_begins_with_the_newer_memory() -> None:
    context = built(piece(OLD, OLD_TEXT, 2.0), piece(NEW, NEW_TEXT, 1.0, day=200))
    lines = context.text.splitlines()
    assert lines[1] == f"> conflict: '30 days' ({NEW}:1) against '90 days' ({OLD}:1); the first is newer"
    assert context.text.index(NEW_TEXT) < context.text.index(OLD_TEXT)
    assert conflicts_of(context) == [
        {
            "preferred": {"path": NEW, "line": 1, "value": "30 days"},
            "other": {"path": OLD, "line": 1, "value": "90 days"},
            "why": "newer",
        }
    ]


def test_trusted_memory_is_preferred_to_a_newer_one_and_a_source_decides_within_a_day() -> None:
    untrusted = built(piece(OLD, OLD_TEXT), piece(NEW, NEW_TEXT, day=200, untrusted=True))
    assert conflicts_of(untrusted)[0]["preferred"]["path"] == OLD
    assert conflicts_of(untrusted)[0]["why"] == "more trusted"
    sourced = built(piece(OLD, OLD_TEXT), piece(NEW, NEW_TEXT), cited=frozenset((NEW,)))
    assert (conflicts_of(sourced)[0]["preferred"]["path"], conflicts_of(sourced)[0]["why"]) == (NEW, "with a source")
    undecided = built(piece(OLD, OLD_TEXT), piece(NEW, NEW_TEXT))
    assert conflicts_of(undecided)[0]["why"] == ""
    assert "; undecided" in undecided.text


def test_context_without_conflict_keeps_its_bytes() -> None:
    pieces = [piece(OLD, OLD_TEXT), piece(NEW, "Refresh tokens expire after 30 days.")]
    context = built(*pieces)
    assert "conflict" not in context.text
    assert "conflicts" not in json.loads(context.manifest)
    # Files that are no memories are not compared.
    other = built(
        *[replace(item, path=item.path.replace("memory", "knowledge")) for item in (pieces[0], piece(NEW, NEW_TEXT))]
    )
    assert "conflict" not in other.text


def test_conflicts_stay_within_the_budget() -> None:
    pieces = [
        piece(f"memory/a/fact/n{number}.md", f"The quota of tenant storage is {number + 2} terabytes.", day=number + 1)
        for number in range(12)
    ]
    for budget in (1, 5, 20, 60, 100, 160, 250, 400, 900):
        for form in ("markdown", "xml", "json", "messages"):
            context = built(*pieces, budget=budget, format=form)
            assert context.tokens <= budget
            assert context.tokens == BOUND.count(context.text)
            assert context.text.count("conflict: ") <= 5
            chosen = {item.path for item in context.plan.chosen}
            for conflict in conflicts_of(context):
                assert {conflict["preferred"]["path"], conflict["other"]["path"]} <= chosen
    assert "conflict: " in built(*pieces, budget=900).text


def test_secret_is_withheld_from_the_line_of_a_conflict() -> None:
    keys = ("AKIAIOSFODNN7EXAMPLE", "AKIAI44QH8DHBEXAMPLE")
    pieces = [piece(path, f"deploy key: {key}") for path, key in zip((OLD, NEW), keys, strict=True)]
    context = built(*pieces)
    assert not any(key in context.text + context.manifest.decode() for key in keys)


def test_context_with_a_conflict_is_rebuilt_from_its_manifest() -> None:
    files = {OLD: OLD_TEXT.encode(), NEW: NEW_TEXT.encode()}
    context = built(piece(OLD, OLD_TEXT, 2.0), piece(NEW, NEW_TEXT, 1.0, day=200))

    async def fetch(path: str, sha256: str, revision: str) -> bytes | None:
        return files[path]

    again = trio.run(rebuild, parse_manifest(context.manifest), fetch, extract_chunks)
    assert again.same
    assert again.text == context.text


def test_files_that_supersede_each_other_in_a_cycle_stay_valid() -> None:
    pairs = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "d")]
    assert superseded_paths(pairs) == {"a": "d", "d": "e"}
    chain = [(f"n{number}", f"n{number + 1}") for number in range(5000)]
    assert len(superseded_paths(chain)) == 5000
