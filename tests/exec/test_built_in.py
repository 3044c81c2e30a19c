"""Test the built-in tools, run as programs on real mounts and as standalone programs."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxfs.rpc.client import Client
from tests.live import Live, eventually
from tests.live import run_tool as run

TOOLS = Path(__file__).parent.parent.parent / "tools"


def ask(tool: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a tool by itself, with the command that ctxfs uses."""
    return subprocess.run(
        [sys.executable, TOOLS / tool / "run.py"],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        timeout=60,
    )


def git(folder: Path, *words: str) -> str:
    who = {
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    done = subprocess.run(
        ["git", *words], cwd=folder, env={**os.environ, **who}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with two commits; the second changes docs/ and secret.txt."""
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q", "-b", "main")
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("one\n")
    (folder / "secret.txt").write_text("the first secret\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "Begin")
    (folder / "docs" / "a.md").write_text("two\n")
    (folder / "secret.txt").write_text("the other secret\n")
    git(folder, "commit", "-qam", "Say two")
    return folder


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("built-in"))
    made.run("init")
    made.run("add", str(repository / "docs"), "--name", "docs")
    made.run("mount", str(made.at))
    made.run("mount", str(made.at.parent / "mnt-alice"), "--as", "agent:alice")
    yield made
    made.close()


def test_every_built_in_tool_has_a_directory_and_describes_its_arguments(live: Live) -> None:
    names = {"calendar", "diff-summary", "extract", "fetch", "git", "summarise", "table"}
    assert names <= set(os.listdir(live.at / "tools"))
    for name in names:
        help_text = run(live, name, "--help")
        assert help_text.returncode == 0
        definition = json.loads((live.at / "tools" / name / "tool.json").read_text())
        assert definition["description"].split()[0] in help_text.stdout
        assert all(
            f"--{option}".replace("_", "-") in help_text.stdout for option in definition["inputSchema"]["properties"]
        )
        assert f"- {name}: " in (live.at / "tools" / "index.md").read_text()


def test_git_reports_changes_of_the_folder_only(live: Live) -> None:
    log = run(live, "git", "log", "knowledge/docs").stdout
    assert "Say two" in log
    assert "Ada" in log
    assert run(live, "git", "log", "mnt/knowledge/docs", "--limit", "1").stdout.count("Ada") == 1
    shown = run(live, "git", "show", "--repo", "knowledge/docs").stdout
    assert "+two" in shown
    assert "secret" not in shown
    diff = run(live, "git", "diff", "knowledge/docs", at="mnt-alice").stdout
    assert "-one" in diff
    assert "secret" not in diff


def test_git_stays_inside_its_folder(repository: Path, tmp_path: Path) -> None:
    docs, blob = str(repository / "docs"), git(repository, "rev-parse", "HEAD:secret.txt")
    for wrong in (
        {"rev": "HEAD:secret.txt"},
        {"rev": blob},
        {"rev": "--output=/tmp/x"},
        {"rev": ":/Say"},
        {"path": "../secret.txt"},
        {"path": "/etc/passwd"},
    ):
        done = ask("git", command="show", repo=docs, **wrong)
        assert done.returncode == 1, done.stdout
        assert "secret" not in done.stdout
    (tmp_path / ".git").write_text(f"gitdir: {repository}/.git\n")
    led = ask("git", command="log", repo=str(tmp_path))
    assert (led.returncode, led.stdout) == (1, "")
    assert "elsewhere" in led.stderr
    assert ask("git", command="log", repo="/").returncode == 1


def test_git_runs_nothing_that_a_repository_names(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    git(tmp_path, "clone", "-q", str(repository), str(folder))
    touched = tmp_path / "touched"
    for name, value in (
        ("core.fsmonitor", f"touch {touched}"),
        ("diff.external", f"touch {touched}"),
        ("diff.evil.textconv", f"touch {touched}; cat"),
        ("core.pager", f"touch {touched}"),
        ("gpg.program", f"touch {touched}"),
        ("log.showSignature", "true"),
    ):
        git(folder, "config", name, value)
    (folder / ".git" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "info" / "attributes").write_text("*.md diff=evil\n")
    for command in ("log", "show", "diff"):
        assert ask("git", command=command, repo=str(folder)).returncode == 0
    assert not touched.exists()


def test_changes_are_reported_by_section(live: Live) -> None:
    file = live.at / "memory" / "shared" / "plan.md"
    file.write_text("# Plan\n\n## Goal\n\nShip in May.\n\n## Team\n\nAda\n")
    live.run("commit")
    file.write_text("# Plan\n\n## Goal\n\nShip in June.\n\n## Team\n\nAda\n\n## Risks\n\nNone yet.\n")
    live.run("commit")
    output = run(live, "diff-summary", "memory/shared/plan.md", "--since", "prev").stdout
    assert output.startswith("Sections: 1 added, 1 changed. Lines: +5 -1.")
    assert "## ~ Plan / Goal\n\n- Ship in May.\n+ Ship in June.\n" in output
    assert "## + Plan / Risks\n\n+ None yet.\n" in output
    assert "Team" not in output
    first = run(live, "diff-summary", "--file", "memory/shared/plan.md", "--since", "1").stdout
    assert first == output
    assert run(live, "diff-summary", "memory/shared/plan.md", "--since", "latest").stdout == "Nothing changed.\n"
    for wrong, why in (("99", "no version"), ("2001-01-01", "no version"), ("soon", "no version")):
        done = run(live, "diff-summary", "memory/shared/plan.md", "--since", wrong)
        assert (done.returncode, why in done.stderr) == (127, True), done.stderr
    assert "say since when" in run(live, "diff-summary", "memory/shared/plan.md").stderr
    nothing = run(live, "diff-summary", "knowledge/docs/a.md", "--since", "prev")
    assert "no versions" in nothing.stderr


def test_a_section_under_another_heading_is_the_same_section(tmp_path: Path) -> None:
    old, new = tmp_path / "old.py", tmp_path / "new.py"
    body = "    total = 0\n    for each in values:\n        total += each\n    return total\n"
    old.write_text(f"def add_up(values):\n{body}\n\ndef gone():\n    pass\n")
    new.write_text(f"def sum_of(values):\n{body}")
    output = ask("diff-summary", file=str(new), old=str(old)).stdout
    assert "## ~ sum_of (was: add_up)" in output
    assert "## - gone" in output


def test_a_summary_is_sentences_of_the_text_in_their_order(tmp_path: Path) -> None:
    text = (
        "# Keys\n\nSigning keys are rotated every ninety days. The rotation of signing keys is done by the platform team. "
        "Lunch is at noon.\n\nWhoever rotates the signing keys tells the platform team before. Birds sing in the morning here.\n"
    )
    file = tmp_path / "keys.md"
    file.write_text(text)
    lines = ask("summarise", file=str(file), sentences=2).stdout.splitlines()
    sentences = [line.split("\t")[1] for line in lines]
    assert len(sentences) == 2
    assert all(sentence in text for sentence in sentences)
    assert "signing keys" in sentences[0].lower()
    assert not {"Lunch is at noon.", "Birds sing in the morning here."} & set(sentences)
    about = ask("summarise", text=text, sentences=1, about="birds in the morning").stdout
    assert "Birds sing" in about
    assert ask("summarise").returncode == 1
    assert ask("summarise", text="").stdout == ""


def test_facts_are_found_with_their_lines() -> None:
    text = "Status: green\n\nThe signing key is rotated every ninety days. Is it?\nIt is late.\nOwner of the key: Ada Lovelace\n"
    rows = [line.split("\t") for line in ask("extract", text=text, kinds=["fact"]).stdout.splitlines()]
    assert rows == [
        ["1", "fact", "Status: green"],
        ["3", "fact", "The signing key is rotated every ninety days."],
        ["5", "fact", "Owner of the key: Ada Lovelace"],
    ]


@pytest.mark.parametrize(
    ("words", "date"),
    [
        ("today", "2026-11-28"),
        ("tomorrow", "2026-11-29"),
        ("next Friday", "2026-12-04"),
        ("this friday", "2026-12-04"),
        ("Saturday", "2026-11-28"),
        ("last Monday", "2026-11-23"),
        ("in three weeks", "2026-12-19"),
        ("in a fortnight", "2026-12-12"),
        ("two days ago", "2026-11-26"),
        ("5 working days from now", "2026-12-04"),
        ("end of February 2028", "2028-02-29"),
        ("end of next month", "2026-12-31"),
        ("the first day of next quarter", "2027-01-01"),
        ("2026-11-20 + 90 days", "2027-02-18"),
        ("2026-01-31 + 1 month", "2026-02-28"),
        ("2024-02-29 plus 1 year minus 1 day", "2025-02-27"),
        ("3 May", "2027-05-03"),
        ("December 1st", "2026-12-01"),
        ("Feb 29", "2028-02-29"),
        ("the second Tuesday of March 2027", "2027-03-09"),
        ("the last Friday of November 2026", "2026-11-27"),
        ("the day after tomorrow", "2026-11-30"),
        ("two weeks from Friday", "2026-12-18"),
        ("2 weeks after Friday", "2026-12-18"),
        ("a week from tomorrow", "2026-12-06"),
        ("3 days before 2026-12-25", "2026-12-22"),
        ("the day before 1 March 2027", "2027-02-28"),
        ("in 2 weeks and 3 days", "2026-12-15"),
        ("two years, 3 months and 4 days after 2026-01-31", "2028-05-04"),
        ("2 days before a week after Friday", "2026-12-09"),
        ("the last Friday of next month", "2026-12-25"),
    ],
)
def test_words_for_a_date_are_resolved(words: str, date: str) -> None:
    done = ask("calendar", text=f"we meet {words}, I think", today="2026-11-28")
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [date], done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "every other Friday",
        "each Monday",
        "the Friday after next",
        "Friday week",
        "a fortnight on Monday",
        "half a year ago",
        "2-3 weeks from now",
        "a few days after Friday",
        "Friday + lunch",
        "Friday the 13th",
    ],
)
def test_date_that_is_read_in_part_is_refused(words: str) -> None:
    done = ask("calendar", text=f"we meet {words}, I think", today="2026-11-28")
    assert (done.returncode, done.stdout) == (1, "")
    assert "not understood: " in done.stderr
    assert done.stderr.split("not understood: ")[1].strip() in words


@pytest.mark.parametrize(
    "words", ["nothing", "31 February 2027", "2026-13-45", "the marching band may come", "v1.2-3", ""]
)
def test_text_without_a_date_is_reported(words: str) -> None:
    done = ask("calendar", text=words, today="2026-11-28")
    assert (done.returncode, done.stdout) == (1, "")
    assert ask("calendar", text="today", today="soon").returncode == 1


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://elsewhere.invalid/")
            self.end_headers()
            return
        body = (
            b"x" * 5000
            if self.path == "/much"
            else b"<title>T</title><script>bad()</script><h1>Keys</h1><p>Rotate <b>them</b>.</p>"
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/plain" if self.path == "/much" else "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_fetch_is_off_until_a_host_is_allowed_and_reaches_no_other_host(live: Live) -> None:
    refused = run(live, "fetch", "http://127.0.0.1/")
    assert refused.returncode == 126
    assert "tools.fetch_hosts" in refused.stderr
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_address[1]}"
    env = {**os.environ, "CTXFS_FETCH_HOSTS": host}

    def get(url: str, **more: Any) -> subprocess.CompletedProcess[str]:
        request = json.dumps({"url": url, **more})
        return subprocess.run(
            [sys.executable, TOOLS / "fetch" / "run.py"], input=request, env=env, capture_output=True, text=True
        )

    try:
        assert get(f"http://{host}/").stdout == "T\n# Keys\nRotate them.\n"
        assert "<script>" in get(f"http://{host}/", raw=True).stdout
        for url in (
            f"http://{host}/away",
            "http://elsewhere.invalid/",
            "file:///etc/passwd",
            f"http://{host}@elsewhere.invalid/",
        ):
            done = get(url)
            assert (done.returncode, done.stdout) == (1, ""), url
            assert "fetch" in done.stderr
        assert "more than 100 bytes" in get(f"http://{host}/much", max_bytes=100).stderr
    finally:
        server.shutdown()
        server.server_close()


def test_tool_is_found_by_its_description(live: Live) -> None:
    for question, tool in (
        ("turn a csv into json", "table"),
        ("which day is it in three weeks", "calendar"),
        ("make a long text shorter", "summarise"),
        ("download a web page", "fetch"),
        ("what happened in the repository", "git"),
    ):
        links = sorted(name for name in os.listdir(live.at / "tools" / ".search" / question) if name[0].isdigit())
        assert links[0] == f"01 {tool}", (question, links[:3])
        assert (live.at / "tools" / ".search" / question / links[0] / "README.md").read_text().startswith(f"# {tool}\n")
    output = live.run("search", "turn a csv into json", "--below", "tools")
    assert "tools/table" in output


def test_the_shell_completes_names_of_tools(live: Live) -> None:
    for words, names in (
        ("ctxfs tools run ca", {"calendar"}),
        ("ctxfs tools show s", {"summarise"}),
        ("ctxfs tools run zz", set()),
    ):
        asking = {
            "_CTXFS_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": "3",
            "CTXFS_STORE": str(live.store),
        }
        done = subprocess.run([sys.executable, "-m", "ctxfs"], env=os.environ | asking, capture_output=True, text=True)
        assert {line.partition(",")[2] for line in done.stdout.splitlines() if line} == names


def test_call_output_is_searchable_only_where_allowed_and_for_principals_that_see_all(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")
    config = live.store / "ctxfs.toml"
    live.run("mount", str(live.at))
    program = live.at / "tools" / "summarise" / "run"
    text = "The xylophone stands in the second room of the museum."
    subprocess.run([program, "--text", text], check=True, capture_output=True)
    live.run("status", "--wait", "words")
    assert live.try_run("search", "xylophone").returncode == 3
    live.run("unmount", "--all")
    config.write_text(config.read_text().replace("# searchable = false", "searchable = true", 1))
    live.run("mount", str(live.at))
    try:

        def hits() -> Any:
            done = live.try_run("search", "xylophone", "--json")
            return json.loads(done.stdout)["hits"] if done.returncode == 0 else []

        (hit,) = eventually("it is indexed", hits, 30)
        assert hit["path"].startswith("tools/summarise/calls/")
        assert hit["path"].endswith("/result.md")
        assert "no instructions" in live.run("context", "xylophone", "--budget", "400")
        subprocess.run([program, "--text", text.replace("xylophone", "glockenspiel")], check=True, capture_output=True)
        eventually("so is the next", lambda: "glockenspiel" in live.try_run("search", "glockenspiel").stdout)
        client = Client(live.store / "run", timeout=30)
        client.call("join", principal="agent:alice")
        assert client.call("search", question="xylophone")["hits"] == []
        assert client.call("grep", pattern="xylophone")["lines"] == []
        client.close()
    finally:
        live.close()


def rows_of(folder: Path, name: str, content: str, sql: str = "SELECT * FROM data") -> list[dict[str, Any]]:
    file = folder / name
    file.write_text(content)
    done = ask("table", file=str(file), sql=sql, format="json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.mark.parametrize(
    "column",
    [
        ["Nan", "Ann"],
        ["Inf", "-Infinity"],
        ["1.10", "1.9"],
        ["1E5", "2"],
        ["00501", "10001"],
        ["12345678901234567890", "1"],
        ["+5", "5"],
        ["1_000", "1"],
        ["0x10", "5"],
        ["1e400", "1"],
        ["٣", "3"],
    ],
)
def test_table_changes_no_text(tmp_path: Path, column: list[str]) -> None:
    rows = rows_of(tmp_path, "t.csv", "id,v\n" + "".join(f"{number},{text}\n" for number, text in enumerate(column)))
    assert [row["v"] for row in rows] == column
    assert [row["id"] for row in rows] == [0, 1], "numbers of other columns stay numbers"


def test_table_compares_numbers_and_shows_them_as_written(tmp_path: Path) -> None:
    content = "item,price\na,1.10\nb,10.25\nc,\n"
    assert rows_of(tmp_path, "t.csv", content, "SELECT item, price FROM data WHERE price > 2") == [
        {"item": "b", "price": 10.25}
    ]
    done = ask("table", file=str(tmp_path / "t.csv"), sql="SELECT price FROM data ORDER BY price DESC")
    assert "| 1.10 |" in done.stdout
    assert rows_of(tmp_path, "t.csv", content, "SELECT sum(price) AS s FROM data") == [{"s": 11.35}]


def test_table_keeps_columns_of_one_name_and_fields_without_a_name(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "t.csv", "id,name,name,NAME,name_2\n1,a,b,c,d,e\n")
    assert list(row.values()) == [1, "a", "b", "c", "d", "e"]
    (row,) = rows_of(tmp_path, "t.json", '[{"a": 1, "A": NaN, "b": 12345678901234567890, "c": [1]}]')
    assert list(row.values()) == [1, "NaN", "12345678901234567890", "[1]"]


def test_extract_keeps_parentheses_of_a_link() -> None:
    text = "See https://example.org/wiki/Python_(language) and (https://doi.org/10.1/x(20)3)."
    done = ask("extract", text=text, kinds=["link"])
    assert [line.split("\t")[2] for line in done.stdout.splitlines()] == [
        "https://example.org/wiki/Python_(language)",
        "https://doi.org/10.1/x(20)3",
    ]
