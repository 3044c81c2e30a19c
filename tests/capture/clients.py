"""Made-up events, as each client documents the JSON that it writes to its hooks."""

from typing import Any

_CLAUDE = {
    "session_id": "0c1d2e3f-1111-2222-3333-444455556666",
    "transcript_path": "/home/ada/.claude/projects/-home-ada-shop/0c1d2e3f.jsonl",
    "cwd": "/home/ada/shop",
    "permission_mode": "default",
}
_CODEX = {
    "session_id": "0199a213-81c0-7800-8aa1-bbab2a035a53",
    "transcript_path": None,
    "cwd": "/home/ada/shop",
    "model": "gpt-x-codex",
    "permission_mode": "default",
    "turn_id": "turn-7",
}
_GEMINI = {
    "session_id": "5f2b8c1e",
    "transcript_path": "/home/ada/.gemini/tmp/x/chats/session.json",
    "cwd": "/home/ada/shop",
    "timestamp": "2026-11-02T10:00:00.000Z",
}
_CURSOR = {
    "conversation_id": "c0ffee00-1",
    "generation_id": "gen-42",
    "model": "some-model",
    "cursor_version": "3.1.0",
    "workspace_roots": ["/home/ada/shop"],
    "user_email": "ada@example.org",
    "transcript_path": None,
}
PROMPT = "Which port does the till use? <private>my pin is quetzal-4711</private>"
ANSWER = "The till uses port 9144."

# Client → our event → what it writes to stdin.
EVENTS: dict[str, dict[str, dict[str, Any]]] = {
    "claude-code": {
        "session-start": {**_CLAUDE, "hook_event_name": "SessionStart", "source": "startup", "model": "m"},
        "prompt": {**_CLAUDE, "hook_event_name": "UserPromptSubmit", "prompt": PROMPT, "prompt_id": "p-1"},
        "tool": {
            **_CLAUDE,
            "hook_event_name": "PostToolUse",
            "tool_name": "Bash",
            "tool_input": {"command": "grep -r port . # <private>quetzal-4711</private>"},
            "tool_response": {"stdout": "till.toml: port = 9144", "interrupted": False},
            "tool_use_id": "toolu_1",
        },
        "stop": {
            **_CLAUDE,
            "hook_event_name": "Stop",
            "stop_hook_active": False,
            "last_assistant_message": ANSWER,
            "background_tasks": [],
        },
        "compact": {**_CLAUDE, "hook_event_name": "PreCompact", "trigger": "auto", "custom_instructions": None},
        "session-end": {**_CLAUDE, "hook_event_name": "SessionEnd", "reason": "prompt_input_exit"},
    },
    "codex": {
        "session-start": {**_CODEX, "hook_event_name": "SessionStart", "source": "resume"},
        "prompt": {**_CODEX, "hook_event_name": "UserPromptSubmit", "prompt": PROMPT},
        "tool": {
            **_CODEX,
            "hook_event_name": "PostToolUse",
            "tool_name": "shell",
            "tool_input": {"command": ["ls"]},
            "tool_response": "till.toml",
            "tool_use_id": "call_1",
        },
        "stop": {**_CODEX, "hook_event_name": "Stop", "stop_hook_active": False, "last_assistant_message": ANSWER},
        "compact": {**_CODEX, "hook_event_name": "PreCompact", "trigger": "manual"},
        "session-end": {
            "session_id": _CODEX["session_id"],
            "transcript_path": None,
            "cwd": "/home/ada/shop",
            "hook_event_name": "SessionEnd",
            "reason": "other",
        },
    },
    "gemini-cli": {
        "session-start": {**_GEMINI, "hook_event_name": "SessionStart", "source": "startup"},
        "prompt": {**_GEMINI, "hook_event_name": "BeforeAgent", "prompt": PROMPT},
        "tool": {
            **_GEMINI,
            "hook_event_name": "AfterTool",
            "tool_name": "read_file",
            "tool_input": {"path": "till.toml"},
            "tool_response": {"llmContent": "port = 9144", "returnDisplay": "", "error": None},
        },
        "stop": {
            **_GEMINI,
            "hook_event_name": "AfterAgent",
            "prompt": PROMPT,
            "prompt_response": ANSWER,
            "stop_hook_active": False,
        },
        "compact": {**_GEMINI, "hook_event_name": "PreCompress", "trigger": "auto"},
        "session-end": {**_GEMINI, "hook_event_name": "SessionEnd", "reason": "exit"},
    },
    "cursor": {
        "session-start": {
            **_CURSOR,
            "hook_event_name": "sessionStart",
            "session_id": _CURSOR["conversation_id"],
            "is_background_agent": False,
            "composer_mode": "agent",
        },
        "prompt": {**_CURSOR, "hook_event_name": "beforeSubmitPrompt", "prompt": PROMPT, "attachments": []},
        "response": {**_CURSOR, "hook_event_name": "afterAgentResponse", "text": ANSWER},
        "tool": {
            **_CURSOR,
            "hook_event_name": "postToolUse",
            "tool_name": "Shell",
            "tool_input": {"command": "ls"},
            "tool_output": "till.toml",
            "tool_use_id": "t-1",
            "duration": 12,
        },
        "stop": {**_CURSOR, "hook_event_name": "stop", "status": "completed", "loop_count": 0},
        "compact": {**_CURSOR, "hook_event_name": "preCompact", "trigger": "auto", "context_usage_percent": 85},
        "session-end": {
            **_CURSOR,
            "hook_event_name": "sessionEnd",
            "session_id": _CURSOR["conversation_id"],
            "reason": "completed",
            "duration_ms": 1000,
        },
    },
}
SESSIONS = {
    "claude-code": f"claude-code-{_CLAUDE['session_id']}",
    "codex": f"codex-{_CODEX['session_id']}",
    "gemini-cli": f"gemini-{_GEMINI['session_id']}",
    "cursor": f"cursor-{_CURSOR['conversation_id']}",
}
