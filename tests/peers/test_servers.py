"""Test published servers, mounted and used through a shell on a real mount: three of npm, two of PyPI."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, eventually
from tests.peers.conftest import PEERS
from tests.test_examples import script


def npm(name: str, *words: str) -> list[str]:
    binaries = PEERS / "node_modules" / ".bin"
    return [str(binaries / "node"), str(binaries / f"mcp-server-{name}"), *words]


def python(name: str, *words: str) -> list[str]:
    return ["env", f"PYTHONPATH={PEERS / 'servers'}", sys.executable, "-m", f"mcp_server_{name}", *words]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("published"))
    work = made.store.parent / "work"
    work.mkdir()
    (work / "note.txt").write_text("a note\n")
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "Say a note"],
    ):
        subprocess.run(["git", "-C", work, *words], check=True)
    made.run("init")
    made.run("mount", str(made.at))
    for name, command in (
        ("everything", npm("everything")),
        ("filesystem", npm("filesystem", str(work))),
        ("graph", ["env", f"MEMORY_FILE_PATH={work.parent / 'graph.json'}", *npm("memory")]),
        ("git-server", python("git", "--repository", str(work))),
        ("time", python("time")),
    ):
        made.run("tools", "add", name, "--yes", "--", *command)
    yield made
    made.close()


def run(live: Live, tool: str, *words: str) -> str:
    done = subprocess.run(
        [live.at / "tools" / tool, *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{tool} {words}: {done.stderr}"
    return done.stdout


def test_everything_of_the_reference_server_is_a_file(live: Live) -> None:
    assert run(live, "everything/get-sum/run", "2", "3") == "The sum of 2 and 3 is 5.\n"
    assert run(live, "everything/echo/run", "--message", "hi") == "Echo: hi\n"
    shown = json.loads(run(live, "everything/get-structured-content/run", "Chicago", "-o", "json"))
    assert set(shown["structured"]) == {"temperature", "conditions", "humidity"}
    picture = run(live, "everything/get-tiny-image/run").splitlines()[-1]
    assert (live.at / picture).read_bytes().startswith(b"\x89PNG")
    assert "](demo://resource/" in run(live, "everything/get-resource-links/run")
    assert "Berlin" in run(live, "everything/prompts/args-prompt/render", "Berlin")
    assert "completed" in run(live, "everything/trigger-long-running-operation/run", "--duration", "1", "--steps", "2")
    documents = live.at / "knowledge" / "everything" / "demo" / "resource"
    listed = eventually("they are fetched", lambda: list((documents / "static" / "document").iterdir()))
    assert all(file.read_text() for file in listed)
    assert "Resource 7" in (documents / "dynamic" / "text" / "7").read_text()
    assert (live.at / "tools" / "everything" / "instructions.md").read_text()


def test_elicitation_of_the_reference_server_reaches_a_person(live: Live) -> None:
    reviews = live.at / "human" / "review"
    for tool, verdict, answer in (
        ("trigger-elicitation-request", 'edit {"name": "Ada"}', "Ada"),
        ("trigger-sampling-request", "edit I am a person.", "I am a person."),
    ):
        words = ["--prompt", "hello"] if "sampling" in tool else []
        before = set(os.listdir(reviews)) if reviews.exists() else set()
        asking = subprocess.Popen(
            [live.at / "tools/everything" / tool / "run", "-y", *words], stdout=subprocess.PIPE, text=True
        )
        new = eventually(
            "it waits", lambda before=before: set(os.listdir(reviews)) - before if reviews.exists() else None
        )
        folder = reviews / next(iter(new))
        eventually("it can be decided", (folder / "verdict").exists)
        (folder / "verdict").write_text(f"{verdict}\n")
        assert answer in asking.communicate(timeout=30)[0]


def test_servers_for_files_a_graph_time_and_git_work(live: Live) -> None:
    work = live.store.parent / "work"
    assert run(live, "filesystem/read_text_file/run", str(work / "note.txt")).startswith("a note")
    assert "note.txt" in run(live, "filesystem/list_directory/run", "--path", str(work))
    entities = json.dumps({"name": "Ada", "entityType": "person", "observations": ["likes keys"]})
    run(live, "graph/create_entities/run", "-y", "--entities", entities)
    assert "likes keys" in run(live, "graph/read_graph/run")
    assert json.loads(run(live, "time/get_current_time/run", "UTC"))["timezone"] == "UTC"
    assert "Say a note" in run(live, "git-server/git_log/run", str(work))
    denied = subprocess.run(
        [live.at / "tools/filesystem/read_text_file/run", "/etc/passwd"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert denied.returncode == 1
    assert "denied" in denied.stderr


def test_the_second_exemplar_works_with_the_published_git_server(live: Live) -> None:
    done = script(
        live, "mcp-assistant.sh", "git-server", "what changed in the repository?", REPO=str(live.store.parent / "work")
    )
    assert "Say a note" in done.stdout, done.stdout + done.stderr


def test_each_tool_is_found_by_its_description(live: Live) -> None:
    for question, tool in (
        ("add two numbers", "get-sum"),
        ("what time is it in Tokyo", "get_current_time"),
        ("commit history", "git_log"),
    ):
        names = sorted(os.listdir(live.at / "tools" / ".search" / question))
        assert any(name.endswith(f" {tool}") for name in names[:2]), (question, names[:4])


def test_no_server_is_lost_after_a_kill_of_all(live: Live) -> None:
    subprocess.run(["pkill", "-f", "mcp[-_]server"], check=False)

    def back(tool: str, *words: str) -> bool:
        program = live.at / "tools" / tool / "run"
        return subprocess.run([program, *words], capture_output=True, stdin=subprocess.DEVNULL).returncode == 0

    eventually("one is there again", lambda: back("everything/echo", "--message", "back"), 60)
    eventually("the other, too", lambda: back("time/get_current_time", "UTC"), 60)
    assert Path(live.at / "knowledge" / "everything").is_dir()
