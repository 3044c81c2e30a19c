"""Test the text output of hits."""

from pathlib import Path

import pytest

from ctxfs.cli.hit_output import show_hit
from ctxfs.mounts.search import hit_record
from tests.unit.index.test_history import Store


def output_of(hit: dict[str, object], capsys: pytest.CaptureFixture[str]) -> str:
    show_hit(1, hit, "a.md", [])
    return capsys.readouterr().out.split("\n")[0]


def test_only_hit_of_a_question_shows_its_probability(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    store.append("We move the Zanzibar cluster to the harbour.")
    (hit,) = store.search("zanzibar harbour cluster kind:history")
    store.close()
    assert hit.p is not None
    assert hit.p > 0.01
    shown = output_of({**hit_record(hit, []), "text": hit.chunk.text}, capsys)
    assert f"  p {hit.p:.2f}" in shown


@pytest.mark.parametrize(("p", "shown"), [(0.004, "p <0.01"), (0.5, "p 0.50"), (None, "3.20")])
def test_hit_shows_its_probability_else_its_score(
    p: float | None, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hit = {"path": "a.md", "first": 1, "last": 2, "heading": "", "date": "", "score": 3.2, "p": p, "text": "words"}
    assert output_of(hit, capsys) == f" 1 a.md:1-2  {shown}"
