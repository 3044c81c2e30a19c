"""Made-up transcripts of each client, in the documented form of its files."""

import json
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SESSION = "0b0c7a52-7d0e-4b1e-9d49-000000000001"
FORK = "0b0c7a52-7d0e-4b1e-9d49-000000000002"
FOLDER = "/home/ada/harbour"


def uid(number: int) -> str:
    return str(uuid.UUID(int=number, version=4))


def stamp(second: int) -> str:
    return f"2026-09-01T10:{second // 60:02}:{second % 60:02}.000Z"


def write_lines(file: Path, lines: Sequence[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file


def claude_line(number: int, role: str, content: Any, *, session: str = SESSION, **members: Any) -> dict[str, Any]:
    message = {"role": role, "content": content} | ({"model": "claude-sonnet"} if role == "assistant" else {})
    common = {"uuid": uid(number), "parentUuid": None, "sessionId": session, "timestamp": stamp(number)}
    return {"type": role, **common, "cwd": FOLDER, "isSidechain": False, "message": message, **members}


def claude_lines(session: str = SESSION) -> list[dict[str, Any]]:
    """Return a session: a question, a thought with an answer and a call, its result, an answer, and bookkeeping."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/home/ada/harbour/tides.md"}}
    result = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [{"type": "text", "text": "High tide at six."}],
    }
    return [
        {"type": "summary", "summary": "Tides", "leafUuid": uid(4)},
        claude_line(1, "user", "When does the Zanzibar ferry leave?", session=session),
        claude_line(
            2,
            "assistant",
            [
                {"type": "thinking", "thinking": "The tides decide.", "signature": "x"},
                {"type": "text", "text": "I look."},
                call,
            ],
            session=session,
        ),
        claude_line(3, "user", [result], session=session, toolUseResult={"stdout": "High tide at six."}),
        claude_line(
            4, "assistant", [{"type": "text", "text": "We decided: the ferry leaves at seven."}], session=session
        ),
        {"type": "file-history-snapshot", "messageId": "x", "snapshot": {}},
        claude_line(5, "user", "Caveat: the messages below", session=session, isMeta=True),
    ]


def claude_project(home: Path) -> Path:
    """Write a project of Claude Code with one session; return the folder of the client."""
    folder = home / ".claude"
    write_lines(folder / "projects" / "-home-ada-harbour" / f"{SESSION}.jsonl", claude_lines())
    return folder


def codex_item(number: int, payload: dict[str, Any], kind: str = "response_item") -> dict[str, Any]:
    return {"timestamp": stamp(number), "type": kind, "payload": payload}


def codex_text(number: int, role: str, text: str) -> dict[str, Any]:
    block = "input_text" if role == "user" else "output_text"
    return codex_item(number, {"type": "message", "role": role, "content": [{"type": block, "text": text}]})


def codex_lines(session: str = SESSION, source: str = "") -> list[dict[str, Any]]:
    """Return a session of Codex; `source` is the session that it was forked from."""
    header = {"id": session, "timestamp": stamp(0), "cwd": FOLDER, "cli_version": "0.140.0"}
    return [
        codex_item(0, header | ({"forked_from_id": source} if source else {}), "session_meta"),
        codex_text(1, "user", "<environment_context>\n<cwd>/home/ada/harbour</cwd>\n</environment_context>"),
        codex_item(1, {"turn_id": "t1", "cwd": FOLDER, "model": "gpt-5"}, "turn_context"),
        codex_text(2, "user", "Paint the lighthouse red."),
        codex_item(2, {"type": "user_message", "message": "Paint the lighthouse red."}, "event_msg"),
        codex_item(
            3,
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "Which red?"}],
                "encrypted_content": "gAAA",
            },
        ),
        codex_item(
            4, {"type": "function_call", "name": "shell", "arguments": '{"command": ["ls"]}', "call_id": "call_1"}
        ),
        codex_item(
            5, {"type": "function_call_output", "call_id": "call_1", "output": '{"output":"paint.txt","metadata":{}}'}
        ),
        codex_text(6, "assistant", "It is vermilion now."),
    ]


def codex_file(home: Path, lines: Sequence[Any], session: str = SESSION, day: str = "01") -> Path:
    name = f"rollout-2026-09-{day}T10-00-00-{session}.jsonl"
    return write_lines(home / ".codex" / "sessions" / "2026" / "09" / day / name, lines)


def gemini_messages() -> list[dict[str, Any]]:
    result = [{"functionResponse": {"id": "read-1", "name": "read_file", "response": {"output": "nine boats"}}}]
    call = {
        "id": "read-1",
        "name": "read_file",
        "args": {"path": "boats.txt"},
        "result": result,
        "status": "success",
        "timestamp": stamp(3),
    }
    return [
        {"id": uid(21), "timestamp": stamp(1), "type": "user", "content": [{"text": "How many boats are there?"}]},
        {
            "id": uid(22),
            "timestamp": stamp(2),
            "type": "gemini",
            "content": "",
            "model": "gemini-pro",
            "toolCalls": [call],
            "thoughts": [{"subject": "Boats", "description": "Count them."}],
        },
        {
            "id": uid(23),
            "timestamp": stamp(4),
            "type": "gemini",
            "content": "There are nine boats.",
            "model": "gemini-pro",
        },
        {"id": uid(24), "timestamp": stamp(5), "type": "info", "content": "Update available"},
    ]


def gemini_folder(home: Path) -> Path:
    """Write a chat of Gemini CLI, and the log of the user's messages; return the folder of the client."""
    folder = home / ".gemini" / "tmp" / "harbour"
    chat = {"sessionId": SESSION, "projectHash": "ab" * 32, "startTime": stamp(0), "messages": gemini_messages()}
    (folder / "chats").mkdir(parents=True)
    (folder / ".project_root").write_text(FOLDER)
    (folder / "chats" / "session-2026-09-01T10-00-0b0c7a52.json").write_text(json.dumps(chat, indent=2))
    log = [
        {
            "sessionId": SESSION,
            "messageId": 0,
            "type": "user",
            "message": "How many boats are there?",
            "timestamp": stamp(1),
        },
        {"sessionId": FORK, "messageId": 0, "type": "user", "message": "Is the pier safe?", "timestamp": stamp(1)},
    ]
    (folder / "logs.json").write_text(json.dumps(log))
    return home / ".gemini"


def chatgpt_conversation() -> dict[str, Any]:
    def node(number: int, parent: int | None, role: str, content: dict[str, Any], **members: Any) -> dict[str, Any]:
        message = {"id": uid(number), "author": {"role": role, "name": members.pop("name", None)}, "content": content}
        message |= {
            "create_time": 1788256800.5 + number,
            "recipient": "all",
            "metadata": {"model_slug": "gpt-5"},
            **members,
        }
        return {
            "id": uid(number),
            "parent": None if parent is None else uid(parent),
            "children": [],
            "message": message,
        }

    def text(words: str) -> dict[str, Any]:
        return {"content_type": "text", "parts": [words]}

    nodes = [
        node(30, None, "system", text("")),
        node(31, 30, "user", text("Name the three harbours.")),
        node(
            32,
            31,
            "assistant",
            {"content_type": "thoughts", "thoughts": [{"summary": "Recall", "content": "The list."}]},
        ),
        node(33, 32, "assistant", {"content_type": "code", "text": "search('harbours')"}, recipient="browser"),
        node(34, 33, "tool", {"content_type": "execution_output", "text": "Moss, Fern, Reed"}, name="browser"),
        node(35, 34, "assistant", text("Moss, Fern and Reed.")),
        node(36, 34, "assistant", text("A replaced answer.")),
        node(
            37,
            35,
            "user",
            {
                "content_type": "multimodal_text",
                "parts": [{"content_type": "image_asset_pointer", "size_bytes": 512}, "This one?"],
            },
        ),
    ]
    return {
        "title": "Harbours",
        "conversation_id": SESSION,
        "create_time": 1788256800.0,
        "current_node": uid(37),
        "mapping": {entry["id"]: entry for entry in nodes},
    }


def claude_conversation() -> dict[str, Any]:
    return {
        "uuid": SESSION,
        "name": "Knots",
        "account": {"uuid": uid(90)},
        "chat_messages": [
            {
                "uuid": uid(41),
                "sender": "human",
                "created_at": stamp(1),
                "text": "Which knot holds?",
                "content": [],
                "attachments": [{"file_name": "knots.txt", "extracted_content": "bowline, cleat hitch"}],
                "files": [{"file_name": "a.png"}],
            },
            {
                "uuid": uid(42),
                "sender": "assistant",
                "created_at": stamp(2),
                "text": "The bowline.",
                "content": [{"type": "text", "text": "The bowline."}],
            },
        ],
    }


def write_zip(file: Path, members: dict[str, Any]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name, value if isinstance(value, bytes | str) else json.dumps(value))
    return file
