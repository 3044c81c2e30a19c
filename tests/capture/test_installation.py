"""Hooks are installed in the settings of each client and taken out again, and nothing else in the file changes."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from ctxfs.capture.client_hooks import HOOK_CLIENTS, HookClient, HookCommand, store_of_command
from ctxfs.capture.installation import plan_install, plan_uninstall
from ctxfs.model.errors import CommandError
from ctxfs.store.jsonc import insert_item, parse_json
from tests.live import Live

TEXTS = {
    "empty": "",
    "blank": "\n",
    "object": "{}",
    "object and line": "{}\n",
    "space": "{ }",
    "two lines": "{\n}\n",
    "two spaces": '{\n  "a": 1,\n  "b": [1, 2]\n}\n',
    "four spaces": '{\n    "a": 1\n}',
    "tabs": '{\n\t"a": {"x": []}\n}\n',
    "one line": '{"a": 1, "b": {"c": 2}}',
    "CRLF": '{\r\n  "a": 1\r\n}\r\n',
    "comments": '// top\n{\n  // first\n  "a": 1, // why\n  /* b */ "b": 2 // last\n  // end\n}\n// after\n',
    "trailing comma": '{\n  "a": 1, // x\n}\n',
    "empty hooks": '{\n  "hooks": {}\n}\n',
    "empty hooks on a line": '{"hooks": {}}',
    "empty events": '{\n  "hooks": {\n    "Stop": [],\n    "stop": []\n  }\n}\n',
    "others": '{\n  "hooks": {\n    "Stop": [\n      {"hooks": [{"type": "command", "command": "say done"}]} // mine\n    ],'
    '\n    "PreCompact": [{"hooks": [{"type": "command", "command": "x"}]}],\n'
    '    "beforeSubmitPrompt": [ { "command": "./x.sh" } ]\n  },\n  "model": "x",\n  "version": 1\n}\n',
    "BOM": '\ufeff{\n  "a": "é"\n}\n',
    "only a comment": "{\n  // nothing yet\n}\n",
    "comment on the line": "{ /* c */ }",
    "no comment": '{\n  "url": "http://x//y", "s": "/* no */ \\" // "\n}\n',
}
BAD_TEXTS = {
    "no JSON": "hooks = 1\n",
    "half": '{\n  "a": 1,\n  "hooks": {\n',
    "two objects": "{}\n{}\n",
    "a list": "[]\n",
    "a text": '"hooks"\n',
    "hooks is a list": '{"hooks": []}\n',
    "hooks is a text": '{"hooks": "none"}\n',
    "an event is an object": '{"hooks": {"Stop": {}, "stop": {}, "AfterAgent": {}}}\n',
    "hooks twice": '{"hooks": {}, "hooks": {"Stop": []}}\n',
    "open comment": "{} /* \n",
    "too deep": '{"a": ' + "[" * 5000 + "]" * 5000 + "}",
    "single quotes": "{'a': 1}\n",
}


@pytest.fixture(params=sorted(HOOK_CLIENTS))
def client(request: pytest.FixtureRequest) -> HookClient:
    return HOOK_CLIENTS[request.param]


def write_file(client: HookClient, folder: Path, text: str) -> Path:
    file = client.file(folder / "project")
    file.parent.mkdir(parents=True)
    file.write_bytes(text.encode())
    return file


def command_of(client: HookClient, folder: Path, recall: int = 0) -> HookCommand:
    (folder / "store").mkdir(exist_ok=True)
    return HookCommand(("/a b/ctxfs",), str(folder / "store"), client.name, recall=recall)


def events_of(client: HookClient) -> list[str]:
    return [event for event in client.events if event != "tool"]


def commands_in(file: Path) -> list[str]:
    def collect(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["command"]] if isinstance(value.get("command"), str) else []
            return own + [text for item in value.values() for text in collect(item)]
        return [text for item in value for text in collect(item)] if isinstance(value, list) else []

    return collect(parse_json(file.read_text()).plain)


@pytest.mark.parametrize("name", TEXTS)
def test_installation_and_removal_restore_every_byte(client: HookClient, name: str, tmp_path: Path) -> None:
    file = write_file(client, tmp_path, TEXTS[name])
    plan_install(client, file, command_of(client, tmp_path), events_of(client)).write()
    ours = [text for text in commands_in(file) if store_of_command(text, client.name) == str(tmp_path / "store")]
    assert len(ours) == len(events_of(client))
    assert plan_install(client, file, command_of(client, tmp_path), events_of(client)).is_empty, "a second run"
    plan_install(client, file, command_of(client, tmp_path, recall=500), events_of(client)).write()
    assert sum("--recall=500" in text for text in commands_in(file)) == 1
    plan_uninstall(client, file, "").write()
    assert file.read_bytes() == TEXTS[name].encode()
    assert plan_uninstall(client, file, "").is_empty


@pytest.mark.parametrize("name", [name for name in TEXTS if TEXTS[name].strip()])
def test_removal_keeps_later_changes_and_comments(client: HookClient, name: str, tmp_path: Path) -> None:
    file = write_file(client, tmp_path, TEXTS[name])
    plan_install(client, file, command_of(client, tmp_path), events_of(client)).write()
    event = client.events["prompt"]
    text = file.read_bytes().decode()
    before = parse_json(text).plain
    file.write_bytes(insert_item(text, parse_json(text), "kept", "later").encode())
    plan_uninstall(client, file, "").write()
    after = parse_json(file.read_bytes().decode()).plain
    assert after.pop("later") == "kept"
    assert not any(store_of_command(text, client.name) for text in commands_in(file))
    original = parse_json(TEXTS[name]).plain
    assert {key: value for key, value in after.items() if key != "version"} == {
        key: value for key, value in original.items() if key != "version"
    }
    assert event in before["hooks"]
    for comment in ("// top", "// why", "// last", "// end", "// after", "// nothing yet", "// mine"):
        assert (comment in TEXTS[name]) == (comment in file.read_bytes().decode())


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_file_that_cannot_be_edited_safely_stays(client: HookClient, name: str, tmp_path: Path) -> None:
    file = write_file(client, tmp_path, BAD_TEXTS[name])
    with pytest.raises(CommandError) as caught:
        plan_install(client, file, command_of(client, tmp_path), events_of(client))
    assert "was not changed" in caught.value.message
    assert "capture hook prompt" in caught.value.remedy, "the remedy has what to add"
    assert file.read_bytes().decode() == BAD_TEXTS[name]


def test_missing_file_is_made_and_removed(client: HookClient, tmp_path: Path) -> None:
    file = client.file(tmp_path / "project")
    change = plan_install(client, file, command_of(client, tmp_path), events_of(client))
    assert not file.exists()
    assert "/dev/null" in change.diff
    change.write()
    assert stat.S_IMODE(file.stat().st_mode) & 0o022 == 0
    plan_install(client, file, command_of(client, tmp_path, recall=300), events_of(client)).write()
    plan_uninstall(client, file, "").write()
    assert not file.parent.exists()


def test_folder_with_other_files_stays(client: HookClient, tmp_path: Path) -> None:
    file = client.file(tmp_path / "project")
    plan_install(client, file, command_of(client, tmp_path), events_of(client)).write()
    (file.parent / "other").write_text("kept")
    plan_uninstall(client, file, "").write()
    assert os.listdir(file.parent) == ["other"]


def test_entry_has_the_documented_form(client: HookClient, tmp_path: Path) -> None:
    file = client.file(tmp_path / "project")
    plan_install(client, file, command_of(client, tmp_path), events_of(client)).write()
    settings = json.loads(file.read_text())
    for event in events_of(client):
        (entry,) = settings["hooks"][client.events[event]]
        if client.name == "cursor":
            assert settings["version"] == 1
        else:
            (entry,) = entry["hooks"]
            assert entry["type"] == "command"
        assert f"capture hook {event} " in entry["command"]
        assert entry["command"].endswith("|| true"), "no failure of the hook is an answer"
        assert entry["timeout"] in (3, 10, 10_000)


def test_entries_of_other_stores_and_programs_stay(tmp_path: Path) -> None:
    client = HOOK_CLIENTS["claude-code"]
    file = client.file(tmp_path / "project")
    other = HookCommand(("/usr/bin/ctxfs",), str(tmp_path / "other"), client.name)
    plan_install(client, file, other, ["stop"]).write()
    plan_install(client, file, command_of(client, tmp_path), ["stop", "prompt"]).write()
    settings = json.loads(file.read_text())
    like_ours = {"type": "command", "command": "notctxfs capture hook stop --client claude-code"}
    settings["hooks"]["Stop"][-1]["hooks"].append(like_ours)
    file.write_text(json.dumps(settings))
    plan_uninstall(client, file, str(tmp_path / "store")).write()
    assert commands_in(file) == [other.line("stop"), like_ours["command"]]


@pytest.mark.parametrize(
    ("command", "store"),
    [
        ("ctxfs --store /s capture hook stop --client codex || true", "/s"),
        ("'/a b/ctxfs' --store '/s t' capture hook stop --client codex --as agent:x || true", "/s t"),
        ("/usr/bin/python -m ctxfs --store /s capture hook stop --client codex", "/s"),
        ("ctxfs capture hook stop --client codex", ""),
        ("ctxfs --store /s capture hook stop --client cursor || true", None),
        ("echo capture hook stop --client codex", None),
        ("ctxfs mcp --as capture; hook stop --client codex", None),
        ("ctxfs 'capture hook' --client codex", None),
        ("ctxfs capture hook stop --client codex 'unfinished", None),
        (["ctxfs"], None),
    ],
)
def test_own_commands_are_recognised(command: object, store: str | None) -> None:
    assert store_of_command(command, "codex") == store


def test_mode_and_owner_stay_and_a_link_is_followed(tmp_path: Path) -> None:
    client = HOOK_CLIENTS["claude-code"]
    target = tmp_path / "dotfiles.json"
    target.write_text('{"a": 1}\n')
    target.chmod(0o600)
    file = client.file(tmp_path / "project")
    file.parent.mkdir(parents=True)
    file.symlink_to(target)
    plan_install(client, file, command_of(client, tmp_path), ["stop"]).write()
    assert file.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert commands_in(target)
    plan_uninstall(client, file, "").write()
    assert target.read_text() == '{"a": 1}\n'
    assert sorted(os.listdir(tmp_path)) == ["dotfiles.json", "project", "store"], "no temporary file stays"


def test_unsafe_files_are_refused(tmp_path: Path) -> None:
    client = HOOK_CLIENTS["codex"]
    file = client.file(tmp_path / "project")
    file.parent.mkdir(parents=True)

    def refused() -> str:
        with pytest.raises(CommandError) as caught:
            plan_install(client, file, command_of(client, tmp_path), ["stop"]).write()
        return f"{caught.value.message} → {caught.value.remedy}"

    file.symlink_to(tmp_path / "nowhere")
    assert "link" in refused()
    assert not (tmp_path / "nowhere").exists()
    file.unlink()
    file.mkdir()
    assert refused()
    file.rmdir()
    os.mkfifo(file)
    assert "no regular file" in refused()
    file.unlink()
    file.write_text("{}")
    file.chmod(0o444)
    assert "chmod u+w" in refused()
    file.chmod(0o644)
    os.link(file, tmp_path / "second")
    assert "hard links" in refused()
    (tmp_path / "second").unlink()
    file.write_bytes(b'{"a": "\xff"}')
    assert "UTF-8" in refused()
    if os.geteuid() == 0:
        file.write_text("{}")
        os.chown(file, 12345, 12345)
        assert "belongs to user 12345" in refused()
        assert file.read_text() == "{}"


def test_file_that_changes_between_reading_and_writing_stays(tmp_path: Path) -> None:
    client = HOOK_CLIENTS["gemini-cli"]
    file = write_file(client, tmp_path, '{"a": 1}')
    change = plan_install(client, file, command_of(client, tmp_path), ["stop"])
    file.write_text('{"a": 2}')
    with pytest.raises(CommandError, match="changed meanwhile"):
        change.write()
    assert file.read_text() == '{"a": 2}'
    assert os.listdir(file.parent) == [file.name]


def test_installations_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    client = HOOK_CLIENTS["claude-code"]
    file = write_file(client, tmp_path, '{"a": 1}')
    outcomes: list[str] = []

    def install() -> None:
        try:
            plan_install(client, file, command_of(client, tmp_path), events_of(client)).write()
            outcomes.append("done")
        except CommandError as error:
            outcomes.append(error.message)

    threads = [threading.Thread(target=install) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "done" in outcomes
    assert len(commands_in(file)) == len(events_of(client))


def test_installations_at_once_in_two_projects_can_both_be_taken_back(tmp_path: Path) -> None:
    client = HOOK_CLIENTS["claude-code"]
    files = [write_file(client, tmp_path / str(number), '{"a": 1}') for number in range(6)]
    command = command_of(client, tmp_path)
    threads = [threading.Thread(target=plan_install(client, file, command, events_of(client)).write) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for file in files:
        plan_uninstall(client, file, "").write()
        assert file.read_text() == '{"a": 1}', "as it was, which only a receipt knows"


def test_commands_show_the_change_and_write_it_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = Live(tmp_path)
    live.run("init")
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shown = live.try_run("capture", "install", "cursor", "--recall", "--as", "agent:helper")
    assert shown.returncode == 0
    assert '+        "command": ' in shown.stdout
    assert "no context from a hook" in shown.stderr, "a limit of the client"
    assert not (project / ".cursor").exists()
    live.run("capture", "install", "cursor", "--recall", "--as", "agent:helper", "--write")
    text = (project / ".cursor/hooks.json").read_text()
    assert "--as agent:helper" in text
    assert "--recall" not in text
    assert "are there already" in live.run("capture", "install", "cursor", "--as", "agent:helper", "--write")
    live.run("capture", "install", "claude-code", "--user", "--recall=300", "--tools", "--write")
    user_file = tmp_path / "home/.claude/settings.json"
    assert user_file.read_text().count("--recall=300") == 1
    assert "PostToolUse" in user_file.read_text()
    assert live.try_run("capture", "uninstall", "claude-code").returncode == 3, "not in this project"
    assert "-" in live.run("capture", "uninstall", "cursor")
    assert (project / ".cursor/hooks.json").exists(), "shown only"
    live.run("capture", "uninstall", "cursor", "--write")
    live.run("capture", "uninstall", "claude-code", "--user", "--write")
    assert not (project / ".cursor/hooks.json").exists()
    assert not user_file.exists()
