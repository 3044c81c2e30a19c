"""Test the verdict on a question, and the probabilities of its hits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.search.rank_fusion import Column, Profile
from ctxfs.index.search.results import Answer, Evidence, Hit, Verdict
from ctxfs.index.search.verdict import (
    estimate_answer,
    estimate_hits,
    flag_relevant,
    judge,
    measure_author_margin,
    scale_cosines,
)

FAR = Evidence(cosine=0.25, coverage=0.2, missing=0.6, missing_words=("zebra",))
NEAR = Evidence(cosine=0.6, coverage=0.7)
ROW = ChunkRow(1, "knowledge/a.md", 1, 2, "", "text", "markdown", 0, "", "", None)
share = st.floats(0, 1)


def columns(*rows: dict[str, float]) -> dict[str, Column]:
    """Return the signals of hits as columns."""
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in set().union(*rows)}


def verdict(evidence: Evidence, *, has_hits: bool = True, is_complete: bool = True) -> str:
    return judge(evidence, has_hits, is_complete).verdict.value


def test_question_without_a_name_is_not_one_about_another_person() -> None:
    """A missing author signal is unknown, so that a hit is between one by the right and one by a wrong author."""
    turn = {"meaning": 0.55, "nearby": 0.55, "words": 3.0, "around": 3.0}
    for measured in (turn, {name: value for name, value in turn.items() if name in ("words", "around")}):
        right, wrong = estimate_hits(
            columns({**measured, "author": 1.0}, {**measured, "author": 0.0}), ["dialogue"] * 2, 5.0
        )
        unnamed = estimate_hits(columns(measured), ["dialogue"], 5.0)[0]
        assert wrong < unnamed < right
        assert unnamed > (right + wrong) / 3


def test_distant_passages_without_the_words_are_unknown_with_reasons() -> None:
    answer = judge(FAR, True, True)
    assert answer.verdict is Verdict.UNKNOWN
    assert "no file contains zebra" in answer.reasons
    assert verdict(NEAR) == "known"


def test_incomplete_search_is_never_unknown() -> None:
    assert verdict(FAR, is_complete=False) == "weak"
    assert verdict(FAR, has_hits=False, is_complete=False) == "weak"
    assert verdict(FAR, has_hits=False) == "unknown"


def test_question_whose_words_are_all_in_one_passage_is_not_refused() -> None:
    for cosine in (None, 0.15, 0.3):
        assert verdict(Evidence(cosine, coverage=1.0)) != "unknown"


def test_prompt_without_a_passage_that_helps_is_not_known() -> None:
    """The words of `ok do it` may all be in a passage, without an answer in it."""
    words_alone = Evidence(cosine=0.25, coverage=1.0)
    assert judge(words_alone, True, True, best_hit=0.3).verdict is Verdict.KNOWN
    assert judge(words_alone, True, True, best_hit=0.004).verdict is Verdict.WEAK
    assert judge(words_alone, True, True).verdict is Verdict.KNOWN  # not measured


def test_probability_of_a_hit_does_not_depend_on_the_number_of_hits_that_are_wanted() -> None:
    rows = [{"words": 6.0, "meaning": 0.3}, {"words": 9.0, "meaning": 0.7}]
    largest = {"words": 9.0, "meaning": 0.7}
    both = estimate_hits(columns(*rows), ["prose", "prose"], 10.0, largest)
    assert estimate_hits(columns(rows[0]), ["prose"], 10.0, largest) == pytest.approx(both[:1])


def test_first_turns_of_a_dialogue_are_relevant_however_improbable_each_is() -> None:
    probabilities = [0.9] + [1e-5] * 200
    relevant = flag_relevant(probabilities, ["dialogue"] * 201)
    assert all(relevant[:50])
    assert not any(relevant[150:])
    assert flag_relevant(probabilities, ["prose"] * 201).count(True) == 1


def test_a_context_ends_sooner_among_many_equal_hits_than_among_the_first() -> None:
    probabilities = [0.5] + [0.01] * 60
    relevant = flag_relevant(probabilities, ["prose"] * 61)
    assert all(relevant[:8])
    assert not any(relevant[30:])
    # The end does not depend on the limit of the search.
    assert flag_relevant(probabilities[:12], ["prose"] * 12) == relevant[:12]
    assert flag_relevant([0.01] * 3000 + [0.5], ["prose"] * 3001)[-1]


def test_code_behind_prose_is_measured_as_prose() -> None:
    probabilities = [0.5] * 8 + [0.005] * 4
    behind_code = flag_relevant(probabilities, ["code"] * 12)
    behind_prose = flag_relevant(probabilities, ["prose"] * 8 + ["code"] * 4)
    assert all(behind_code)
    assert not any(behind_prose[8:])


def test_question_about_a_dialogue_is_refused_less_readily() -> None:
    doubtful = Evidence(cosine=0.3, coverage=0.3, missing=0.0)
    assert verdict(doubtful) == "unknown"
    assert verdict(replace(doubtful, is_dialogue=True)) == "weak"
    assert verdict(replace(FAR, is_dialogue=True)) == "unknown"


def test_required_word_that_was_found_is_not_unknown() -> None:
    assert verdict(Evidence(0.1, 0.1, is_literal=True)) == "weak"


@given(share, share, share, share)
def test_more_evidence_never_lowers_the_probability(
    cosine: float, coverage: float, missing: float, more: float
) -> None:
    p = estimate_answer(Evidence(cosine, coverage, missing))
    assert 0 <= p <= 1
    assert estimate_answer(Evidence(min(1, cosine + more), coverage, missing)) >= p
    assert estimate_answer(Evidence(cosine, min(1, coverage + more), missing)) >= p
    assert estimate_answer(Evidence(cosine, coverage, min(1, missing + more))) <= p


def test_statement_of_another_person_lowers_the_probability() -> None:
    own = {"author": 1.0, "words": 2.0, "meaning": 0.4}
    other = {"author": 0.0, "words": 8.0, "meaning": 0.6}
    margin = measure_author_margin(columns(other, own), 10.0)
    assert margin is not None
    assert margin < 0
    # A question of another person is no statement.
    asked = measure_author_margin(columns({**other, "asks": 1.0}, own), 10.0)
    assert asked is not None
    assert asked > margin
    assert measure_author_margin(columns({"words": 1.0}), 10.0) is None
    assert estimate_answer(Evidence(0.6, 0.7, author_margin=margin)) < estimate_answer(
        Evidence(0.6, 0.7, author_margin=asked)
    )


def test_hit_without_a_cosine_is_judged_by_its_words() -> None:
    unmeasured, far = estimate_hits(columns({"words": 9.0}, {"words": 9.0, "meaning": 0.05}), ["prose", "prose"], 10.0)
    assert unmeasured > far


@given(st.lists(st.tuples(share, share, st.booleans()), min_size=1, max_size=20))
def test_probabilities_of_hits_are_probabilities_and_the_best_is_relevant(
    rows: list[tuple[float, float, bool]],
) -> None:
    signals = columns(*({"words": 10 * words, "meaning": cosine} for words, cosine, _ in rows))
    profiles: list[Profile] = ["dialogue" if is_turn else "code" for *_, is_turn in rows]
    probabilities = estimate_hits(signals, profiles, 10.0)
    assert all(0 <= p <= 1 for p in probabilities)
    relevant = flag_relevant(probabilities, profiles)
    best = max(range(len(rows)), key=probabilities.__getitem__)
    assert relevant[best] or probabilities[best] < 0.001


def test_no_hits_have_no_probabilities() -> None:
    assert estimate_hits({}, [], 0.0) == []
    assert flag_relevant([], []) == []


def test_cosines_of_another_model_are_scaled_by_its_background() -> None:
    cosines = np.array([0.8, 0.9])
    assert scale_cosines(cosines, mean=0.8, deviation=0.02)[0] == pytest.approx(0.05)
    assert scale_cosines(cosines, mean=0.8, deviation=0.02)[1] > 0.4
    assert scale_cosines(cosines, mean=0.8, deviation=0.0)[1] < 1e6


def test_filters_are_known_or_unknown() -> None:
    assert Answer.of_filters(True).as_record() == {"verdict": "known", "p": 1.0}
    assert Answer.of_filters(False).as_record() == {"verdict": "unknown", "p": 0.0}


def test_signals_that_measured_nothing_did_not_find_a_hit() -> None:
    hit = Hit(ROW, -0.4, {"words": 0.0, "meaning": -0.004}, {"words": 0.1, "meaning": 0.2})
    assert hit.why == ""
    found = Hit(ROW, 2.0, {"words": 3.0, "meaning": 0.5}, {"words": 0.4, "meaning": 1.6})
    assert found.why == "meaning, words"
