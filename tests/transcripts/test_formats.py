"""Test that the transcripts of each client become messages with their speaker, time, model, folder and ids."""

import json
from pathlib import Path
from typing import Any

import pytest

from ctxfs.model.errors import CommandError
from tests.transcripts import samples
from tests.transcripts.conftest import Store
from tests.transcripts.samples import FOLDER, FORK, SESSION, stamp, uid, write_lines, write_zip


def kinds(store: Store) -> list[tuple[str, str]]:
    return list(zip((record["kind"] for record in store.records()), store.texts(), strict=True))


def test_claude_code_session_is_imported_with_its_members(store: Store, tmp_path: Path) -> None:
    report = store.add("claude-code", samples.claude_project(tmp_path))
    assert kinds(store) == [
        ("input", "When does the Zanzibar ferry leave?"),
        ("reasoning", "The tides decide."),
        ("output", "I look."),
        ("tool_call", '{"file_path": "/home/ada/harbour/tides.md"}'),
        ("tool_result", "High tide at six."),
        ("output", "We decided: the ferry leaves at seven."),
    ]
    question, _, answer, call, result, _ = store.records()
    assert question["session"] == f"claude-code-{SESSION}"
    assert (question["client"], question["client_session"], question["message_id"]) == ("claude-code", SESSION, uid(1))
    assert question["said_at"] == "2026-09-01T10:00:01.000+00:00"
    assert question["project"] == FOLDER
    assert question["origin"].startswith("import:")
    assert question["at"] > question["said_at"], "the time of the import is kept beside the time of saying"
    assert answer["model"] == {"name": "claude-sonnet"}
    assert (call["tool"], call["call"], result["call"]) == ("Read", "toolu_1", "toolu_1")
    assert result["tool"] == "Read"
    assert report.left_out.numbers == {
        "type 'summary'": 1,
        "type 'file-history-snapshot'": 1,
        "notices of the client": 1,
    }


def test_commands_of_claude_code_are_recorded_without_their_markup(store: Store, tmp_path: Path) -> None:
    command = "<command-message>review</command-message>\n<command-name>/review</command-name>\n<command-args>the pier</command-args>"
    lines = [
        samples.claude_line(1, "user", command),
        samples.claude_line(2, "user", "<local-command-stdout>done</local-command-stdout>"),
        samples.claude_line(3, "user", [{"type": "text", "text": "<system-reminder>do not\n</system-reminder>"}]),
    ]
    store.add("claude-code", write_lines(tmp_path / f"{SESSION}.jsonl", lines))
    assert store.texts() == ["/review the pier"]


def test_prompt_that_was_typed_while_the_model_worked_is_imported(store: Store, tmp_path: Path) -> None:
    def attachment(number: int, **members: Any) -> dict[str, Any]:
        line = samples.claude_line(number, "user", "")
        del line["message"]
        return {**line, "type": "attachment", "attachment": {"type": "queued_command", **members}}

    lines = [
        attachment(1, commandMode="prompt", origin={"kind": "human"}, prompt="Mind the tide."),
        attachment(2, prompt=[{"type": "text", "text": "And the fog."}]),
        attachment(3, commandMode="task-notification", prompt="<task-notification>done</task-notification>"),
        attachment(4, commandMode="prompt", origin={"kind": "peer"}, prompt="from another session"),
        attachment(5, type="todo_reminder"),
        samples.claude_line(6, "user", "<task-notification>done</task-notification>"),
    ]
    store.add("claude-code", write_lines(tmp_path / f"{SESSION}.jsonl", lines))
    assert kinds(store) == [("input", "Mind the tide."), ("input", "And the fog.")]


def test_codex_session_is_imported_once_despite_its_display_log(store: Store, tmp_path: Path) -> None:
    samples.codex_file(tmp_path, samples.codex_lines())
    store.add("codex", tmp_path / ".codex")
    assert kinds(store) == [
        ("input", "Paint the lighthouse red."),
        ("reasoning", "Which red?"),
        ("tool_call", '{"command": ["ls"]}'),
        ("tool_result", "paint.txt"),
        ("output", "It is vermilion now."),
    ]
    first, *_, last = store.records()
    assert first["session"] == f"codex-{SESSION}"
    assert first["project"] == FOLDER
    assert last["model"] == {"name": "gpt-5"}


