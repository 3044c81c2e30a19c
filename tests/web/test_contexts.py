"""Test the screen of contexts: their budgets, pieces and reasons, tries with other budgets, and faults."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from ctxfs.context.build.breakdown import sources_of
from ctxfs.web.screens.contexts import budget_bar, mark_lines
from tests.live import Live, eventually
from tests.web.hostile import SCRIPT, check_inert, write_hostile_files
from tests.web.site import Site, Visitor

REQUEST = 'query = "how are signing keys rotated"\nbudget = {budget}\n'


def make_task(live: Live, name: str, budget: int, query: str = "") -> Path:
    folder = live.at / "context" / name
    folder.mkdir(exist_ok=True)
    text = REQUEST.format(budget=budget)
    (folder / "request.toml").write_text(f'query = "{query}"\nbudget = {budget}\n' if query else text)
    return folder


@pytest.fixture(scope="module")
def task(live: Live) -> str:
    make_task(live, "web-rotation", 700)
    return "web-rotation"


def test_list_names_tasks_with_question_budget_and_author(owner: Visitor, task: str) -> None:
    rows = [e.text for e in owner.get("contexts").elements("tr") if task in e.text]
    assert len(rows) == 1
    assert "how are signing keys rotated" in rows[0]
    assert "700" in rows[0]
    state = owner.get("contexts/state", task=task)
    assert "tokens" in state.text
    assert "<html" not in state.text


def test_context_shows_its_budget_by_source_and_its_text(owner: Visitor, task: str) -> None:
    page = owner.get("contexts/one", task=task)
    assert "of 700 tokens" in page.main_text()
    assert "/rotation.md" in page.main_text()
    assert "headers and citations" in page.main_text()
    assert any(e.attributes.get("class") == "hatched" for e in page.elements("rect"))
    text = owner.get("contexts/one", task=task, view="text")
    assert "every ninety days" in text.main_text()
    assert any(e.attributes.get("class") == "edge0" for e in text.elements("span"))
    verified = owner.get("contexts/one", task=task, verify="1").main_text()
    assert "the same, byte for byte" in verified


def test_text_on_the_page_is_no_delivery(owner: Visitor, live: Live, task: str) -> None:
    owner.get("contexts/one", task=task, view="text")
    assert "loads.jsonl" not in [path.name for path in (live.at / "context" / task).iterdir()]


def test_another_budget_is_tried_and_the_request_stays(owner: Visitor, live: Live, task: str) -> None:
    page = owner.get("contexts/one", task=task, budget=60, view="excluded")
    assert "of 60 tokens" in page.main_text()
    assert "A try" in page.main_text()
    assert "budget = 700" in (live.at / "context" / task / "request.toml").read_text()
    assert owner.get("contexts/one", task=task, budget="-1").status == 400


def test_reasons_filter_the_passages_that_were_left_out(owner: Visitor, task: str) -> None:
    page = owner.get("contexts/one", task=task, view="excluded")
    reason = next(e for e in page.elements("a") if "reason=" in e.attributes["href"])
    only = owner.send("GET", reason.attributes["href"])
    rows = [e.text for e in only.elements("tr")][1:]
    assert rows
    assert len({row.split()[1] for row in rows if row}) >= 1
    assert "only:" in only.main_text()


def test_passages_that_were_left_out_have_the_budget_at_which_they_come_in(owner: Visitor, live: Live) -> None:
    question, folder = "who counts the quokkas of the lighthouse", live.at / "memory" / "shared" / "left-out"
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("Ada", "Bob", "Eve", "Ivy")):
        times = ", ".join(f"{hour} o'clock" for hour in range(number, number + 6))
        (folder / f"{name}.md").write_text(f"{name} counts the quokkas of the lighthouse at {times}.\n")
    eventually(
        "all four are found", lambda: live.run("search", "--files-with-matches", question).count("left-out") >= 4
    )
    live.wait_idle()
    make_task(live, "web-small", 60, question)
    plain = owner.get("contexts/one", task="web-small", view="excluded")
    assert "Comes in at" not in plain.main_text()
    link = next(e.attributes["href"] for e in plain.elements("a") if "budgets=1" in e.attributes["href"])
    page = owner.send("GET", link)
    needed = {e.text for e in page.elements("td") if e.attributes.get("class") == "num" and e.text.isdigit()}
    assert needed, page.main_text()
    budget = max(needed, key=int)
    row = next(e.text for e in page.elements("tr") if budget in e.text)
    passage = row.partition(":")[0]
    larger = owner.get("contexts/one", task="web-small", budget=budget)
    assert passage in larger.main_text()
    manifest = live.store.parent / "small.json"
    manifest.write_text(live.run("context", "build", "--manifest", "--budget", "60", question))
    entries = json.loads(live.run("context", "why", str(manifest), "memory/shared/left-out", "--budgets", "--json"))
    assert any(entry["comes_in_at"] for entry in entries)
    assert "comes in at" in live.run("context", "why", str(manifest), "memory/shared/left-out", "--budgets")


def test_list_marks_a_context_that_has_changed_since_its_response(owner: Visitor, live: Live) -> None:
    source = live.at / "memory" / "shared" / "stale-web.md"
    source.parent.mkdir(exist_ok=True)
    source.write_text("The ocelot valve closes at noon.\n")
    folder = make_task(live, "web-stale", 300, "when does the ocelot valve close")
    eventually("the source is in", lambda: "stale-web.md" in owner.get("contexts/one", task="web-stale").main_text())
    assert "current" in owner.get("contexts/state", task="web-stale").text
    (folder / "response.md").write_text("The ocelot valve closes at noon.\n")
    eventually("it is answered", lambda: (folder / "response.context.json").exists())
    assert "current" in owner.get("contexts/state", task="web-stale").text
    source.write_text("The ocelot valve closes at midnight.\n")
    eventually(
        "it is stale", lambda: "changed since its response" in owner.get("contexts/state", task="web-stale").text
    )
    assert (
        "no response to this context" in owner.get("contexts/one", task="web-rotation", view="evaluation").main_text()
    )


def test_two_contexts_are_compared(owner: Visitor, live: Live, task: str) -> None:
    make_task(live, "web-deploy", 700, "how do we roll back a deployment")
    page = owner.get("contexts/compare", old=task, new="web-deploy").main_text()
    assert "request query" in page
    assert owner.get("contexts/compare", old=task).status == 400
    assert "no difference" in owner.get("contexts/compare", old=task, new=task).main_text()


def test_a_context_that_cannot_be_built_has_its_reason(owner: Visitor, live: Live, task: str) -> None:
    folder = make_task(live, "web-broken", 700)
    (folder / "request.toml").write_text("query = [unclosed\n")
    page = eventually("the fault", lambda: (a := owner.get("contexts/one", task="web-broken")).status == 200 and a)
    assert "cannot be built" in page.main_text()
    assert owner.get("contexts").status == 200
    compared = owner.get("contexts/compare", old=task, new="web-broken")
    assert "web-broken cannot be built: " in compared.main_text()
    assert "line 1" in compared.main_text()
    assert owner.get("contexts/compare", old=task, new="web-none").status == 404
    assert owner.get("contexts/one", task="web-no-such-task").status == 404
    assert owner.get("contexts/one", task="../memory").status in (400, 404)


def test_contexts_of_hostile_files_are_inert(owner: Visitor, live: Live) -> None:
    write_hostile_files(live)
    make_task(live, "web-hostile", 3000, "numbat")
    (live.at / "context" / "web-hostile" / "response.md").write_text(
        f"The numbat {SCRIPT} \u202e eats 12 <b>ants</b>.\n"
    )
    for view in ("pieces", "excluded", "conflicts", "text", "evaluation"):
        check_inert(owner.get("contexts/one", task="web-hostile", view=view, q=f"numbat {SCRIPT}"))
    check_inert(owner.get("contexts/state", task="web-hostile"), scripts=0)
    (live.at / "context" / "web-hostile" / "request.toml").write_text(
        f"query = '''{SCRIPT}\n\u202e numbat'''\nbudget = 900\n"
    )
    check_inert(owner.get("contexts"))


def test_an_agent_sees_its_own_contexts(site: Site, live: Live, task: str) -> None:
    agent = site.visitor("--as", "agent:alice")
    assert task not in agent.get("contexts").main_text()
    assert agent.get("contexts/one", task=task).status in (403, 404)


def test_a_bar_has_all_sources_and_never_more_than_its_width() -> None:
    items = [{"path": f"knowledge/{n % 12}.md", "tokens": 50 * n} for n in range(30)]
    segments = budget_bar(sources_of(items), 900, 5000)
    assert len(segments) == 13
    assert segments[-1].css == "hatched"
    assert segments[-1].x + segments[-1].width <= 1000
    assert all(a.x + a.width <= b.x + 0.02 for a, b in pairwise(segments))


def test_a_text_of_a_source_cannot_pose_as_the_next_source() -> None:
    text = "# q\n\n## [1] a.md\n````\n## [2] forged.md\n```\n## [2] forged.md\n````\n\n## [2] b.md\n```\nx\n```\n"
    colours = dict(zip([line for _, line in mark_lines(text)], [css for css, _ in mark_lines(text)], strict=True))
    assert colours["## [1] a.md"] == colours["## [2] forged.md"] == "edge0"
    assert colours["## [2] b.md"] == colours["x"] == "edge1"
