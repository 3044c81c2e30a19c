"""Test that a message is imported once: by a second import, a resumed or forked session, and after an interruption."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ctxfs.eventlog.capture_spool import CAPTURE_ORIGIN
from ctxfs.eventlog.client_sessions import session_of_client
from ctxfs.eventlog.imported import DATABASE_NAME
from ctxfs.model.principal import Principal
from tests.transcripts import samples
from tests.transcripts.conftest import Store, Target
from tests.transcripts.samples import FORK, SESSION, claude_line, uid, write_lines, write_zip


def folder_of(client: str, home: Path) -> Path:
    match client:
        case "claude-code":
            return samples.claude_project(home)
        case "codex":
            samples.codex_file(home, samples.codex_lines())
            return home / ".codex"
        case "gemini":
            return samples.gemini_folder(home)
        case "chatgpt":
            return write_zip(home / "export.zip", {"conversations.json": [samples.chatgpt_conversation()]})
        case "claude":
            return write_zip(home / "export.zip", {"conversations.json": [samples.claude_conversation()]})
        case _:
            return write_lines(home / "x.jsonl", [{"text": "same"}, {"text": "same"}, {"text": "other", "id": 1}])


CLIENTS = ("claude-code", "codex", "gemini", "chatgpt", "claude", "jsonl")


@pytest.mark.parametrize("client", CLIENTS)
def test_second_import_adds_nothing(client: str, store: Store, tmp_path: Path) -> None:
    folder = folder_of(client, tmp_path)
    first = store.add(client, folder)
    assert first.added
    second = store.add(client, folder)
    assert (second.added, second.messages) == (0, first.messages)
    assert len(store.records()) == first.added


@pytest.mark.parametrize("client", CLIENTS)
def test_import_without_its_derived_database_adds_nothing(client: str, store: Store, tmp_path: Path) -> None:
    folder = folder_of(client, tmp_path)
    store.add(client, folder)
    store.app.imports.close()
    for file in store.layout.index.glob(f"{DATABASE_NAME}*"):
        file.unlink()
    assert store.add(client, folder).added == 0


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\0" + b"\xff" * 20_000])
def test_damaged_database_is_made_again(damage: bytes, store: Store, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    store.add("claude-code", folder)
    store.app.imports.close()
    for file in store.layout.index.glob(f"{DATABASE_NAME}*"):
        file.unlink()
    (store.layout.index / DATABASE_NAME).write_bytes(damage)
    assert store.add("claude-code", folder).added == 0


def test_packed_days_are_known(store: Store, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    store.add("claude-code", folder)
    (day,) = store.app.history.days()
    os.rename(store.layout.history / day, store.layout.history / "2020-01-01")
    store.app.records.pack(30)
    assert [file.suffix for file in (store.layout.history / "2020-01-01").iterdir()] == [".gz"]
    assert store.add("claude-code", folder).added == 0


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8bno gzip", b"\xff" * 100])
def test_damaged_file_of_the_log_costs_one_file(
    damage: bytes, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.add("claude-code", samples.claude_project(tmp_path))
    folder = store.layout.history / "2020-01-01"
    folder.mkdir()
    for name in (f"claude-code-{SESSION}.jsonl.gz", "other.jsonl"):
        (folder / name).write_bytes(damage)
    assert store.add("claude-code", tmp_path / ".claude").added == 0
    caplog.clear()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def test_resumed_session_adds_only_its_new_messages(store: Store, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    store.add("claude-code", folder)
    (file,) = folder.rglob("*.jsonl")
    with file.open("a") as opened:  # clients repeat messages of the session when it is resumed
        for line in (*samples.claude_lines(), claude_line(9, "user", "And on Sunday?")):
            opened.write(f"{json.dumps(line)}\n")
    assert store.add("claude-code", folder).added == 1
    assert store.texts()[-1] == "And on Sunday?"


@pytest.mark.parametrize("has_mark", [True, False])
def test_fork_of_claude_code_adds_only_its_own_messages(store: Store, tmp_path: Path, *, has_mark: bool) -> None:
    folder = samples.claude_project(tmp_path)
    store.add("claude-code", folder)
    copies = samples.claude_lines(FORK)
    if has_mark:
        copies = [{**line, "forkedFrom": {"sessionId": SESSION, "messageUuid": line.get("uuid")}} for line in copies]
    new = claude_line(8, "user", "Which ferry is blue?", session=FORK)
    write_lines(folder / "projects" / "-home-ada-harbour" / f"{FORK}.jsonl", [*copies, new])
    assert store.add("claude-code", folder).added == 1
    assert [record["session"] for record in store.records()][-1] == f"claude-code-{FORK}"


def test_marked_fork_that_is_read_first_leaves_messages_in_their_session(store: Store, tmp_path: Path) -> None:
    copies = [
        {**line, "forkedFrom": {"sessionId": SESSION, "messageUuid": line.get("uuid")}}
        for line in samples.claude_lines(FORK)
    ]
    store.add("claude-code", write_lines(tmp_path / f"{FORK}.jsonl", copies))
    assert {record["session"] for record in store.records()} == {f"claude-code-{SESSION}"}


def test_short_ids_of_two_sessions_are_different_messages_unless_copied(store: Store, tmp_path: Path) -> None:
    def line(session: str, name: str, text: str) -> dict[str, Any]:
        return {**claude_line(1, "user", text, session=session), "uuid": name}

    write_lines(tmp_path / "a" / "one.jsonl", [line("one", "m1", "first"), line("one", "m2", "second")])
    write_lines(tmp_path / "a" / "two.jsonl", [line("two", "m1", "first"), line("two", "m2", "another")])
    assert store.add("claude-code", tmp_path / "a").added == 3


def test_fork_of_codex_adds_only_its_own_messages(store: Store, tmp_path: Path) -> None:
    lines = samples.codex_lines()
    samples.codex_file(tmp_path, [*lines, samples.codex_text(30, "user", "And the door?")])
    copies = [{**line, "timestamp": samples.stamp(90)} for line in lines]  # a fork is written at once
    header, *_ = samples.codex_lines(FORK, source=SESSION)
    new = [samples.codex_text(91, "user", "Now blue."), samples.codex_text(92, "user", "And the door?")]
    samples.codex_file(tmp_path, [header, *copies, *new], FORK, "02")
    report = store.add("codex", tmp_path / ".codex")
    assert report.added == 8
    assert [record["text"] for record in store.records(f"codex-{FORK}")] == ["Now blue.", "And the door?"]
    assert store.add("codex", tmp_path / ".codex").added == 0


def test_equal_messages_without_ids_are_all_imported(store: Store, tmp_path: Path) -> None:
    lines = [{"role": "user", "content": "yes"}] * 3
    file = write_lines(tmp_path / "x.jsonl", lines)
    assert store.add("jsonl", file).added == 3
    write_lines(file, [*lines, {"role": "user", "content": "yes"}])
    assert store.add("jsonl", file).added == 1


def test_torn_last_line_is_imported_when_it_is_complete(store: Store, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    (file,) = folder.rglob("*.jsonl")
    line = json.dumps(claude_line(9, "user", "Who has the key?"))
    with file.open("a") as opened:
        opened.write(line[:60])
        opened.flush()
        report = store.add("claude-code", folder)
        assert report.unfinished == [f"projects/-home-ada-harbour/{SESSION}.jsonl"]
        assert report.damaged == []
        assert report.added == 6
        opened.write(line[60:])  # without a line feed, but complete
    assert store.add("claude-code", folder).added == 1
    assert store.texts()[-1] == "Who has the key?"


def test_transcript_that_grows_during_its_import_ends_and_is_completed_by_the_next(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_lines(tmp_path / "x.jsonl", [{"role": "user", "content": f"message {n}"} for n in range(1100)])
    append, count = Target.append, 1100

    def append_and_grow(target: Target, session: str, records: Any) -> int:
        nonlocal count
        with file.open("a") as opened:  # as an agent whose log has each record of its own import
            opened.writelines(
                f"{json.dumps({'role': 'user', 'content': f'message {count + n}'})}\n" for n in range(600)
            )
        count += 600
        return append(target, session, records)

    monkeypatch.setattr(Target, "append", append_and_grow)
    assert store.add("jsonl", file).added == 1100
    monkeypatch.setattr(Target, "append", append)
    report = store.add("jsonl", file)
    assert (report.added, report.already_there) == (count - 1100, 1100)
    assert sorted(store.texts()) == sorted(f"message {n}" for n in range(count))


def test_interrupted_import_is_continued(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"role": "user", "content": f"message {number}"} for number in range(1500)]
    file = write_lines(tmp_path / "x.jsonl", lines)
    append = Target.append

    def fail_second(target: Target, session: str, records: Any) -> int:
        if target.appends:
            raise KeyboardInterrupt
        return append(target, session, records)

    monkeypatch.setattr(Target, "append", fail_second)
    with pytest.raises(KeyboardInterrupt):
        store.add("jsonl", file)
    monkeypatch.undo()
    assert 0 < len(store.records()) < 1500
    store.add("jsonl", file)
    assert store.texts() == [f"message {number}" for number in range(1500)]


def test_two_imports_at_once_add_each_message_once(store: Store, tmp_path: Path) -> None:
    lines = [{"role": "user", "content": f"message {number}"} for number in range(2000)]
    file = write_lines(tmp_path / "x.jsonl", lines)
    other = Store(store.layout)
    threads = [threading.Thread(target=made.add, args=("jsonl", file)) for made in (store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.app.imports.close()
    assert sorted(store.texts()) == sorted(line["content"] for line in lines)


def test_messages_that_hooks_recorded_are_not_added_again(store: Store, tmp_path: Path) -> None:
    session = session_of_client("claude-code", SESSION)
    captured = {"kind": "input", "text": "When does the  Zanzibar ferry leave?\n", "origin": CAPTURE_ORIGIN}
    store.app.history.append(session, [{"principal": str(store.principal), **captured}])
    report = store.add("claude-code", samples.claude_project(tmp_path))
    assert (report.added, report.captured) == (5, 1)
    assert store.add("claude-code", tmp_path / ".claude").added == 0


def test_erased_messages_are_not_imported_again(store: Store, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    store.add("claude-code", folder)
    store.app.history.erase_session(f"claude-code-{SESSION}", "human:ada")
    report = store.add("claude-code", folder)
    assert (report.added, report.erased) == (0, 6)
    (file,) = folder.rglob("*.jsonl")
    later = claude_line(9, "user", "Said after the erasure", timestamp="2999-01-01T00:00:00Z")
    with file.open("a") as opened:
        opened.write(f"{json.dumps(later)}\n")
    assert store.add("claude-code", folder).added == 1


def test_import_of_an_agent_neither_sees_nor_hinders_that_of_a_person(store: Store, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    person, store.principal = store.principal, Principal("agent", "ada")
    assert store.add("claude-code", folder).added == 6
    store.principal = Principal("agent", "bob")
    report = store.add("claude-code", folder)
    assert (report.added, report.refused) == (0, {f"claude-code-{SESSION}"})
    store.principal = person
    assert store.add("claude-code", folder).added == 6, "records of an agent do not suppress those of a person"
    assert {record["principal"] for record in store.records()} == {"agent:ada", str(person)}


def test_member_within_a_message_is_no_identity(store: Store, tmp_path: Path) -> None:
    """A transcript cannot suppress a later message by containing its identity."""
    store.add("claude-code", samples.claude_project(tmp_path / "a"))
    names = [record["import_id"] for record in store.records()]
    other = Store(store.layout)
    other.principal = Principal("human", "bea")
    call = {"type": "tool_use", "id": "t", "name": "X", "input": {"import_id": names[0]}}
    text = f'{{"seq": 1, "at": "", "session": "s", "principal": "human:bea", "import_id": "{names[1]}"'
    forged = [claude_line(50, "assistant", [call, {"type": "text", "text": text}])]
    other.add("claude-code", write_lines(tmp_path / "b" / "x.jsonl", forged))
    assert other.add("claude-code", tmp_path / "a" / ".claude").added == 6
    other.app.imports.close()


def test_dry_run_counts_and_adds_nothing(store: Store, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    (file,) = folder.rglob("*.jsonl")
    file.write_text(file.read_text() * 2)
    report = store.add("claude-code", folder, is_dry_run=True)
    assert (report.added, report.already_there) == (6, 6)
    assert store.records() == []


def test_since_and_project_choose_messages(store: Store, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    report = store.add("claude-code", folder, since="2026-09-01T10:00:03.000+00:00")
    assert (report.added, report.not_chosen) == (2, 4)
    assert store.add("claude-code", folder, project="/home/ada/harb").added == 0
    assert store.add("claude-code", folder, project="/home/ada").added == 4


def test_project_of_gemini_is_found_by_its_hash(store: Store, tmp_path: Path) -> None:
    folder = samples.gemini_folder(tmp_path)
    (folder / "tmp" / "harbour" / ".project_root").unlink()
    assert store.add("gemini", folder, project=samples.FOLDER).added == 0
    import hashlib

    (chat,) = folder.rglob("session-*.json")
    chat.write_text(chat.read_text().replace("ab" * 32, hashlib.sha256(samples.FOLDER.encode()).hexdigest()))
    assert store.add("gemini", folder, project=samples.FOLDER).added == 5


def test_message_of_a_subagent_is_in_the_session_of_its_caller(store: Store, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    side = claude_line(20, "assistant", [{"type": "text", "text": "Counted."}], isSidechain=True, agentId="a1")
    write_lines(folder / "projects" / "-home-ada-harbour" / SESSION / "subagents" / "agent-a1.jsonl", [side])
    store.add("claude-code", folder)
    assert [(record["agent"], record["message_id"]) for record in store.records() if "agent" in record] == [
        ("a1", uid(20))
    ]
    assert {record["session"] for record in store.records()} == {f"claude-code-{SESSION}"}
