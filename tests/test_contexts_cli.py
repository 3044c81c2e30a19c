"""Contexts from scripts: output of commands, their exit codes, and the commands that people configure."""

import json
import shlex
import sys
from pathlib import Path

import jsonschema
import pytest

from ctxfs.context.build.manifest import schema
from tests.live import Live

QUESTION = (
    "rotating keys every ninety days, push to main, previous tag, retry a request, where is the runbook in the wiki"
)
TRUE = "Rotate the signing keys every ninety days.\n"
JUDGE = """
import json, sys
asked = json.load(sys.stdin)
assert asked["task"] == "judge"
print(json.dumps([{"verdict": "unsupported", "why": "I say so: " + each["claim"]} for each in asked["claims"]]))
"""
SUMMARISER = """
import json, sys
asked = json.load(sys.stdin)
assert asked["task"] == "summarise" and asked["tokens"] > 0
print("In short: " + ", ".join(sorted({piece["path"].rpartition("/")[2] for piece in asked["pieces"]})) + " " + "more " * 900)
"""
SERVER = """
from mcp.server import MCPServer
server = MCPServer("judges")

def judge(task: str, claims: list[dict]) -> str:
    import json
    return json.dumps([{"verdict": "supported", "why": "by a tool"} for _ in claims])

def broken(task: str) -> str:
    raise ValueError("out of order")

server.add_tool(judge, structured_output=False)
server.add_tool(broken, structured_output=False)
server.run()
"""


def configured(live: Live, **settings: str) -> None:
    config = live.store / "ctxfs.toml"
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    config.write_text(config.read_text().replace("[context]", f"[context]\n{lines}"))


def script(live: Live, name: str, text: str) -> str:
    file = live.store.parent / name
    file.write_text(text)
    return shlex.join([sys.executable, str(file)])


def test_manifests_can_be_checked_compared_and_asked(offline: Live, tmp_path: Path) -> None:
    old, new = str(tmp_path / "old.json"), str(tmp_path / "new.json")
    text = offline.run("context", QUESTION, "--budget", "130", "--save-manifest", old)
    manifest = json.loads(Path(old).read_text())
    jsonschema.validate(manifest, json.loads(schema()))
    assert offline.run("context", "schema") == schema().decode()
    assert "byte for byte" in offline.run("context", "verify", old)
    assert offline.run("context", QUESTION, "--budget", "130") == text

    offline.run("context", QUESTION, "--budget", "300", "--save-manifest", new)
    found = offline.try_run("context", "diff", old, new, "--json")
    assert found.returncode == 1
    difference = json.loads(found.stdout)
    assert difference["added"]
    assert difference["request"]["budget"] == [130, 300]
    assert offline.try_run("context", "diff", old, old).returncode == 0

    place = manifest["items"][0]["path"]
    said = offline.run("context", "why", old, place)
    assert f"+ {place}:" in said
    assert "words" in said
    left = json.loads(offline.run("context", "why", old, "knowledge/handbook", "--json"))
    assert {entry.get("reason") for entry in left} >= {None, "budget"}
    assert offline.try_run("context", "why", old, "knowledge/elsewhere").returncode == 3
    shown = offline.run("context", "show", old)
    assert f"{manifest['context']['tokens']} of 130 tokens" in shown
    assert place in shown

    (offline.corpus / place.removeprefix("knowledge/handbook/")).write_text("# Keys\n\nNothing about them.\n")
    again = offline.try_run("context", "verify", old)
    assert again.returncode == 6
    assert place in again.stdout


def test_a_context_of_memory_is_made_again_from_its_past(offline: Live, tmp_path: Path) -> None:
    note = offline.store / "tree" / "memory" / "shared" / "gate.md"
    note.write_text("The gate code is 1111.\n")
    offline.run("commit")
    manifest = str(tmp_path / "m.json")
    offline.run("context", "gate code", "--path", "memory", "--save-manifest", manifest)
    note.write_text("The gate code is 2222.\n")
    offline.run("commit")
    found = json.loads(offline.run("context", "verify", manifest, "--json"))
    assert found["same"]
    assert found["changed"] == ["memory/shared/gate.md"]
    assert not found["now"]


