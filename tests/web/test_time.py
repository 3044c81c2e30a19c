"""Test the screen of versions: lanes, changes, snapshots, and rollbacks that are shown before they are made."""

from collections.abc import Iterator

import pytest

from ctxfs.web.lanes import MAX_LANES, lay_lanes
from tests.live import Live, eventually, mcp_call
from tests.web.hostile import NAMES, SCRIPT, check_inert, write_hostile_files
from tests.web.site import Answer, Site, Visitor

FILE = "memory/shared/then.md"
TEXTS = ("One valve.\n", "One valve.\nTwo pumps.\n", "One valve.\nThree pumps.\n")


@pytest.fixture(scope="module", autouse=True)
def _versions(live: Live) -> Iterator[None]:
    file = live.at / FILE
    file.parent.mkdir(exist_ok=True)
    for text in TEXTS:
        file.write_text(text)
        live.run("commit")
    yield
    file.unlink(missing_ok=True)


def confirm(owner: Visitor, preview: Answer, reason: str = "") -> Answer:
    """Send the form of a dry run."""
    form = next(e for e in preview.elements("form") if "rollback" in e.attributes["action"])
    shown = next(e.attributes["value"] for e in preview.elements("input") if e.attributes.get("name") == "shown")
    fields = {"form_token": owner.form_token(), "shown": shown, "reason": reason}
    return owner.post(form.attributes["action"].removeprefix(f"{owner.prefix}/"), fields)


def test_versions_stand_in_lanes_and_lead_to_their_changes(owner: Visitor, live: Live) -> None:
    page = owner.get("time", path=FILE)
    rows = [e for e in page.elements("tr") if "write" in e.text]
    assert len(rows) == 3
    assert sum(e.tag == "circle" for e in page.elements()) == 3
    change = owner.send(
        "GET", next(e for e in page.elements("a") if "time/version" in e.attributes["href"]).attributes["href"]
    )
    assert "-Two pumps." in change.main_text()
    assert "+Three pumps." in change.main_text()
    assert live.run("diff", FILE, "--from", "prev").count("pumps") == 2
    assert owner.get("time", path="memory/shared/no-such-file").status == 404
    assert owner.get("time", principal="agent:nobody").main_text().count("There are no versions") == 1


def test_log_ends_at_a_version_and_pages_go_on_from_there(owner: Visitor, live: Live) -> None:
    newest, middle, _ = (line.split()[0] for line in live.run("log", FILE).splitlines())
    assert live.run("log", FILE, "--at", middle).startswith(middle)
    page = owner.get("time", path=FILE, at=middle)
    assert middle in page.main_text()
    assert newest not in [e.text for e in page.elements("a")]


def test_first_version_is_compared_with_nothing(owner: Visitor, live: Live) -> None:
    first = live.run("log", FILE).splitlines()[-1].split()[0]
    assert "+One valve." in owner.get("time/version", path=FILE, at=first).main_text()


def test_snapshot_is_a_flag_at_its_version(owner: Visitor, live: Live) -> None:
    assert owner.post("time/snapshot", {"form_token": owner.form_token(), "name": "flagged"}).status == 303
    assert any("⚑ flagged" in e.text for e in owner.get("time").elements("tr"))
    assert "flagged" in live.run("snapshot")
    assert owner.post("time/snapshot", {"form_token": owner.form_token(), "name": "../x"}).status == 400


def test_session_of_an_agent_is_undone_after_a_dry_run(owner: Visitor, live: Live) -> None:
    mcp_call(
        live, "ctx_write", {"path": "memory/alice/wrong.md", "content": "A wrong fact.\n"}, principal="agent:alice"
    )
    live.run("commit")
    page = owner.get("time", path="memory/alice")
    link = next(e.attributes["href"] for e in page.elements("a") if e.text == "undo the session")
    preview = owner.send("GET", link)
    assert "memory/alice/wrong.md" in preview.main_text()
    assert "-A wrong fact." in preview.main_text()
    assert (live.at / "memory/alice/wrong.md").exists(), "a dry run"
    done = confirm(owner, preview, "it was wrong")
    assert done.status == 303
    assert not (live.at / "memory/alice/wrong.md").exists()
    assert "it was wrong" in owner.send("GET", done.headers["location"]).main_text()


