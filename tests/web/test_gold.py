"""Test that a hit is recorded as the right one, for ctxfs eval."""

import json

from tests.live import Live
from tests.web.site import Site, Visitor, until_found


def test_right_hit_is_recorded_once_for_its_question_and_measured(owner: Visitor, live: Live) -> None:
    page = until_found(owner, "how are signing keys rotated", "rotat")
    values: dict[str, str] = {}
    for element in page.elements("input"):
        values.setdefault(element.attributes.get("name", ""), element.attributes.get("value", ""))
    fields = {name: values[name] for name in ("form_token", "q", "path", "lines")}
    for _ in range(2):
        assert "1 question in" in owner.post("ask/right", fields).main_text()
    (record,) = map(json.loads, (live.at / "human/gold.jsonl").read_text().splitlines())
    assert record["question"] == "how are signing keys rotated"
    assert len(record["relevant"]) == 1
    figures = json.loads(live.run("eval", "--json", "--budget", "500"))
    assert (figures["questions"], figures["recall@10"]) == (1, 1.0)
    assert "2 questions" in live.run("gold", "where is the runbook?", "knowledge/handbook/chat.txt:1-2")
    assert owner.post("ask/right", {**fields, "path": "knowledge%2Fabsent.md"}).status == 404


def test_agents_page_records_nothing(site: Site, live: Live) -> None:
    agent = site.visitor("--as", "agent:alice")
    page = until_found(agent, "how are signing keys rotated", "rotat")
    assert "right one" not in page.main_text()
    fields = {"form_token": agent.form_token(), "q": "x", "path": "knowledge%2Fhandbook%2Frotation.md", "lines": "1-2"}
    assert agent.post("ask/right", fields).status == 403