def test_a_request_file_and_options_go_together(offline: Live, tmp_path: Path) -> None:
    request = tmp_path / "request.toml"
    request.write_text('query = "rollback"\nbudget = 80\n[quota]\ncode = "10%"\n')
    built = json.loads(
        offline.run("context", "--request", str(request), "--budget", "200", "--format", "json", "--json")
    )
    assert built["manifest"]["request"]["budget"] == 200
    assert built["manifest"]["request"]["quota"] == {"code": 20}
    assert json.loads(built["text"])["sources"]
    output = tmp_path / "out.md"
    assert offline.run("context", "build", "rollback", "-o", str(output)) == ""
    assert "previous tag" in output.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("context", "x", "--tokenizer", "gpt-17"), 1, "unknown tokenizer"),
        (("context", "x", "--budget", "0"), 2, "0"),
        (("context", "x", "--budget", "10000001"), 2, "10000001"),
        (("context", "x", "--quota", "code"), 2, "KIND=TOKENS"),
        (("context", "x", "--pin", "knowledge/handbook/nowhere.md"), 1, "does not exist"),
        (("context", "x", "--as-of", "1990-01-01"), 1, "1990-01-01"),
        (("context", "x", "--summarise"), 1, "there is no summariser"),
        (("context", "verify", "no-such-task"), 1, "neither a file nor a task"),
        (("context", "evaluate", "no-such-task"), 1, "context/no-such-task: No such file"),
        (("context", "next", "no-such-task"), 1, "no-such-task"),
        (("review", "nonsense", "accept"), 2, "no review is called"),
        (("review", "--list"), 3, "nothing waits"),
        (("fit", "--budget", "0"), 2, "0"),
        (("context",), 2, "Usage"),
    ],
)
def test_what_cannot_be_done_is_said_with_a_code(
    offline: Live, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = offline.try_run(*arguments, input="")
    assert (done.returncode, said in done.stderr + done.stdout) == (code, True), done.stderr + done.stdout


def test_ten_million_tokens_and_an_empty_tree(offline: Live, tmp_path: Path) -> None:
    assert "ninety days" in offline.run("context", "keys", "--budget", "10000000")
    empty = Live(tmp_path / "empty")
    empty.run("init")
    done = empty.try_run("context", "anything", "--budget", "50")
    assert done.returncode == 3
    assert "Nothing" in done.stdout


def test_a_judge_and_a_summariser_that_people_configure(offline: Live, tmp_path: Path) -> None:
    configured(offline, judge=script(offline, "judge.py", JUDGE), summariser=script(offline, "summary.py", SUMMARISER))
    manifest = str(tmp_path / "m.json")
    offline.run("context", "rotate signing keys", "--budget", "150", "--save-manifest", manifest)
    done = offline.try_run(
        "context",
        "evaluate",
        "-",
        "--manifest",
        manifest,
        "--json",
        input="Rotate the signing keys every ninety days.\n",
    )
    (claim,) = json.loads(done.stdout)["claims"]
    assert claim["verdict"] == "unsupported"
    assert claim["judge"]["why"].startswith("I say so: Rotate")

    built = json.loads(offline.run("context", QUESTION, "--budget", "150", "--summarise", "--json"))
    assert built["tokens"] <= 150
    assert "In short: " in built["text"]
    derived = built["manifest"]["items"][-1]
    assert (derived["why"], derived["path"], derived["cut"]) == ("derived", "", True)
    assert derived["origin"]
    Path(manifest).write_text(json.dumps(built["manifest"]))
    assert json.loads(offline.run("context", "verify", manifest, "--json"))["same"]


def test_a_judge_that_fails_leaves_the_rules(offline: Live, tmp_path: Path) -> None:
    configured(offline, judge="false", summariser="/no/such/command")
    manifest = str(tmp_path / "m.json")
    offline.run("context", "rotate signing keys", "--budget", "150", "--save-manifest", manifest)
    done = offline.try_run(
        "context",
        "evaluate",
        "-",
        "--manifest",
        manifest,
        "--json",
        input="Rotate the signing keys every ninety days.\n",
    )
    body = json.loads(done.stdout)
    assert body["claims"][0]["verdict"] == "supported"
    assert any("the judge did not answer" in note for note in body["notes"])
    failed = offline.try_run("context", "keys", "--budget", "60", "--summarise")
    assert failed.returncode == 1
    assert "cannot be started" in failed.stderr


def test_a_tool_of_an_mcp_server_is_a_command(offline: Live, tmp_path: Path) -> None:
    server = script(offline, "server.py", SERVER)
    ctxfs = shlex.join([sys.executable, "-m", "ctxfs"])
    configured(offline, judge=f"{ctxfs} mcp-call judge -- {server}")
    manifest = str(tmp_path / "m.json")
    offline.run("context", "rotate signing keys", "--budget", "150", "--save-manifest", manifest)
    done = offline.try_run(
        "context", "evaluate", "-", "--manifest", manifest, "--json", input="The moon is made of green cheese.\n"
    )
    assert json.loads(done.stdout)["claims"][0]["judge"] == {"verdict": "supported", "why": "by a tool"}
    broken = offline.try_run("mcp-call", "broken", "--", *shlex.split(server), input='{"task": "x"}')
    assert broken.returncode == 1
    assert "out of order" in broken.stderr
    assert offline.try_run("mcp-call", "x", "--", "/no/such/server", input="{}").returncode == 1
    assert offline.try_run("mcp-call", "x", "--", "true", input="[").returncode == 2


def test_tokens_and_fit_read_from_pipes(offline: Live) -> None:
    counted = json.loads(
        offline.run("tokens", str(offline.corpus / "rotation.md"), str(offline.corpus / "deploy.md"), "--json")
    )
    assert counted["total"] == sum(counted["files"].values()) > 20
    text = "\n\n".join([*(f"Line {n} about the weather." for n in range(60)), "Keys rotate every ninety days."])
    cut = offline.try_run("fit", "--budget", "60", "--query", "how often do keys rotate", "--words", input=text)
    assert "ninety days" in cut.stdout
    assert int(offline.try_run("tokens", input=cut.stdout).stdout) <= 60


def test_secrets_are_withheld_unless_they_are_asked_for(offline: Live) -> None:
    key = "AKIA" + "IOSFODNN7EXAMPLE"
    (offline.corpus / "cloud.md").write_text(f"# Cloud\n\nThe access key of the walrus account is {key} until May.\n")
    text = offline.run("context", "access key of the walrus account", "--save-manifest", str(offline.store / "m.json"))
    assert key not in text
    assert "is ⟨AWS Access Key withheld⟩ until May." in text
    manifest = (offline.store / "m.json").read_text()
    assert key not in manifest
    (item,) = [item for item in json.loads(manifest)["items"] if item["path"].endswith("cloud.md")]
    assert item["withheld"] == ["AWS Access Key"]
    assert "same" in offline.run("context", "verify", str(offline.store / "m.json"))
    assert key in offline.run("context", "access key of the walrus account", "--secrets")
    pinned = offline.run("context", "walrus", "--pin", "knowledge/handbook/cloud.md")
    assert key not in pinned
