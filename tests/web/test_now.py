"""Test the screen of the present: sources, waiting work, principals of the last hour, and the audit as it happens."""

import http.client
import json
import subprocess
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from ctxfs.services.waiting_work import waiting_work
from tests.live import BOUND, Live, eventually, mcp_call
from tests.web.hostile import NAMES, check_inert, write_hostile_files
from tests.web.site import Site, Visitor


def test_page_shows_coverage_principals_and_operations(owner: Visitor, live: Live) -> None:
    mcp_call(live, "ctx_read", {"path": "knowledge/handbook/rotation.md"}, principal="agent:counted")
    mcp_call(live, "ctx_read", {"path": "knowledge/handbook/deploy.md"}, principal="agent:counted")
    page = eventually("the agent is there", lambda: "agent:counted" in (a := owner.get("now")).main_text() and a)
    text = page.main_text()
    assert "knowledge/handbook" in text
    assert "words:" in text
    assert "rotation.md" in text
    cells = next(e.text for e in page.elements("tr") if "agent:counted" in e.text)
    assert cells.startswith("agent:counted2"), "two reads"
    assert owner.get("now", principal="agent:counted").main_text().count("agent:counted") > 1
    refused = owner.get("now", outcome="refused")
    assert all("EACCES" in e.text for e in refused.elements("li") if e.attributes.get("class") == "refused")


def test_failed_checks_come_with_their_commands_after_the_page(owner: Visitor, live: Live) -> None:
    """The first response does not wait for the checks; a browser loads them, and without scripts a link does."""
    page = owner.get("now")
    part = next(e.attributes["hx-get"] for e in page.elements("div") if e.attributes.get("id") == "doctor")
    assert part in [e.attributes["href"] for e in page.elements("a")]
    loaded = owner.send("GET", part, {"HX-Request": "true"})
    assert loaded.status == 200
    assert "<html" not in loaded.text
    checks = json.loads(live.try_run("doctor", "--json").stdout)
    failed = [check for check in checks if not check["ok"]]
    for check in failed:
        assert check["remedy"] in "".join(e.text for e in loaded.elements("code"))
    assert failed or f"All {len(checks)} checks" in loaded.text
    whole = owner.get("now/doctor")
    assert len(whole.elements("h1")) == 1
    assert whole.elements("time")[0].text == loaded.elements("time")[0].text, "within five minutes, the same report"


def test_new_checks_find_a_fault_and_name_its_command(owner: Visitor, live: Live) -> None:
    folder = live.corpus.parent / "goes-away"
    folder.mkdir()
    live.run("add", str(folder), "--name", "goes-away")
    try:
        folder.rmdir()
        found = owner.get("now/doctor", again=1)
        assert "goes-away" in found.main_text()
        write_hostile_files(live)
        check_inert(owner.get("now/doctor", again=1))
        assert any("ctxfs remove goes-away" in e.text for e in found.elements("code"))
    finally:
        live.run("remove", "goes-away")
    assert "ctxfs remove goes-away" not in owner.get("now/doctor", again=1).main_text()


