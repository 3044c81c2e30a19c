"""Run the two exemplars of docs/examples as scripts over a real mount, with a stand-in for the model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import Live, eventually

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
GIT_SERVER = """import json, subprocess, sys
def tool():
    properties = {"repo_path": {"type": "string"}, "max_count": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["repo_path"]}
    return {"name": "git_log", "description": "Shows the commit logs", "inputSchema": schema, "annotations": {"readOnlyHint": True}}
for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if number is None:
        continue
    if method == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "git", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [tool()]}
    elif method == "tools/call":
        said = message["params"]["arguments"]
        log = ["git", "-C", said["repo_path"], "log", f"--max-count={said.get('max_count', 10)}", "--format=Message: %s"]
        text = subprocess.run(log, capture_output=True, text=True).stdout
        result = {"content": [{"type": "text", "text": "Commit history:\\n" + text}]}
    else:
        print(json.dumps({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "no"}}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": number, "result": result}), flush=True)
"""


def script(live: Live, name: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "CTXFS_STORE": str(live.store),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    return subprocess.run(
        [EXAMPLES / name, str(live.at), *words], env=environment | variables, capture_output=True, text=True, timeout=60
    )


@pytest.mark.fuse
def test_agent_answers_from_its_context_with_citations(own_live: Live) -> None:
    told = script(own_live, "agent-with-memory.sh", "The deployment window is on Tuesday at noon.")
    assert (told.returncode, told.stdout) == (0, "Noted: The deployment window is on Tuesday at noon.\n"), told.stderr
    (fact,) = (own_live.at / "memory" / "assistant" / "fact").iterdir()
    assert os.getxattr(fact, "user.ctx.source") == b"history/assistant-chat"

    def answered() -> bool:
        return "Tuesday at noon" in script(own_live, "agent-with-memory.sh", "When is the deployment?").stdout

    eventually("the agent answers from its memory", answered)
    task = own_live.at / "context" / "assistant-chat"
    assert "assistant/fact" in (task / "manifest.json").read_text()
    eventually("the answer was judged", (task / "evaluation.json").exists)
    log = own_live.run("history", "show", "--session", "assistant-chat")
    assert "The deployment window is on Tuesday at noon." in log
    assert "When is the deployment?" in log


@pytest.mark.fuse
def test_an_assistant_uses_the_tools_of_a_server(own_live: Live, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    repository.mkdir()
    (repository / "a").write_text("a")
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "Rotate the keys"]):
        subprocess.run(["git", "-C", repository, *words], check=True)
    server = tmp_path / "server.py"
    server.write_text(GIT_SERVER)
    own_live.run("tools", "add", "git-server", "--yes", "--", sys.executable, "-IS", str(server))
    done = script(own_live, "mcp-assistant.sh", "git-server", "what changed in the repository?", REPO=str(repository))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "The last change was: Rotate the keys\n"
    assert "> git-server/git_log" in done.stderr
    assert "git-server/git_log" in own_live.run("calls")
