"""Test with real clients: the conformance suite, the inspector, the TypeScript SDKs, `mcp` 1.x."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import Live
from tests.peers.conftest import PEERS, node

HERE = Path(__file__).parent
TOOLS = (
    "ctx_list ctx_read ctx_write ctx_edit ctx_search ctx_move ctx_delete ctx_exec ctx_context ctx_history ctx_record "
    "ctx_promote ctx_correct memory"
).split()
SKILLS = ("sep-2640-skills-enumeration", "sep-2640-skills-manifest", "sep-2640-skills-directory")
# The skipped checks are those that the suite itself declares optional for such a server.
_SCORE = re.compile(r"^Total: (\d+) passed, (\d+) failed", re.MULTILINE)


@pytest.mark.parametrize(("revision", "least"), [("2025-11-25", 75), ("2026-07-28", 120)])
def test_every_required_scenario_of_a_revision_passes(revision: str, least: int, url: str) -> None:
    done = node("conformance", "server", "--url", url, "--requirements", revision)
    told = done.stdout + done.stderr
    assert "=== SUMMARY ===" in told, told[-3000:]
    summary = told.split("=== SUMMARY ===")[1]
    scored, _, others = summary.partition("Not scored for")
    unscored = set(re.findall(r"[✓✗] (\S+) \(", others))
    failed = [
        line for line in scored.splitlines() if line.startswith("✗") and line.split()[1].rstrip(":") not in unscored
    ]
    assert failed == [], told[-3000:]
    score = _SCORE.search(scored)
    assert score and int(score[1]) >= least, summary
    # Tasks are an extension that the server does not offer.
    assert {name for name in re.findall(r"✗ (\S+) \(", others) if not name.startswith("tasks-")} == set(), others


@pytest.mark.parametrize("scenario", SKILLS)
def test_the_skills_suites_pass(scenario: str, url: str) -> None:
    done = node(
        "conformance", "server", "--url", url, "--scenario", scenario, "--spec-version", "2026-07-28", "--force"
    )
    match = re.search(r"Passed: (\d+)/(\d+), (\d+) failed, (\d+) warnings", done.stdout)
    assert match, done.stdout[-2000:] + done.stderr[-2000:]
    assert match[1] == match[2], done.stdout[-3000:]
    assert int(match[2]) > 3, "nothing was checked"
    assert match.group(3, 4) == ("0", "0"), done.stdout[-3000:]


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_inspector_reports_no_problem(era: str, served: Live) -> None:
    def inspect(*arguments: str) -> str:
        done = node("mcp-inspector", "--cli", *served.command("mcp"), "--protocol-era", era, *arguments)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr
        return done.stdout + done.stderr

    output = inspect("--method", "tools/list", "--strict")
    assert not re.search(r"\b(?:warning|error|issue)s?\b", output.replace("isError", ""), re.IGNORECASE), output
    read = inspect(
        "--method", "tools/call", "--tool-name", "ctx_read", "--tool-arg", "path=knowledge/handbook/rotation.md"
    )
    assert "ninety days" in read
    assert "ctx:///AGENTS.md" in inspect("--method", "resources/list")
    assert "build_context" in inspect("--method", "prompts/list")


def test_the_inspector_verifies_the_skills(served: Live) -> None:
    command = served.command("mcp")
    options = ("--protocol-era", "modern", "--method", "skills/list", "--verify", "--require-digests")
    done = node("mcp-inspector", "--cli", *command, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "key-rotation" in done.stdout


@pytest.mark.parametrize("sdk", ["sdk", "client"])
def test_the_typescript_sdks_drive_the_server(sdk: str, served: Live) -> None:
    done = node(str(HERE / "typescript.mjs"), sdk, *served.command("mcp"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["tools"] == TOOLS
    assert "ninety days" in result["read"]
    assert (result["refused"], result["resource"]) == (True, "by a peer\n")
    assert result["completed"] == ["knowledge/handbook/rotation.md"]
    assert (served.at / "memory" / "shared" / "peer.md").read_text() == "by a peer\n"


def test_mcp1_client_drives_the_server(served: Live) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PEERS / "mcp1")}
    done = subprocess.run(
        [sys.executable, str(HERE / "mcp1_client.py"), *served.command("mcp")],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["version"].startswith("1.")
    assert result["tools"] == TOOLS
    assert "ninety days" in result["read"] and "ninety days" in result["resource"]
