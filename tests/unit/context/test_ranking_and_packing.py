from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxfs.context.build.candidate_filter import FilterCriteria, filter_candidates
from ctxfs.context.build.pack import Limits, pack
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.piece_order import PieceOrder
from ctxfs.context.build.render import render, render_markdown
from ctxfs.context.build.request import Format
from ctxfs.context.build.token_bound import upper_bound
from ctxfs.index.search.rank_fusion import WEIGHTS, fuse, mixed_weights


def columns(
    **signals: dict[int, float],
) -> tuple[list[int], dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"]]:
    """Return (chunks, signals) in the form of `fuse`, from the scores of each signal."""
    chunks = sorted({chunk for scores in signals.values() for chunk in scores})
    return chunks, {name: np.array([scores.get(c, np.nan) for c in chunks]) for name, scores in signals.items()}


def test_hit_of_both_engines_ranks_before_a_hit_of_one() -> None:
    ranking = fuse(*columns(words={1: 9.0, 2: 8.0, 3: 1.0}, meaning={2: 0.9, 4: 0.8, 1: 0.1}))
    assert ranking[0].chunk == 2
    assert ranking[0].signals == {"words": 8.0, "meaning": 0.9}
    assert sum(ranking[0].shares.values()) == pytest.approx(ranking[0].score)


def test_one_engine_alone_keeps_its_order() -> None:
    assert [scored.chunk for scored in fuse(*columns(words={7: 3.0, 1: 2.0, 9: 1.0}, meaning={}))] == [7, 1, 9]


def test_chunk_missing_from_a_partial_ranking_loses_no_score() -> None:
    chunks, signals = columns(words={1: 9.0, 2: 5.0}, meaning={2: 0.9, 3: 0.8, 4: 0.1})
    assert fuse(chunks, signals)[0].chunk == 2
    missed = {scored.chunk: scored.score for scored in fuse(chunks, signals)}[1]
    spared = {scored.chunk: scored.score for scored in fuse(chunks, signals, partial=("meaning",))}[1]
    assert spared > missed


def test_chunk_without_a_vector_is_ranked_by_full_text() -> None:
    chunks, signals = columns(words={1: 9.0, 2: 5.0, 3: 1.0}, meaning={2: 0.9, 3: 0.8, 4: 0.1})
    waiting = np.array(chunks) == 1
    for share in (0.0, 0.01, 0.5, 0.99):
        assert fuse(chunks, signals, waiting=waiting, share=share)[0].chunk == 1


@given(
    st.dictionaries(st.integers(1, 60), st.floats(0.1, 20), min_size=1),
    st.dictionaries(st.integers(1, 60), st.floats(-0.2, 1)),
    st.floats(0, 1),
)
def test_missing_vector_lowers_no_rank(words: dict[int, float], meaning: dict[int, float], share: float) -> None:
    chunks, signals = columns(words=words, meaning=meaning)
    by_words = [scored.chunk for scored in fuse(chunks, {"words": signals["words"]})]
    waiting = np.array([chunk not in meaning for chunk in chunks])
    ranking = fuse(chunks, signals, waiting=waiting, share=share)
    order = [scored.chunk for scored in ranking]
    assert sorted(order) == chunks
    missing = [chunk for chunk in by_words if chunk not in meaning]
    assert [chunk for chunk in order if chunk not in meaning] == missing
    scores = [scored.score for scored in ranking]
    assert scores == sorted(scores, reverse=True)
    for scored in ranking:
        assert sum(scored.shares.values()) == pytest.approx(scored.score)
    if not meaning:
        assert order == by_words


def test_order_is_that_of_full_text_with_few_vectors_and_of_both_with_all() -> None:
    words = {chunk: float(50 - chunk) for chunk in range(1, 50)}
    chunks, signals = columns(words=words, meaning={40: 0.9, 41: 0.1})
    waiting = np.array([chunk not in (40, 41) for chunk in chunks])
    assert [scored.chunk for scored in fuse(chunks, signals, waiting=waiting, share=0.0)] == chunks
    later = [scored.chunk for scored in fuse(chunks, signals, waiting=waiting, share=0.9)]
    assert later[:2] == [1, 40]
    assert later.index(41) > later.index(40)


def test_equal_scores_are_ordered_by_number_so_that_results_repeat() -> None:
    assert [scored.chunk for scored in fuse(*columns(words={5: 1.0, 2: 1.0, 9: 1.0}))] == [2, 5, 9]


def test_weights_depend_on_the_kinds_of_candidates() -> None:
    assert mixed_weights({"prose": 4}) == dict(WEIGHTS["prose"])
    half = mixed_weights({"prose": 3, "dialogue": 3})
    assert half["author"] == pytest.approx(WEIGHTS["dialogue"]["author"] / 2)


pieces = st.lists(
    st.builds(
        Piece,
        path=st.sampled_from(["a.md", "b.py", "c/d.txt"]),
        first=st.integers(1, 500),
        last=st.integers(501, 900),
        text=st.text(min_size=1, max_size=400),
        heading=st.text(max_size=20),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(pieces, st.integers(40, 3000), st.text(max_size=30))
def test_a_packed_context_is_never_over_its_budget(candidates: list[Piece], budget: int, query: str) -> None:
    def render(chosen: object) -> str:
        return render_markdown(query, (), chosen)  # type: ignore[arg-type]

    plan = pack(candidates, Limits(budget), render, upper_bound)
    if plan.chosen:
        assert upper_bound(render(plan.chosen)) <= budget
    assert len(plan.chosen) + len(plan.excluded) == len(candidates)


def test_piece_that_does_not_fit_is_skipped_for_smaller_ones() -> None:
    big = Piece("big.md", 1, 2, "word " * 2000)
    small = Piece("small.md", 1, 2, "a small fact")
    plan = pack([big, small], Limits(200), lambda chosen: render_markdown("q", (), chosen), upper_bound)
    assert [(piece.path, piece.cut) for piece in plan.chosen] == [("small.md", False), ("big.md", True)]
    assert not plan.excluded


def test_equal_text_is_packed_once() -> None:
    twin = [Piece("a.md", 1, 2, "the same  text"), Piece("b.md", 1, 2, "the same text")]
    kept, out = filter_candidates([], twin, FilterCriteria(0))
    assert [piece.path for piece in kept] == ["a.md"]
    assert [(item.piece.path, item.reason, item.other) for item in out] == [("b.md", "duplicate", "a.md")]


def test_piece_cannot_end_its_fence() -> None:
    text = render_markdown("q", (), [Piece("a.py", 1, 3, "x = '''\n```\n'''")])
    assert "````\n" in text


@pytest.mark.parametrize(
    ("text", "least"), [("", 0), ("hello world", 2), ("你好世界" * 10, 40), ("0123456789abcdef" * 40, 400)]
)
def test_the_bound_does_not_count_opaque_or_cjk_text_by_quarter_characters(text: str, least: int) -> None:
    assert upper_bound(text) >= least


def test_shared_text_of_sources_appears_once_and_single_lines_are_cited_by_number() -> None:
    day = date(2023, 5, 8).toordinal()
    turns = [
        Piece("chats/a/01.txt", 3, 3, "Ada: hi", day=day),
        Piece("chats/a/01.txt", 7, 7, "Bob: ho", day=day),
        Piece("chats/a/deploy.md", 4, 6, "two\n\nlines", heading="Deploy > Rules"),
        Piece("chats/a/log.jsonl", 1, 1, "{}", day=day),
        Piece("chats/a/log.jsonl", 2, 2, "[]", day=day + 1),
        Piece("chats/a/02.txt", 9, 9, "Bob: ho ho"),
    ]
    assert render_markdown("q", (), turns) == (
        "# q\n\nBelow chats/a/\n\n## [1] 01.txt 2023-05-08\n3: Ada: hi\n7: Bob: ho\n"
        "\n## [2] deploy.md:4-6 Rules\n```\ntwo\n\nlines\n```\n"
        "\n## [3] log.jsonl\n1: 2023-05-08 {}\n2: 2023-05-09 []\n"
        "\n[4] 02.txt:9 Bob: ho ho\n"
    )


def test_shorter_of_two_equal_pieces_is_packed_first() -> None:
    long, short = Piece("a.md", 1, 2, "word " * 60, score=1.0), Piece("b.md", 1, 2, "word again", score=0.99)
    other = Piece("c.md", 1, 2, "another word", score=-3.0)
    plan = pack([long, short, other], Limits(40), lambda chosen: render_markdown("q", (), chosen), upper_bound)
    assert plan.chosen[0] is short


def test_adjacent_pieces_are_one_passage_without_repeated_headings() -> None:
    pieces = [
        Piece("a/keys.md", 1, 3, "# Rotation\n\nEvery ninety days.", heading="Rotation"),
        Piece("a/keys.md", 6, 8, "## Decision\n\nThe vault does it.", heading="Rotation > Decision", above=3),
        Piece("a/keys.md", 20, 21, "By hand,\nin the vault.", heading="Rotation > Decision", above=14),
        Piece("a/keys.md", 30, 31, "Ask the\nsecurity team.", heading="Rotation > Doubts", above=25),
    ]
    assert render_markdown("", (), pieces) == (
        "## [1] a/keys.md\n"
        "1-8:\n```\n# Rotation\n\nEvery ninety days.\n\n\n## Decision\n\nThe vault does it.\n```\n"
        "20-21:\n```\nBy hand,\nin the vault.\n```\n"
        "30-31: Doubts\n```\nAsk the\nsecurity team.\n```\n"
    )


def test_name_of_code_is_shown_only_where_its_text_lacks_it() -> None:
    head = Piece("a/pool.py", 1, 2, "class Pool:\n    def close(self):", heading="Pool.close")
    middle = Piece("a/pool.py", 9, 10, "        stop()\n        wait()", heading="Pool.close")
    other = Piece("b/pool.py", 9, 10, "        stop()\n        wait()", heading="Pool.close")
    text = render_markdown("", (), [head, middle, other])
    assert text.count("Pool") == 1
    assert "## [2] b/pool.py:9-10 close\n" in text


@pytest.mark.parametrize("form", ["markdown", "xml", "json"])
def test_lines_between_two_pieces_are_never_counted_as_shown(form: Format) -> None:
    pieces = [
        Piece("a.py", 1, 2, "one = 1\ntwo = 2"),
        Piece("a.py", 4, 5, "four = 4\nfive = 5"),  # line 3 has a text that is not a candidate
    ]
    text = render("q", (), pieces, form)
    assert "1-2" in text
    assert "4-5" in text


def test_head_of_a_function_is_packed_before_its_middle() -> None:
    parts = [
        Piece("a.py", 1, 9, f"def work():\n{'    start()' * 20}", heading="work", kind="code", score=0.1),
        Piece("a.py", 10, 19, "    between()\n" * 20, heading="work", kind="code", score=0.2, above=9),
        Piece("a.py", 20, 29, "    middle()\n" * 20, heading="work", kind="code", score=1.0, above=19),
        Piece("b.py", 1, 9, "def other():\n" * 20, heading="other", kind="code", score=0.9),
    ]
    order = list(PieceOrder(parts, 500))
    assert order[:2] == [parts[0], parts[2]]
    assert sorted(map(id, order)) == sorted(map(id, parts))


def test_piece_beside_a_chosen_one_precedes_an_equal_one_elsewhere() -> None:
    best = Piece("a.md", 1, 2, "one\ntwo", score=1.0)
    elsewhere, beside = Piece("b.md", 1, 2, "six\nten", score=0.5), Piece("a.md", 4, 5, "six\nten", score=0.5, above=2)
    far = Piece("c.md", 1, 2, "six\nten", score=0.0)
    plan = pack(
        [best, elsewhere, beside, far], Limits(4000), lambda chosen: render_markdown("q", (), chosen), upper_bound
    )
    assert plan.chosen[:2] == [best, beside]


def test_one_origin_has_at_most_its_share_of_the_budget() -> None:
    planted = [Piece(f"p{n}.md", 1, 1, "word " * 60, score=9.0 - n / 100, source="tool:web") for n in range(10)]
    others = [Piece(f"o{n}.md", 1, 1, f"text {n} " * 30, score=1.0 - n / 100, source=f"note:{n}") for n in range(10)]

    def shares(quota: int | None) -> tuple[int, int, set[str]]:
        limits = Limits(1000, origin_quota=quota)
        plan = pack([*planted, *others], limits, lambda chosen: render_markdown("q", (), chosen), upper_bound)
        assert plan.tokens <= 1000
        chosen = [piece.source for piece in plan.chosen]
        reasons = {exclusion.reason for exclusion in plan.excluded if exclusion.piece.source == "tool:web"}
        return chosen.count("tool:web"), len(chosen), reasons

    assert shares(None)[0] >= 8
    capped, total, reasons = shares(250)
    assert 1 <= capped <= 3
    assert total > capped + 3, "the others have the rest"
    assert reasons == {"origin"}


def test_pieces_without_an_origin_have_no_limit() -> None:
    pieces = [Piece(f"p{n}.md", 1, 1, "word " * 60, score=9.0 - n / 100) for n in range(5)]
    plan = pack(pieces, Limits(1000, origin_quota=100), lambda chosen: render_markdown("q", (), chosen), upper_bound)
    assert len(plan.chosen) == 5