def stream(
    visitor: Visitor, more: Mapping[str, str] | None = None, **query: str
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", visitor.port, timeout=BOUND)
    headers = {"Host": visitor.host, "Cookie": f"ctxfs={visitor.cookie}", "Sec-Fetch-Site": "same-origin"}
    connection.request("GET", visitor.path("now/live", **query), headers=headers | dict(more or {}))
    return connection, connection.getresponse()


def test_stream_begins_after_the_list_of_the_page_or_the_last_event(owner: Visitor, live: Live) -> None:
    """An operation between the page and its stream, or while that is away, is shown once."""
    page = owner.get("now")
    address = next(e.attributes["data-live"] for e in page.elements("ol") if "data-live" in e.attributes)
    after = parse_qs(urlsplit(address).query)["after"][0]
    live.run("record", "between the page and its stream", "--session", "between")
    (live.at / "pad" / "between.txt").write_text("x")
    connection, response = stream(owner, after=after)
    lines = read_until(response, "between.txt")
    connection.close()
    last = identifiers(lines)[-1]
    (live.at / "pad" / "later.txt").write_text("x")
    connection, response = stream(owner, {"Last-Event-ID": str(last)}, after=after)
    lines = read_until(response, "later.txt")
    connection.close()
    assert min(identifiers(lines), default=last + 1) > last
    for wrong in ("-1", "x", "9" * 30):
        connection, response = stream(owner, after=wrong)
        assert response.status == 200
        connection.close()


def identifiers(lines: Sequence[str]) -> list[int]:
    return [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]


def read_until(response: http.client.HTTPResponse, word: str) -> list[str]:
    """Return the lines of an event stream up to the end of the operations that were sent together with one of a word."""
    lines: list[str] = []
    while not (any(word in line for line in lines) and lines[-1] == "\n" and identifiers(lines[-4:])):
        lines.append(response.readline().decode())
        assert lines[-1], "the stream has ended"
    return lines


def test_operations_of_hostile_names_are_one_inert_row_each(owner: Visitor, live: Live) -> None:
    connection, response = stream(owner)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.readline() == b"retry: 2000\n"
    write_hostile_files(live)
    lines: list[str] = []
    while sum("mallory" in line for line in lines) < len(NAMES):
        line = response.readline().decode()
        assert line == "\n" or line.startswith(("event: row", "id: ", "data: <li", ":")), line
        lines.append(line)
    connection.close()
    text = "".join(lines)
    assert "<script" not in text
    assert "<img" not in text
    assert "\u202e" not in text
    assert "\x1b" not in text
    check_inert(owner.get("now"))


def test_an_agent_gets_neither_the_page_nor_the_stream(site: Site, live: Live) -> None:
    agent = site.visitor("--as", "agent:alice")
    assert agent.get("now").status == 403
    for viewer in (agent.get("now/doctor"), site.visitor().get("now/doctor", **{"as": "agent:alice"})):
        assert viewer.status == 403
    assert "<html" not in agent.get("now/doctor", {"HX-Request": "true"}).text
    connection, response = stream(agent)
    assert response.status == 403
    connection.close()


def test_a_followed_audit_does_not_follow_itself(owner: Visitor, live: Live) -> None:
    connection, response = stream(owner, principal="human:nobody")
    response.readline()
    before = len(live.try_run("history", "audit", "--op", "history", "--json").stdout.splitlines())
    assert owner.get("now").status == 200
    after = live.try_run("history", "audit", "--op", "history", "--json").stdout.splitlines()
    assert len(after) <= before + 1, "only the command itself is recorded"
    connection.close()


def test_command_follows_and_counts_the_same_operations(live: Live) -> None:
    process = subprocess.Popen(
        live.command("history", "audit", "--follow", "--json"), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()  # the operations before
    (live.at / "pad" / "followed.txt").write_text("x")
    for line in process.stdout:
        if "followed.txt" in json.loads(line).get("path", ""):
            break
    process.terminate()
    process.wait()
    process.stdout.close()
    counts = json.loads(live.run("history", "activity", "--json"))
    assert counts["complete"]
    assert any(row["writes"] for row in counts["principals"])
    assert "writes" in live.run("history", "activity")
    assert live.try_run("history", "audit", "memory", "--follow").returncode == 2


def test_waiting_work_names_a_command_for_each_fault() -> None:
    report = {
        "index": {"state": "down: the disk is full", "damaged": ""},
        "citations": {"broken": 3},
        "policy": {"fault": "line 3"},
        "memory": {"fault": "", "remarks": {"memory/x.md": "no source"}},
        "versions": {"state": "ok", "unrecorded": "the disk is full"},
        "sources": [{"at": "knowledge/gone", "state": "down: the folder does not exist"}],
        "mounts": [{"at": "/m", "fault": "dead"}],
        "secrets": {"pad/k.txt": ["line 1: AWS Access Key"]},
        "found": [],
    }
    rows = waiting_work(report)
    assert len(rows) == 8
    assert all(row.command.startswith("ctxfs ") for row in rows)
