"""Test that summaries of sessions follow the event log, continue where they ended, and are written to memory once."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ctxfs.app import App
from ctxfs.eventlog.session_files import SessionFiles, lines_of_file
from ctxfs.model.change import Put, Remove
from ctxfs.model.path import Path as TreePath
from ctxfs.model.principal import Principal
from ctxfs.store.layout import Layout
from ctxfs.vfs.caller_context import acting

BOB = Principal("agent", "bob")


@pytest.fixture
def app(layout: Layout) -> Iterator[App]:
    made = App(layout)
    yield made
    made.grep_pool.close()
    made.archive.close()
    made.spool.close()


def say(app: App, session: str, *texts: str, kind: str = "input", principal: str = "agent:bob") -> None:
    app.history.append(session, [{"principal": principal, "kind": kind, "text": text} for text in texts])


def summary(app: App, session: str, principal: Principal | None = None) -> str:
    async def read() -> str:
        with acting(principal):
            return (await app.derived_memory.sessions.read(session)).text

    return trio.run(read)


def memory(app: App, session: str, principal: str = "bob") -> str:
    day = app.history.days()[0]
    return (app.layout.tree / "memory" / principal / "episodic" / f"{day}-{session}.md").read_text()


def test_summary_has_records_that_came_after_the_last_read(app: App) -> None:
    say(app, "s", "first question?")
    assert "first question?" in summary(app, "s")
    say(app, "s", "second question?")
    text = summary(app, "s")
    assert "first question?" in text
    assert "second question?" in text
    assert "- records: 2 " in text


def test_summary_of_a_compressed_and_of_an_erased_session(app: App) -> None:
    say(app, "s", "first question?")
    before = summary(app, "s")
    file = next(app.layout.history.glob("*/s.jsonl"))
    file.with_name("s.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    assert summary(app, "s") == before
    app.history.erase_session("s", "human:ada")
    assert "first question" not in summary(app, "s")


def test_unknown_session_and_one_of_another_agent_do_not_exist(app: App) -> None:
    say(app, "s", "whose?")
    say(app, "bob", "mine?")
    for session, principal in (("t", None), ("s", BOB), ("bob", Principal("agent", "eve"))):
        with pytest.raises(FileNotFoundError):
            summary(app, session, principal)
    assert "mine?" in summary(app, "bob", BOB)


def test_line_that_is_being_written_is_left_out_until_it_ends(app: App) -> None:
    say(app, "s", "whole?")
    file = next(app.layout.history.glob("*/s.jsonl"))
    line = file.read_bytes().replace(b"whole?", b"torn and whole?")
    with file.open("ab") as out:
        out.write(line[:50])
    assert "torn" not in summary(app, "s")
    with file.open("ab") as out:
        out.write(line[50:])
    assert "torn and whole?" in summary(app, "s")


def test_damaged_lines_cost_themselves_only(app: App) -> None:
    say(app, "s", "before?")
    file = next(app.layout.history.glob("*/s.jsonl"))
    with file.open("ab") as out:
        out.write(b'\x00\xff not json\n[1, 2]\n{"kind": 7, "text": {"a": 1}}\n' + b"[" * 50_000 + b"\n\n")
        out.write(b'{"seq": 9, "kind": "output", "text": "' + b"We decided to go on. " * 400_000 + b'", "hash": "x"}\n')
    say(app, "s", "after?")
    text = summary(app, "s")
    assert "before?" in text
    assert "We decided to go on." in text
    assert "after?" in text


def test_lines_of_a_file_continue_at_an_offset(tmp_path: Path) -> None:
    day = tmp_path / "2026-11-29"
    day.mkdir()
    (day / "s.jsonl").write_bytes(b"one\ntwo\nthr")
    (file,) = SessionFiles(tmp_path).of_session("s")
    lines = list(lines_of_file(file))
    assert [(number, line.data) for number, _, line in lines] == [(1, b"one\n"), (2, b"two\n")]
    (day / "s.jsonl").write_bytes(b"one\ntwo\nthree\n")
    assert [(n, line.data) for n, _, line in lines_of_file(file, lines[-1][1], 3)] == [(3, b"three\n")]
    assert [file.session for file in SessionFiles(tmp_path).of_day("2026-11-29")] == ["s"]
    assert SessionFiles(tmp_path).of_session("../s") == []


def test_episode_is_written_once_for_an_agent_that_may_read_the_session(app: App) -> None:
    say(app, "talk", "How do keys rotate?")
    assert trio.run(app.derived_memory.episodes.write, "talk") != []
    assert "How do keys rotate?" in memory(app, "talk")
    assert trio.run(app.derived_memory.episodes.write, "talk") == []
    say(app, "talk", "Since when?")
    assert trio.run(app.derived_memory.episodes.write, "talk") != []
    assert "Since when?" in memory(app, "talk")
    versions = app.archive.reader.versions(f"memory/bob/episodic/{app.history.days()[0]}-talk.md")
    assert {version.commit.actor.tool for version in versions} == {"episodes"}
    attributes = app.archive.reader.attributes_of(versions[-1])[1]
    assert attributes["user.ctx.trust"] == b"untrusted"
    assert attributes["user.ctx.source"] == b"history/by-session/talk"
    assert b"derived" in attributes["user.ctx.tags"]


def test_no_episode_for_an_agent_that_may_not_read_all_of_a_session(app: App) -> None:
    say(app, "talk", "How do keys rotate?")
    say(app, "talk", "secret of eve", principal="agent:eve")
    say(app, "person", "mine alone?", principal="human:ada")
    for session in ("talk", "person"):
        assert trio.run(app.derived_memory.episodes.write, session) == []
    rule = '[[rule]]\nprincipal = "agent:bob"\npath = "history/**"\nverbs = "r"\neffect = "deny"\n'
    say(app, "own", "whose?")
    (app.layout.root / "policy.toml").write_text(rule)
    app.policy.reload()
    assert trio.run(app.derived_memory.episodes.write, "own") == []
    with pytest.raises(FileNotFoundError):
        trio.run(app.derived_memory.episodes.write, "unknown")


def test_episode_that_was_edited_or_removed_is_left_alone(app: App) -> None:
    say(app, "talk", "How do keys rotate?")
    say(app, "other", "Why?")
    paths = [trio.run(app.derived_memory.episodes.write, session)[0] for session in ("talk", "other")]
    app.archive.commit()
    session = app.session(app.principal)
    trio.run(session.tree.apply, Put(TreePath.parse(paths[0]), b"edited"))
    trio.run(session.tree.apply, Remove(TreePath.parse(paths[1])))
    session.close()
    for name in ("talk", "other"):
        say(app, name, "And then?")
        assert trio.run(app.derived_memory.episodes.write, name) == []
    assert memory(app, "talk") == "edited"


def test_session_ends_with_its_last_record_or_after_a_while(app: App) -> None:
    say(app, "ended", "Why?")
    app.history.append("ended", [{"principal": "agent:bob", "kind": "session_end"}])
    say(app, "open", "Why not?")
    assert [path.rpartition("-")[2] for path in trio.run(app.derived_memory.episodes.write_ended)] == ["ended.md"]
    assert trio.run(app.derived_memory.episodes.write_ended) == []
    now = next(app.layout.history.glob("*/open.jsonl")).stat().st_mtime_ns
    assert not app.derived_memory.sessions.is_over(False, now)
    assert app.derived_memory.sessions.is_over(False, now - 30 * 60 * 10**9)


def test_ended_session_is_summed_up_by_the_configured_command(layout: Layout, tmp_path: Path) -> None:
    program = tmp_path / "summarise"
    program.write_text('#!/bin/sh\ncat > "$0.json"\necho \'keys were discussed\'\necho x >> "$0.runs"\n')
    program.chmod(0o755)
    layout.config.write_text(f'[context]\nsummariser = "{program}"\n[memory]\nsummarise = true\n')
    app = App(layout)
    try:
        say(app, "s", "How do keys rotate?")
        assert "keys were discussed" not in summary(app, "s"), "it has not ended"
        app.history.append("s", [{"principal": "agent:bob", "kind": "session_end"}])
        text = summary(app, "s")
        assert "keys were discussed" in text
        assert "summed up by a command" in text
        assert summary(app, "s") == text
        assert (tmp_path / "summarise.runs").read_text() == "x\n", "one run for each last record"
        question = json.loads((tmp_path / "summarise.json").read_text())
        assert question["task"] == "summarise"
        assert "How do keys rotate?" in question["pieces"][0]["text"]
        program.write_text("#!/bin/sh\nexit 3\n")
        app.history.append("s", [{"principal": "agent:bob", "kind": "session_end"}])
        assert "the summariser failed" in summary(app, "s")
    finally:
        app.archive.close()
        app.spool.close()
