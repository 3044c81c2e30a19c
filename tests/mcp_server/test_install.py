"""Test that registration with a client keeps the rest of its configuration files."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ctxfs.mcp_server.client_config import CLIENTS
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
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
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


def test_comments_of_a_person_stay_where_the_client_permits_them(project: Live) -> None:
    file = Path(".vscode/mcp.json")
    file.parent.mkdir()
    file.write_text('{\n  // mine\n  "servers": {}\n}\n')
    project.run("mcp", "install", "vscode", "--write")
    assert file.read_text().startswith('{\n  // mine\n  "servers": {\n    "ctxfs": {')
    project.run("mcp", "uninstall", "vscode")
    assert file.read_text() == '{\n  // mine\n  "servers": {}\n}\n'


def test_file_that_the_client_cannot_read_is_not_changed(project: Live) -> None:
    file = Path(".mcp.json")
    file.write_text('{\n  // mine\n  "mcpServers": {}\n}\n')
    done = project.try_run("mcp", "install", "claude-code", "--write")
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert '"mcpServers"' in done.stderr
    assert "// mine" in file.read_text()
    assert not Path(".mcp.json.before-ctxfs").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
@pytest.mark.parametrize(
    ("client", "place"),
    [
        ("claude-desktop", ".config/Claude/claude_desktop_config.json"),
        ("windsurf", ".codeium/windsurf/mcp_config.json"),
        ("zed", ".config/zed/settings.json"),
        ("cline", ".cline/data/settings/cline_mcp_settings.json"),
        ("opencode", ".config/opencode/opencode.json"),
        ("goose", ".config/goose/config.yaml"),
        ("vscode", ".config/Code/User/mcp.json"),
    ],
)
def test_settings_of_the_user_are_where_the_client_reads_them(
    client: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "CLINE_MCP_SETTINGS_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert CLIENTS[client].file(None) == tmp_path / place
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x"))
    moved = place.replace(".config", "x", 1) if place.startswith(".config") else place
    assert CLIENTS[client].file(None) == tmp_path / moved


def test_settings_that_exist_are_taken_before_the_usual_file(project: Live, tmp_path: Path) -> None:
    Path("opencode.jsonc").write_text("{\n  // mine\n}\n")
    project.run("mcp", "install", "opencode", "--write")
    assert not Path("opencode.json").exists()
    assert "// mine" in Path("opencode.jsonc").read_text()
    Path("opencode.json").write_text("{}")
    assert "already" in project.run("mcp", "install", "opencode", "--write")
    project.run("mcp", "uninstall", "opencode")
    assert Path("opencode.jsonc").read_text() == "{\n  // mine\n}\n"
    assert Path("opencode.json").read_text() == "{}"


def test_client_without_settings_of_a_project_gets_those_of_the_user(project: Live, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "dotfiles" / "goose.yaml").write_text("GOOSE_MODE: auto # mine\n")
    (tmp_path / "home" / ".config" / "goose").mkdir(parents=True)
    file = tmp_path / "home" / ".config" / "goose" / "config.yaml"
    file.symlink_to(tmp_path / "dotfiles" / "goose.yaml")
    project.run("mcp", "install", "goose", "--write")
    assert file.is_symlink()
    assert file.read_text().startswith("GOOSE_MODE: auto # mine\nextensions:\n  ctxfs:\n    enabled: true\n")
    project.run("mcp", "uninstall", "goose")
    assert file.read_text() == "GOOSE_MODE: auto # mine\n"


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
