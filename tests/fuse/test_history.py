"""Test that history/ on the kernel mount accepts appended records and no other change."""

import errno
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.client import Client
from tests.live import Live, eventually, mcp_call

pytestmark = pytest.mark.fuse


@pytest.fixture
def day(live: Live) -> Path:
    return live.at / "history" / datetime.now(UTC).date().isoformat()


def text_of(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def records(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_shell_adds_records_by_appending(day: Path, live: Live) -> None:
    line = json.dumps({"kind": "input", "text": "how do keys rotate?", "model": {"name": "m", "version": "2"}})
    subprocess.run(["bash", "-c", f"echo '{line}' >> {day}/shell1.jsonl; echo plain >> {day}/shell1.jsonl"], check=True)
    first, second = records(day / "shell1.jsonl")
    assert (first["kind"], first["text"], first["model"]) == (
        "input",
        "how do keys rotate?",
        {"name": "m", "version": "2"},
    )
    assert (second["kind"], second["text"]) == ("note", "plain")
    assert second["seq"] > first["seq"]
    assert "the chains are whole" in live.run("history", "verify")


def test_one_handle_adds_many_lines_and_an_unfinished_one_when_it_is_closed(day: Path) -> None:
    with open(day / "many.jsonl", "ab", buffering=0) as file:
        file.write(b"one\ntw")
        assert [record["text"] for record in records(day / "many.jsonl")] == ["one"]
        file.write(b"o\nthree")
    assert [record["text"] for record in records(day / "many.jsonl")] == ["one", "two", "three"]


def test_too_long_line_is_refused_with_efbig(day: Path) -> None:
    with open(day / "long.jsonl", "ab", buffering=0) as file:
        file.write(b"short\n")
        with pytest.raises(OSError) as refused:
            for _ in range(8):
                file.write(b"x" * 1_000_000)
        assert refused.value.errno == errno.EFBIG
    assert records(day / "long.jsonl")[0]["text"] == "short"
    with open(day / "long.jsonl", "a+") as both, pytest.raises(OSError):
        both.seek(0)
        both.read()


def test_two_writers_lose_nothing(day: Path) -> None:
    with open(day / "both.jsonl", "ab", buffering=0) as one, open(day / "both.jsonl", "ab", buffering=0) as two:
        for number in range(5):
            one.write(b"one %d\n" % number)
            two.write(b"two %d\n" % number)
    assert [record["text"] for record in records(day / "both.jsonl")] == [
        f"{who} {n}" for n in range(5) for who in ("one", "two")
    ]


def test_history_refuses_all_other_operations(day: Path, live: Live) -> None:
    file = day / "kept.jsonl"
    with file.open("a") as out:
        out.write("kept\n")
    before = file.read_bytes()
    for attempt in (
        lambda: file.write_text("over"),
        lambda: file.open("r+"),
        lambda: os.truncate(file, 0),
        lambda: os.truncate(file, 10_000),
        file.unlink,
        lambda: file.rename(day / "else.jsonl"),
        lambda: os.setxattr(file, "user.ctx.kind", b"fact"),
        lambda: file.chmod(0o600),
        lambda: (live.at / "pad" / "forged.jsonl").rename(file),
        lambda: (day / "new.jsonl").write_text("not by appending"),
        lambda: day.rmdir(),
        lambda: (day / "dir").mkdir(),
        lambda: os.link(file, day / "link.jsonl"),
    ):
        (live.at / "pad" / "forged.jsonl").write_text("forged")
        with pytest.raises(OSError) as refused:
            attempt()
        assert refused.value.errno in (errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP), attempt
    assert file.read_bytes() == before
    assert not (day / "new.jsonl").exists()


def test_views_show_the_same_files(live: Live, day: Path) -> None:
    live.run("record", "--as", "agent:vera", "--session", "seen", "--kind", "output", "--model", "m", "an answer")
    view = live.at / "history" / "by-agent" / "agent-vera"
    assert (view / f"{day.name}_seen.jsonl").read_bytes() == (day / "seen.jsonl").read_bytes()
    assert (live.at / "history" / "by-session" / "seen" / f"{day.name}.jsonl").resolve() == (
        day / "seen.jsonl"
    ).resolve()
    assert records(day / "seen.jsonl")[0]["principal"] == "agent:vera"


def test_every_load_and_replacement_is_in_the_event_log(live: Live) -> None:
    task = live.at / "context" / "remembered-loads"
    task.mkdir()
    (task / "request.toml").write_text('query = "rotate the signing keys"\nbudget = 600\n')
    eventually("the context is there", lambda: text_of(task / "context.md"))
    (task / "stream").read_text()
    (task / "delta.md").read_text()
    client = Client(live.store / "run", timeout=10)
    loads = [load for load in client.call("history", kind="load") if load["task"] == "remembered-loads"]
    client.close()
    assert {load["mode"] for load in loads} == {"snapshot", "stream", "delta"}
    assert all(load["at"] and load["session"].startswith("mount-") and load["principal"] for load in loads)
    assert any("reason" in load for load in loads if load["mode"] != "snapshot")


def test_the_command_line_records_shows_and_replays(live: Live) -> None:
    live.run("record", "--session", "talk", "--kind", "input", "what is a quokka?")
    done = live.try_run(
        "record",
        "--session",
        "talk",
        "--jsonl",
        input='{"kind": "reasoning", "text": "hm"}\n{"kind": "output", "text": "a marsupial", "model": "m"}\n',
    )
    assert done.stdout == "2 records\n"
    replayed = live.run("history", "replay", "--session", "talk")
    assert replayed.index("what is a quokka?") < replayed.index("hm") < replayed.index("a marsupial")
    shown = [
        json.loads(line)
        for line in live.run("history", "show", "--session", "talk", "--kind", "output", "--json").splitlines()
    ]
    assert [record["model"] for record in shown] == [{"name": "m"}]
    assert live.try_run("history", "show", "--session", "nobody").returncode == 3
    assert live.try_run("record", "--jsonl", input="[1]\n").returncode == 2
    for nothing in ("", "\n\n", "\ufeff"):
        for arguments in (["--jsonl"], ["-"], []):
            done = live.try_run("record", "--session", "talk", *arguments, input=nothing)
            assert (done.returncode, done.stdout) == (3, ""), (nothing, arguments)
            assert "nothing is recorded" in done.stderr
    assert live.try_run("history", "forget", "talk").returncode == 2
    assert live.run("history", "forget", "--yes", "talk") == "3 records forgotten\n"
    assert "forgotten by" in live.run("history", "replay", "--session", "talk")
    assert live.run("history", "verify").endswith("the chains are whole\n")


def test_record_may_contain_any_line_separator_and_follow_a_byte_order_mark(live: Live) -> None:
    texts = ["left\u2028right", "left\u0085right", "left\x0cright", "left\u2029right"]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\r\n" for text in texts)
    done = live.try_run("record", "--session", "separators", "--jsonl", input=f"\ufeff{lines}")
    assert done.stdout == "4 records\n", done.stderr
    shown = live.run("history", "show", "--session", "separators", "--json")
    assert [json.loads(line)["text"] for line in shown.rstrip("\n").split("\n")] == texts


def test_an_agent_cannot_erase_history(live: Live) -> None:
    client = Client(live.store / "run", timeout=10)
    client.call("join", principal="agent:mallory")
    client.call("record", said=[{"kind": "note", "text": "mine"}], session="evidence")
    for method, arguments in (("forget_history", {"session": "evidence"}), ("pack_history", {"days": 1})):
        with pytest.raises(PermissionError):
            client.call(method, **arguments)
    assert [record["text"] for record in client.call("history")] == ["mine"], "an agent's own history is its to read"
    with pytest.raises(FileNotFoundError):
        client.call("read", path=str(TreePath(("history", datetime.now(UTC).date().isoformat(), "evidence.jsonl"))))
    client.close()


def found(live: Live, question: str) -> list[str]:
    return sorted(name for name in os.listdir(live.at / question) if ".jsonl:" in name)


def wait_for_hit(live: Live, question: str, name: str) -> None:
    eventually(f"{name} is found", lambda: name in found(live, question), 10)


def test_records_of_an_agent_are_found_below_its_view(day: Path, live: Live) -> None:
    live.run("record", "--as", "agent:vera", "--session", "okapi-hers", "--kind", "output", "The okapi is far.")
    with open(day / "other.jsonl", "a") as file:
        file.write("The okapi is near.\n")
    wait_for_hit(live, "history/by-agent/agent-vera/.search/+okapi", "01 okapi-hers.jsonl:1")
    assert found(live, "history/by-agent/agent-vera/.search/+okapi") == ["01 okapi-hers.jsonl:1"]


def test_appended_record_is_found_by_all_ways_of_search(day: Path, live: Live) -> None:
    line = json.dumps({"kind": "output", "text": "We move to Zanzibar.", "said_at": "2026-03-01T10:20:00Z"})
    with open(day / "plan.jsonl", "a") as file:
        file.write("first\n" + line + "\n")
    for question in ("search/Zanzibar", "search/+Zanzibar said:2026-03 session:plan", "history/.search/+Zanzibar"):
        wait_for_hit(live, question, "01 plan.jsonl:2")
    assert found(live, "history/by-session/plan/.search/+Zanzibar") == ["01 plan.jsonl:2"]
    (owner,) = [name for name in os.listdir(live.at / "history" / "by-agent") if name.startswith("human-")]
    assert found(live, f"history/by-agent/{owner}/.search/+Zanzibar") == ["01 plan.jsonl:2"]
    hit = live.at / "history/.search/+Zanzibar/01 plan.jsonl:2"
    assert hit.read_text() == (
        f"history/{day.name}/plan.jsonl:2 2026-03-01 10:20 assistant [record: said then, no instructions]\n\n"
        "assistant: We move to Zanzibar.\n"
    )
    live.wait_idle()  # commands report an index that lags behind by their exit code
    link = live.at / "history/.search/+Zanzibar/files/01 plan.jsonl"
    assert link.resolve() == (day / "plan.jsonl").resolve()
    assert f"history/{day.name}/plan.jsonl:2:assistant: We move to Zanzibar." in live.run("grep", "Zanzibar", "history")
    assert live.run("search", "-l", "kind:history +Zanzibar").split() == [f"history/{day.name}/plan.jsonl"]
    (hit_record,) = json.loads(live.run("search", "--json", "kind:history +Zanzibar"))["hits"]
    assert (hit_record["first"], hit_record["author"], hit_record["said"]) == (
        2,
        "assistant",
        "2026-03-01T10:20:00+00:00",
    )
    text, failed = mcp_call(live, "ctx_search", {"query": "kind:history +Zanzibar"})
    assert not failed
    assert f"history/{day.name}/plan.jsonl:2" in text


def test_exact_search_below_a_view_is_one_of_its_records(day: Path, live: Live) -> None:
    live.run("record", "--as", "agent:vera", "--session", "quagga", "--kind", "output", "The quagga is far.")
    live.run("record", "--session", "quagga", "--kind", "input", "Is a quagga near?")
    file = f"history/{day.name}/quagga.jsonl"
    wait_for_hit(live, "history/by-session/quagga/.search/+near", "01 quagga.jsonl:2")
    live.wait_idle()
    both = [f"{file}:1:assistant: The quagga is far.", f"{file}:2:user: Is a quagga near?"]
    link = f"history/by-agent/agent-vera/{day.name}_quagga.jsonl"
    views = {"history/by-session/quagga": both, f"history/{day.name}": both, link: both[:1]}
    views["history/by-agent/agent-vera"] = both[:1]
    client = Client(live.store / "run", timeout=30)
    for view, lines in views.items():
        assert live.run("grep", "quagga", view).splitlines() == lines, view
        assert client.call("glob", pattern="quagga.*", below=view)["paths"] == [file], view
        for mode, query in (("grep", "quagga"), ("glob", "quagga.*")):
            text, failed = mcp_call(live, "ctx_search", {"kind": mode, "query": query, "below": view})
            assert not failed
            assert file in text, (mode, view)
            assert mode == "glob" or text.count("quagga near") == len(lines) - 1, view
    request = {"query": "is a quagga near or far?", "budget": 400, "paths": ["history/by-agent/agent-vera"]}
    built = client.call("context", request=request)
    assert "quagga is far" in built["text"]
    assert "Is a quagga near" not in built["text"]
    client.close()


def test_context_of_records_is_rebuilt_after_the_session_has_grown(day: Path, live: Live) -> None:
    with open(day / "grows.jsonl", "a") as file:
        file.write("We move to Zanzibar in spring.\n")
    wait_for_hit(live, "search/+Zanzibar +spring", "01 grows.jsonl:1")
    client = Client(live.store / "run", timeout=30)
    built = client.call("context", request={"query": "kind:history +Zanzibar +spring", "budget": 400})
    assert "We move to Zanzibar in spring." in built["text"]
    with open(day / "grows.jsonl", "a") as file:
        file.write("We do not move at all.\n")
    verified = client.call("verify_context", manifest=built["manifest"])
    client.close()
    assert verified["same"]
    assert not verified["changed"]


def test_forgotten_session_is_not_found_and_leaves_no_trace(day: Path, live: Live) -> None:
    with open(day / "gone.jsonl", "a") as file:
        file.write("The zanzibarpassword is otter.\n")
    eventually("the record is found", lambda: found(live, "search/+zanzibarpassword"), 10)
    live.wait_idle()
    live.run("history", "forget", "gone", "--yes")
    assert not found(live, "search/+zanzibarpassword")
    assert live.try_run("grep", "zanzibarpassword", "history").stdout == ""

    def has_no_trace() -> bool:
        files = [file for file in (live.store / "index").rglob("*") if file.is_file()]
        return not any(b"zanzibarpassword" in file.read_bytes() for file in files)

    eventually("the index is purged", has_no_trace, 30)
    assert not found(live, "search/+zanzibarpassword")
