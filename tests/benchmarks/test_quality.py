"""Test that a question is never answered worse than by words alone, on the collections of `benchmarks.quality`."""

from pathlib import Path

import pytest

from benchmarks import quality
from benchmarks.harness import make_store
from ctxfs.context.retrieval_metrics import summarise
from ctxfs.daemon.session import LocalSession
from ctxfs.store.layout import find_store

_SIZES = {"functions": 12, "manuals": 150}
_MIN_QUESTIONS = 50


@pytest.mark.long
@pytest.mark.parametrize("name", _SIZES)
def test_search_is_never_behind_full_text(name: str, tmp_path: Path) -> None:
    texts = tmp_path / "library"  # the paths of the answers begin with it
    texts.mkdir()
    gold = quality.COLLECTIONS[name](texts, _SIZES[name])
    if name == "manuals" and len(gold) < _MIN_QUESTIONS:
        pytest.skip(f"only {len(gold)} manual pages with a NAME section are installed on this machine")
    assert len(gold) >= _MIN_QUESTIONS
    session = LocalSession(find_store(str(make_store(tmp_path, {texts.name: texts}))))
    try:
        words, hybrid = (summarise(quality.run_questions(session, gold, mode)) for mode in ("words", "hybrid"))
    finally:
        session.close()
    assert words["recall@10"] > 0.5, "the answers are among the files"
    assert hybrid["ndcg@10"] >= words["ndcg@10"], (words, hybrid)
    assert hybrid["recall@10"] >= words["recall@10"], (words, hybrid)