def test_codex_session_of_2025_without_envelopes_is_imported(store: Store, tmp_path: Path) -> None:
    lines = [
        {"id": SESSION, "timestamp": stamp(0), "instructions": None},
        {"record_type": "state"},
        samples.codex_lines()[1]["payload"],
        samples.codex_lines()[3]["payload"],
    ]
    samples.codex_file(tmp_path, lines)
    store.add("codex", tmp_path / ".codex")
    (record,) = store.records()
    assert (record["text"], record["session"]) == ("Paint the lighthouse red.", f"codex-{SESSION}")
    assert "said_at" not in record
    assert record["project"] == FOLDER


def test_gemini_chat_is_imported_and_its_log_adds_only_other_sessions(store: Store, tmp_path: Path) -> None:
    store.add("gemini", samples.gemini_folder(tmp_path))
    assert kinds(store) == [
        ("input", "How many boats are there?"),
        ("reasoning", "Boats\nCount them."),
        ("tool_call", '{"path": "boats.txt"}'),
        ("tool_result", "nine boats"),
        ("output", "There are nine boats."),
        ("input", "Is the pier safe?"),
    ]
    assert {record["project"] for record in store.records()} == {FOLDER}
    assert [record["session"] for record in store.records()][-1] == f"gemini-{FORK}"


def test_gemini_log_adds_nothing_after_its_chats_were_deleted(store: Store, tmp_path: Path) -> None:
    folder = samples.gemini_folder(tmp_path)
    store.add("gemini", folder)
    for chat in folder.rglob("session-*.json"):
        chat.unlink()
    assert store.add("gemini", folder).added == 0


def test_gemini_lines_repeat_messages_that_change(store: Store, tmp_path: Path) -> None:
    question, work, answer, _ = samples.gemini_messages()
    early = {**work, "toolCalls": [{**work["toolCalls"][0], "result": None, "status": "executing"}]}
    lines: list[Any] = [
        {"sessionId": SESSION, "projectHash": "ab" * 32, "startTime": stamp(0), "kind": "main"},
        question,
        early,
        work,
        {"$set": {"lastUpdated": stamp(9)}},
        answer,
        {"$set": {"messages": [question, work, answer]}},
        {"$rewindTo": uid(23)},
    ]
    file = write_lines(tmp_path / "tmp" / "harbour" / "chats" / "session-x.jsonl", lines)
    store.add("gemini", file.parent)
    assert [kind for kind, _ in kinds(store)] == ["input", "reasoning", "tool_call", "tool_result", "output"]


def test_chatgpt_export_is_imported_along_its_current_branch(store: Store, tmp_path: Path) -> None:
    members = {"export/conversations.json": [samples.chatgpt_conversation()], "chat.html": "<html>"}
    report = store.add("chatgpt", write_zip(tmp_path / "export.zip", members))
    assert kinds(store) == [
        ("input", "Name the three harbours."),
        ("reasoning", "Recall\nThe list."),
        ("tool_call", "search('harbours')"),
        ("tool_result", "Moss, Fern, Reed"),
        ("output", "Moss, Fern and Reed."),
        ("input", "[image, 512 bytes]\nThis one?"),
    ]
    assert report.left_out.numbers["messages of replaced branches"] == 1
    first = store.records()[0]
    assert first["title"] == "Harbours"
    assert first["said_at"] == "2026-09-01T10:00:31.500+00:00"
    assert store.records()[2]["tool"] == "browser"


