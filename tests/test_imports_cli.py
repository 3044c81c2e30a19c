"""The command import as people and scripts see it: its output, exit codes and JSON, with and without a daemon."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.live import Live, eventually
from tests.transcripts import samples
from tests.transcripts.samples import SESSION, claude_line, write_lines


@pytest.fixture
def bare(tmp_path: Path) -> Live:
    """Return an empty store without a daemon."""
    made = Live(tmp_path)
    made.run("init")
    return made


def test_import_prints_numbers_and_a_second_one_adds_nothing(bare: Live, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    assert "6 messages added of 6, from 1 file and 1 session" in bare.run("import", "claude-code", str(folder))
    assert "0 messages added of 6" in bare.run("import", "claude-code", str(folder))
    report = json.loads(bare.run("import", "claude-code", str(folder), "--json", "--dry-run"))
    assert (report["added"], report["already_there"], report["dry_run"]) == (0, 6, True)
    assert "Zanzibar" in bare.run("history", "show", "--session", f"claude-code-{SESSION}")
    assert "the chains are whole" in bare.run("history", "verify")


def test_default_folder_is_that_of_the_client(bare: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(samples.claude_project(tmp_path / "own")))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    samples.codex_file(tmp_path / "home", samples.codex_lines())
    samples.gemini_folder(tmp_path / "home")
    for client, added in (("claude-code", 6), ("codex", 5), ("gemini", 6)):
        assert f"{added} messages added" in bare.run("import", client)


def test_person_gives_the_records_to_an_agent(bare: Live, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    bare.run("import", "claude-code", str(folder), "--principal", "agent:coder")
    records = json.loads(bare.run("import", "claude-code", str(folder), "--principal", "agent:coder", "--json"))
    assert (records["added"], records["already_there"]) == (0, 6)
    (file,) = (bare.store / "history").glob("2*/*.jsonl")
    assert {json.loads(line)["principal"] for line in file.read_text().splitlines()} == {"agent:coder"}


def test_exit_codes_of_an_import(bare: Live, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    os.mkfifo(folder / "projects" / "pipe.jsonl")
    lines = write_lines(tmp_path / "x.jsonl", [{"words": "ahoy"}])
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    for arguments, code, message in (
        (("claude-code", str(folder)), 1, "projects/pipe.jsonl: it is no regular file"),
        (("claude-code", str(tmp_path / "empty")), 3, "has no transcript of claude-code"),
        (("claude-code", str(tmp_path / "none")), 3, "does not exist"),
        (("jsonl", str(lines)), 2, "the lines have: words"),
        (("jsonl", str(lines), "--map", "colour=words"), 2, "maps no member"),
        (("codex", str(folder), "--map", "text=words"), 2, "leave out --map"),
        (("jsonl",), 2, "the file of jsonl is missing"),
        (("chatgpt", str(tmp_path / "none.zip")), 1, "cannot be read"),
        (("claude-code", str(folder), "--since", "yesterday"), 2, "'yesterday' is no time"),
        (("emacs",), 2, "emacs"),
    ):
        done = bare.try_run("import", *arguments)
        assert (done.returncode, message in done.stderr) == (code, True), (arguments, done)
        assert "Traceback" not in done.stderr
    assert "1 message added" in bare.run("import", "jsonl", str(lines), "--map", "text=words")


def test_interrupted_command_reports_and_is_continued(bare: Live, tmp_path: Path) -> None:
    count = 60_000
    file = tmp_path / "x.jsonl"
    file.write_text("".join(f'{{"role": "user", "content": "message {number}"}}\n' for number in range(count)))
    process = subprocess.Popen(
        bare.command("import", "jsonl", str(file)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # jobs in the background ignore it
    )

    def has_begun() -> bool:
        return any((bare.store / "history").glob("2*/*.jsonl"))

    eventually("the import has begun", has_begun)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command continues the import" in errors
    assert "Traceback" not in errors
    assert int(output.split()[0]) < count
    bare.run("import", "jsonl", str(file))
    lines = b"".join(file.read_bytes() for file in (bare.store / "history").glob("2*/*.jsonl")).splitlines()
    assert [json.loads(line)["text"] for line in lines] == [f"message {number}" for number in range(count)]


def test_age_and_folder_choose_messages(bare: Live, tmp_path: Path) -> None:
    lines = [claude_line(1, "user", "old"), claude_line(2, "user", "new", timestamp="2999-01-01T00:00:00Z")]
    file = write_lines(tmp_path / "t" / f"{SESSION}.jsonl", lines)
    assert "1 message added" in bare.run("import", "claude-code", str(file), "--since", "1d")
    assert "0 messages added" in bare.run("import", "claude-code", str(file), "--project", "/home/bob")
    assert "1 message added" in bare.run("import", "claude-code", str(file), "--project", "/home/ada")


def test_text_of_a_transcript_controls_no_terminal(bare: Live, tmp_path: Path) -> None:
    lines = [{"type": "\x1b[31mred\n", "message": {}}, claude_line(1, "user", "x")]
    file = write_lines(tmp_path / "t" / "\x1b[2J.jsonl", lines)
    with file.open("a") as opened:
        opened.write('{"torn')
    output = bare.run("import", "claude-code", str(file.parent))
    assert "\x1b" not in output
    assert "\\x1b[31mred" in output


def test_import_into_a_mounted_store(own_live: Live, tmp_path: Path) -> None:
    """The log is written through the daemon, in the rights of the caller, and read through the mount."""
    folder = samples.claude_project(tmp_path)
    assert "6 messages added" in own_live.run("import", "claude-code", str(folder))
    assert "0 messages added" in own_live.run("import", "claude-code", str(folder))
    (file,) = own_live.at.glob(f"history/2*/claude-code-{SESSION}.jsonl")
    assert [json.loads(line)["kind"] for line in file.read_text().splitlines()].count("output") == 2
    eventually(
        "the decision is found", lambda: "seven" in own_live.try_run("search", "ferry decided kind:history").stdout
    )
    assert any(
        "claude-code" in str(path.resolve()) for path in own_live.at.glob("search/Zanzibar ferry kind:history/*")
    )
    own_live.wait_idle()
    found = json.loads(own_live.run("search", "--json", "what did we decide about the ferry"))
    assert (found["answer"]["verdict"], found["hits"][0]["path"]) == ("known", file.relative_to(own_live.at).as_posix())
    assert list((own_live.store / "tree" / "memory").rglob("*.md")) == []
    os.environ["CTXFS_TOKEN"] = own_live.run("token", "issue", "agent:bob", "--allow", "history/**:r").strip()
    try:
        done = own_live.try_run("import", "claude-code", str(folder))
        assert (done.returncode, "belongs to another principal" in done.stderr) == (1, True)
        other = write_lines(tmp_path / "t" / "other.jsonl", [claude_line(70, "user", "mine", session="other")])
        assert "1 message added" in own_live.run("import", "claude-code", str(other))
    finally:
        del os.environ["CTXFS_TOKEN"]
    assert '"principal": "agent:bob"' in own_live.run("cat", f"history/{file.parent.name}/claude-code-other.jsonl")