def test_path_is_restored_to_a_version(owner: Visitor, live: Live) -> None:
    first = live.run("log", FILE).splitlines()[-1].split()[0]
    preview = owner.get("time/rollback", action="restore", path=FILE, to=first)
    assert confirm(owner, preview).status == 303
    assert (live.at / FILE).read_text() == TEXTS[0]
    again = owner.get("time/rollback", action="restore", path=FILE, to=first)
    assert "Nothing would change" in again.main_text()
    undo = owner.get("time/rollback", action="undo", path=FILE)
    assert confirm(owner, undo).status == 303
    assert (live.at / FILE).read_text() == TEXTS[-1]


def test_content_of_a_source_is_taken_back(owner: Visitor, live: Live) -> None:
    arguments = {"path": "pad/poisoned.md", "content": "Poison.\n", "source": "https://evil.example/page"}
    mcp_call(live, "ctx_write", arguments, principal="agent:alice")
    live.run("commit")
    preview = owner.get("time/rollback", action="origin", source="https://evil.example/page")
    assert "pad/poisoned.md" in preview.main_text()
    assert confirm(owner, preview).status == 303
    assert not (live.at / "pad/poisoned.md").exists()


def test_changes_that_were_not_shown_are_not_made(owner: Visitor, live: Live) -> None:
    preview = owner.get("time/rollback", action="restore", path=FILE, to="prev")
    (live.at / FILE).write_text("Written meanwhile.\n")
    refused = confirm(owner, preview)
    assert refused.status == 409
    assert "Nothing was done" in refused.main_text()
    assert (live.at / FILE).read_text() == "Written meanwhile.\n"


def test_slider_shows_a_file_as_of_each_version(owner: Visitor) -> None:
    assert "One valve." in owner.get("time/file", path=FILE, n=1).main_text()
    assert "Two pumps." not in owner.get("time/file", path=FILE, n=1).main_text()
    assert "Two pumps." in owner.get("time/file", path=FILE, n=2).main_text()
    part = owner.get("time/file", {"HX-Request": "true"}, path=FILE, n=2)
    assert "<html" not in part.text
    assert "Two pumps." in part.text
    assert owner.get("time/file", path=FILE, n=9999).status == 200
    assert owner.get("time/file", path="memory/shared/no-such-file").status == 404


def test_an_agent_reads_its_own_time_and_changes_nothing(site: Site, live: Live) -> None:
    mcp_call(live, "ctx_write", {"path": "memory/alice/own.md", "content": "Own.\n"}, principal="agent:alice")
    live.run("commit")
    agent = site.visitor("--as", "agent:alice")
    everything = agent.get("time")
    assert everything.status == 200
    assert "name a path that it may" in everything.main_text()
    assert any(e.text == "memory" for e in everything.elements("a"))
    page = agent.get("time", path="memory/alice")
    assert len(page.elements("tr")) > 1
    assert not [
        e for e in page.elements("form") if e.attributes.get("method") == "post" and "time" in e.attributes["action"]
    ]
    assert not [e for e in page.elements("a") if "rollback" in e.attributes["href"]]
    fields = {"form_token": agent.form_token(), "shown": "", "name": "mine"}
    assert agent.post("time/rollback?action=undo&path=memory/alice", fields).status == 403
    assert agent.post("time/snapshot", fields).status == 403
    assert (live.at / "memory/alice/own.md").exists()


def test_time_of_hostile_files_is_inert(owner: Visitor, live: Live) -> None:
    folder = write_hostile_files(live)
    live.run("commit")
    check_inert(owner.get("time", path="memory/mallory"))
    check_inert(owner.get("time", principal=SCRIPT, session=SCRIPT))
    check_inert(owner.get("time/version", path="memory/mallory"))
    for name in NAMES:
        path = f"memory/mallory/{name}"
        check_inert(owner.get("time/file", path=path))
        preview = owner.get("time/rollback", action="undo", path=path)
        check_inert(preview)
        assert confirm(owner, preview).status == 303
        eventually("the mount has followed", lambda name=name: name not in [entry.name for entry in folder.iterdir()])


def test_unknown_actions_are_refused(owner: Visitor) -> None:
    for query in ({}, {"action": "forget"}, {"action": "restore"}, {"action": "origin", "path": "memory"}):
        assert owner.get("time/rollback", **query).status == 400


def test_many_sessions_share_the_last_lane() -> None:
    versions = [{"principal": f"agent:a{number % 30}", "session": str(number % 30)} for number in range(90)]
    lanes = lay_lanes(versions)
    assert len(lanes.lanes) == MAX_LANES
    assert lanes.lanes[-1].is_shared
    assert all(sum(stroke.is_here for stroke in row) == 1 for row in lanes.strokes)
    assert sum(lane.count for lane in lanes.lanes) == len(versions)
    assert lay_lanes([]).width > 0
