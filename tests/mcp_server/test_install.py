"""Test that registration with a client keeps the rest of its configuration files."""

import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.live import Live

JSON = (
    ("claude-code", ".mcp.json", "mcpServers"),
    ("cursor", ".cursor/mcp.json", "mcpServers"),
    ("vscode", ".vscode/mcp.json", "servers"),
    ("gemini", ".gemini/settings.json", "mcpServers"),
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    """Return a store beside a project, which is the current directory; the home folder is another one."""
    live = Live(tmp_path)
    live.run("init")
    (tmp_path / "project").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    return live


@pytest.mark.parametrize(("client", "place", "table"), JSON)
def test_entry_is_added_once_beside_others_and_removed_again(
    client: str, place: str, table: str, project: Live
) -> None:
    file = Path(place)
    file.parent.mkdir(exist_ok=True)
    before = json.dumps({"theme": "dämmrig", table: {"other": {"command": "x"}}}, ensure_ascii=False)
    file.write_text(before)
    file.chmod(0o600)
    printed = project.run("mcp", "install", client)
    assert file.read_text() == before, "printing changes nothing"
    project.run("mcp", "install", client, "--write")
    now = json.loads(file.read_text())
    assert now["theme"] == "dämmrig"
    assert now[table]["other"] == {"command": "x"}
    assert now[table]["ctxfs"] == json.loads(printed)[table]["ctxfs"]
    assert now[table]["ctxfs"]["args"][-4:] == [str(project.store), "mcp", "--as", f"agent:{client}"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert Path(f"{place}.before-ctxfs").read_text() == before
    again = file.read_bytes()
    assert "already" in project.run("mcp", "install", client, "--write")
    assert file.read_bytes() == again
    project.run("mcp", "uninstall", client)
    assert json.loads(file.read_text()) == json.loads(before)
    assert project.try_run("mcp", "uninstall", client).returncode == 3


def test_toml_keeps_its_comments(project: Live) -> None:
    file = Path(".codex/config.toml")
    file.parent.mkdir()
    before = '# mine\nmodel = "m"  # why\n\n[mcp_servers.other]\ncommand = "x"\n'
    file.write_text(before)
    project.run("mcp", "install", "codex", "--write", "--as", "agent:cody")
    assert tomllib.loads(file.read_text())["mcp_servers"]["ctxfs"]["args"][-1] == "agent:cody"
    assert "already" in project.run("mcp", "install", "codex", "--write", "--as", "agent:cody")
    assert file.read_text().startswith('# mine\nmodel = "m"  # why\n')
    project.run("mcp", "uninstall", "codex")
    assert tomllib.loads(file.read_text()) == tomllib.loads(before)
    assert "# why" in file.read_text()


def test_user_wide_entry_goes_below_home_and_new_files_are_created(project: Live, tmp_path: Path) -> None:
    project.run("mcp", "install", "claude-code", "--user", "--write", "--name", "notes")
    assert "notes" in json.loads((tmp_path / "home" / ".claude.json").read_text())["mcpServers"]
    assert not Path(".mcp.json").exists()


def test_file_with_comments_of_a_person_is_not_changed(project: Live) -> None:
    file = Path(".vscode/mcp.json")
    file.parent.mkdir()
    file.write_text('{\n  // mine\n  "servers": {}\n}\n')
    done = project.try_run("mcp", "install", "vscode", "--write")
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert '"servers"' in done.stderr
    assert "// mine" in file.read_text()
    assert not Path(".vscode/mcp.json.before-ctxfs").exists()


def test_installed_entry_starts_a_server(project: Live) -> None:
    project.run("mcp", "install", "cursor", "--write")
    entry = json.loads(Path(".cursor/mcp.json").read_text())["mcpServers"]["ctxfs"]
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    asked = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n"
    done = subprocess.run(
        [entry["command"], *entry["args"]], input=asked, capture_output=True, text=True, timeout=60, cwd="/"
    )
    assert json.loads(done.stdout)["result"]["serverInfo"]["name"] == "ctxfs", done.stderr


@pytest.mark.parametrize(("client", "place"), [("claude-code", ".mcp.json"), ("codex", ".codex/config.toml")])
def test_entry_keeps_the_mark_and_line_ends_of_a_file(client: str, place: str, project: Live) -> None:
    file = Path(place)
    file.parent.mkdir(exist_ok=True)
    before = (
        b'{\r\n  "theme": "d\xc3\xa4mmrig"\r\n}\r\n' if client == "claude-code" else b'theme = "d\xc3\xa4mmrig"\r\n'
    )
    file.write_bytes(b"\xef\xbb\xbf" + before)
    project.run("mcp", "install", client, "--write")
    data = file.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf" + before[:20])
    assert b"ctxfs" in data
    assert data.count(b"\n") == data.count(b"\r\n")
