"""Test the screen of reviews: claims with marked tokens, proposals as diffs, verdicts, and those that come second."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from ctxfs.web.differing_tokens import conflicts_of, differing_values, mark_values
from tests.live import Live, eventually
from tests.web.hostile import IMAGE, SCRIPT, check_inert
from tests.web.site import Answer, Site, Visitor


def open_claim(live: Live, name: str, claim: str = "Tokens expire after 90 days.", **about: object) -> str:
    """Write a review of a claim, as the evaluator does, and return its id."""
    folder = live.store / "tree/human/review" / name
    folder.mkdir(parents=True, exist_ok=True)
    conflict = {"kind": "number", "claim": "90 days", "source": "30 days", "at": "knowledge/handbook/rotation.md:7"}
    record = {
        "task": "t",
        "why": "number: '90 days'",
        "suggested": "reject",
        "source": "",
        "conflicts": [conflict],
        **about,
    }
    (folder / "claim.md").write_text(f"{claim}\n")
    (folder / "evidence.md").write_text("# From context/t\n\n> Tokens expire after 30 days.\n")
    (folder / "about.json").write_text(json.dumps(record))
    (folder / "verdict").write_text("")
    return name


def decide(visitor: Visitor, name: str, verdict: str, **more: str) -> Answer:
    fields: Mapping[str, str] = {"form_token": visitor.form_token(), "id": name, "verdict": verdict, **more}
    return visitor.post("review/decide", fields)


def marks_of(page: Answer, *names: str) -> list[str]:
    """Return the marked texts on the cards of these reviews. Others may wait in the store, too."""
    cards = [part for part in page.text.split("<article ") if any(f'value="{name}"' in part for name in names)]
    return [mark.text for card in cards for mark in replace(page, body=card.encode()).elements("mark")]


def decision(live: Live, name: str) -> str:
    file = live.store / "tree/human/review" / name / "outcome.json"
    return str(json.loads(file.read_text())["decision"]) if file.exists() else ""


def test_claim_is_shown_with_its_evidence_and_the_differing_tokens(owner: Visitor, live: Live) -> None:
    open_claim(live, "c1")
    page = owner.get("review")
    assert marks_of(page, "c1")[:2] == ["90 days", "30 days"]
    assert "Tokens expire after 30 days." in page.main_text()
    assert decide(owner, "c1", "reject").status == 303
    assert decision(live, "c1") == "reject"
    after = owner.get("review", done="c1")
    assert "override rate" in after.main_text()
    assert decide(owner, "c1", "undo").status == 303
    assert decision(live, "c1") == ""
    decide(owner, "c1", "edit", text="Tokens expire after 30 days, all of them.")
    assert decision(live, "c1") == "edit"
    facts = [file.read_text() for file in (live.at / "memory/shared/fact").glob("tokens-expire*.md")]
    assert any("all of them" in text for text in facts)


def test_second_verdict_is_told_of_the_first(owner: Visitor, site: Site, live: Live) -> None:
    open_claim(live, "c2")
    other = site.visitor()
    assert decide(other, "c2", "accept").status == 303
    second = decide(owner, "c2", "reject")
    assert second.status == 409
    assert "accept by human:" in second.main_text()
    assert decision(live, "c2") == "accept"
    assert decide(owner, "no-such-review", "accept").status == 404
    assert decide(owner, "c2", "explode").status == 400


def test_proposal_is_a_diff_with_reasons_and_evidence(owner: Visitor, live: Live) -> None:
    folder = live.at / "memory/twins/fact"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / f"{name}.md").write_text("The blue lamp stands in the north hall.\n")
    live.run("consolidate", "--below", "memory/twins")
    page = owner.get("review")
    assert "merge 1 memory" in page.main_text()
    assert "state: (none) → merged" in page.elements("pre")[-1].text
    assert "The blue lamp stands" in page.main_text()
    name = next(r["id"] for r in json.loads(live.run("review", "--json")) if "lamp" in r["claim"])
    decide(owner, name, "accept")
    assert decision(live, name) == "accept"
    decide(owner, name, "undo")
    assert decision(live, name) == ""
    decide(owner, name, "reject")


def test_agents_page_has_no_reviews_and_no_verdicts(site: Site, live: Live) -> None:
    open_claim(live, "c3", "The otter sleeps.")
    agent = site.visitor("--as", "agent:alice")
    page = agent.get("review")
    assert page.status == 403
    assert "otter" not in page.text
    assert decide(agent, "c3", "accept").status == 403
    assert decision(live, "c3") == ""
    live.run("review", "reject", "c3")


def test_hostile_claims_are_inert(owner: Visitor, live: Live) -> None:
    open_claim(
        live,
        "c4",
        f"{SCRIPT} {IMAGE} \u202e \x1b[31m",
        why=IMAGE,
        task="t",
        source=SCRIPT,
        conflicts=[SCRIPT, {"claim": "<"}],
    )
    open_claim(live, "c5", "x", conflicts="none", source=["x"])
    page = owner.get("review")
    assert page.status == 200
    check_inert(page)
    for name in ("c4", "c5"):
        decide(owner, name, "reject")
    check_inert(owner.get("review", all="1"))
    check_inert(owner.get("review", done="c4"))


def test_reviews_without_recorded_values_mark_those_of_their_reason_or_their_numbers(
    owner: Visitor, live: Live
) -> None:
    """Reviews of earlier versions have the values in their reason only, or nowhere."""
    open_claim(live, "old1", why="number: '90 days' against '30 days' at knowledge/x.md:1", conflicts=[])
    open_claim(live, "old2", why="support 0.50", conflicts=None)
    assert marks_of(owner.get("review"), "old1", "old2") == ["90 days", "30 days", "90", "30"]
    for name in ("old1", "old2"):
        decide(owner, name, "reject")


def test_a_doubted_response_is_marked_as_its_evaluator_recorded_it(owner: Visitor, live: Live) -> None:
    """The evaluator writes the keys that the page reads."""
    folder = live.at / "context" / "web-marked"
    folder.mkdir()
    (folder / "request.toml").write_text('query = "how are signing keys rotated"\nbudget = 700\n')
    (folder / "response.md").write_text("Rotate the signing keys every 12 days with keyctl.\n")
    page = eventually("the claim waits", lambda: "every 12 days" in (a := owner.get("review")).main_text() and a, 60)
    card = next(e for e in page.elements("h2") if "12 days" in e.text)
    assert any("12" in e.text for e in page.elements("mark")), card.text
    evaluated = owner.get("contexts/one", task="web-marked", view="evaluation")
    row = next(e.text for e in evaluated.elements("tr") if "12 days" in e.text)
    assert "contradicted" in row or "unsupported" in row
    marks = [e.text for e in evaluated.elements("mark")]
    assert any("12" in mark for mark in marks)
    assert any("ninety" in mark for mark in marks), "the value of the source is marked, too"


@pytest.mark.parametrize(
    ("conflicts", "why", "expected"),
    [
        ([{"claim": "90 days", "source": "30 days"}], "", (["90 days"], ["30 days"])),
        (
            [],
            "number: '90 days' against '30 days' at a.md:1; date: '1' against '2' at b",
            (["90 days", "1"], ["30 days", "2"]),
        ),
        ([], "", (["90"], ["30"])),
        ("none", "support 0.5", (["90"], ["30"])),
    ],
)
def test_differing_values_of_old_and_new_records(
    conflicts: object, why: str, expected: tuple[Sequence[str], Sequence[str]]
) -> None:
    assert differing_values(conflicts_of(conflicts), "after 90 days of 7", "after 30 days of 7", why) == expected


def test_a_number_that_only_one_side_has_is_no_difference() -> None:
    assert differing_values((), "after 90 days", "after some days") == ((), ())
    assert differing_values((), "same 3.5 % here", "same 3.5 % there") == ((), ())


def test_a_value_within_a_longer_one_is_not_marked() -> None:
    assert mark_values("9 of 90 days", ["9"]) == [("9", True), (" of 90 days", False)]


def test_values_are_marked_without_overlap() -> None:
    assert mark_values("in 30 days, 30", ["30", "30 days"]) == [
        ("in ", False),
        ("30 days", True),
        (", ", False),
        ("30", True),
    ]
    assert mark_values("a.c abc", ["a.c", ""]) == [("a.c", True), (" abc", False)]
    assert mark_values("x", []) == [("x", False)]