def test_split_chatgpt_export_and_unpacked_file_are_imported(store: Store, tmp_path: Path) -> None:
    one, two = samples.chatgpt_conversation(), samples.chatgpt_conversation()
    two["conversation_id"] = FORK
    for node in two["mapping"].values():
        node["message"]["id"] = node["message"]["id"].replace("0000", "1111", 1)
    members = {"conversations-001.json": [two], "conversations-000.json": [one]}
    assert store.add("chatgpt", write_zip(tmp_path / "export.zip", members)).added == 12
    (tmp_path / "conversations.json").write_text(json.dumps([one, two]))
    assert store.add("chatgpt", tmp_path / "conversations.json").added == 0


@pytest.mark.parametrize("leaf", ["", "none", uid(31)])
def test_chatgpt_tree_that_is_broken_loses_no_message_of_its_branch(store: Store, tmp_path: Path, leaf: str) -> None:
    conversation = samples.chatgpt_conversation()
    conversation["current_node"] = leaf
    conversation["mapping"][uid(30)]["parent"] = uid(31)  # a cycle
    report = store.add("chatgpt", write_zip(tmp_path / "export.zip", {"conversations.json": [conversation]}))
    assert report.added == (1 if leaf == uid(31) else 7)


def test_claude_export_is_imported_with_attached_texts(store: Store, tmp_path: Path) -> None:
    members = {"conversations.json": [samples.claude_conversation()], "users.json": []}
    store.add("claude", write_zip(tmp_path / "data.zip", members))
    assert kinds(store) == [
        ("input", "Which knot holds?"),
        ("input", "[attachment knots.txt]\nbowline, cleat hitch"),
        ("output", "The bowline."),
    ]
    assert store.records()[0]["session"] == f"claude-ai-{SESSION}"


def test_json_lines_are_read_by_common_names(store: Store, tmp_path: Path) -> None:
    lines = [
        {"role": "user", "content": "Where is the key?", "timestamp": "2026-09-01T12:00:00+02:00", "id": 1},
        {"role": "assistant", "content": [{"type": "text", "text": "Under the mat."}], "timestamp": 1788256800000},
        {"message": {"role": "system", "content": "Be brief."}},
        {"role": "Ada", "content": "Thanks."},
    ]
    store.add("jsonl", write_lines(tmp_path / "keys.jsonl", lines))
    assert kinds(store) == [
        ("input", "Where is the key?"),
        ("output", "Under the mat."),
        ("note", "Be brief."),
        ("input", "Thanks."),
    ]
    first, second, _, last = store.records()
    assert first["session"] == "jsonl-keys"
    assert first["said_at"] == "2026-09-01T10:00:00.000+00:00"
    assert second["said_at"] == "2026-09-01T10:00:00.000+00:00"
    assert last["speaker"] == "Ada"


def test_json_lines_are_read_by_a_map_with_dotted_paths(store: Store, tmp_path: Path) -> None:
    lines = [{"body": {"words": "Ahoy."}, "who": {"kind": "human", "name": "Bea"}, "ts": 1, "thread": "deck", "no": 7}]
    pairs = ["text=body.words", "kind=who.kind", "speaker=who.name", "time=ts", "session=thread", "id=no"]
    store.add("jsonl", write_lines(tmp_path / "x.jsonl", lines), pairs)
    (record,) = store.records()
    assert (record["text"], record["kind"], record["speaker"], record["session"], record["message_id"]) == (
        "Ahoy.", "input", "Bea", "jsonl-deck", "7",
    )  # fmt: skip


@pytest.mark.parametrize("pairs", [(), ("text=words",), ("text=body.words", "time=when")])
def test_json_lines_without_a_mapped_member_are_an_error_with_the_members(
    store: Store, tmp_path: Path, pairs: tuple[str, ...]
) -> None:
    file = write_lines(tmp_path / "x.jsonl", [{"body": {"words": "Ahoy."}, "rank": 2}] * 3)
    with pytest.raises(CommandError, match=r"the lines have: body, body\.words, rank"):
        store.add("jsonl", file, pairs)
    assert store.records() == []


@pytest.mark.parametrize("pair", ["text", "colour=x", "text="])
def test_invalid_map_is_an_error(pair: str, store: Store, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="maps no member"):
        store.add("jsonl", write_lines(tmp_path / "x.jsonl", [{"text": "a"}]), [pair])
