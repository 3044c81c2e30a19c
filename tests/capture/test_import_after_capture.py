"""An import of the transcript of a captured session adds only the messages that no hook reported."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.capture.test_hook import record_lines, run_hook
from tests.live import Live
from tests.transcripts.samples import FOLDER, SESSION, claude_lines, write_lines

CLIENT = "claude-code"


@pytest.mark.parametrize("tools", [False, True], ids=["messages", "messages and tools"])
def test_import_adds_only_messages_that_no_hook_reported(tools: bool, tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")
    common: dict[str, Any] = {"session_id": SESSION, "cwd": FOLDER}
    report(live, "prompt", {**common, "prompt": "When does the Zanzibar ferry leave?"})
    if tools:
        call = {"tool_name": "Read", "tool_input": {"file_path": f"{FOLDER}/tides.md"}, "tool_use_id": "toolu_1"}
        report(live, "tool", {**common, **call, "tool_response": {"stdout": "High tide at six."}})
    report(live, "stop", {**common, "last_assistant_message": "We decided: the ferry leaves at seven."})
    file = write_lines(tmp_path / "projects" / "-harbour" / f"{SESSION}.jsonl", claude_lines())
    for _ in range(2):
        live.run("import", CLIENT, str(file))
    records = record_lines(live, f"{CLIENT}-{SESSION}")
    for kind in ("input", "tool_call", "tool_result"):
        assert [record["kind"] for record in records].count(kind) == 1, kind
    texts = [record.get("text") for record in records if record["kind"] == "output"]
    assert sorted(texts) == ["I look.", "We decided: the ferry leaves at seven."]


def report(live: Live, event: str, payload: dict[str, Any]) -> None:
    assert run_hook(live.store, CLIENT, event, json.dumps(payload).encode()).returncode == 0
