"""Test that inputs of a built-in tool are data: they reach no other file and cost bounded time."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ctxfs.exec.runner import plain_name

TOOLS = Path(__file__).parent.parent.parent / "tools"


def ask(tool: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a tool by itself, with the command and the time limit that ctxfs uses."""
    command = [sys.executable, "-I", TOOLS / tool / "run.py"]
    return subprocess.run(command, input=json.dumps(arguments), capture_output=True, text=True, timeout=30)


def failed_in_words(done: subprocess.CompletedProcess[str]) -> bool:
    return (
        done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    )


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a database outside all paths that the tool receives."""
    file = tmp_path / "outside" / "cookies.db"
    file.parent.mkdir()
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE cookies (value)")
        db.execute("INSERT INTO cookies VALUES ('the secret')")
    return file


def test_name_of_a_file_is_no_address(secret: Path, tmp_path: Path) -> None:
    encoded = "x" + str(Path("/../../../../..") / str(secret)[1:]).replace("/", "%2f")
    for name in (encoded, encoded + "%3fmode=ro", "x?mode=rw", "x#y", "file:x"):
        (tmp_path / name).write_bytes(b"SQLite format 3\0")
        for sql in ({}, {"sql": "SELECT * FROM cookies"}):
            done = ask("table", file=str(tmp_path / name), **sql)
            assert "secret" not in done.stdout + done.stderr
            assert "cookies |" not in done.stdout


def test_copies_of_files_have_plain_names() -> None:
    for name in ("a/x%2f..%2fy", "-rf", "a b\nc", "x?y#z", "", "..", "$(id)", "é"):
        assert all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in plain_name(name)), name
    assert plain_name("a/b.csv") == "b.csv"


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH 'OUTSIDE' AS x",
        "SELECT load_extension('x')",
        "SELECT writefile('OUT', 'x')",
        "VACUUM INTO 'OUT'",
        "CREATE TABLE x (y)",
        "PRAGMA database_list",
        "SELECT * FROM pragma_database_list",
        "SELECT hex(zeroblob(900000000))",
        "SELECT count(*) FROM endless",
        "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT max(n) FROM x",
        "SELECT 'a' LIKE printf('%.*c', 100000, '%')",
    ],
)
def test_query_reads_the_one_file_and_ends(sql: str, secret: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "a.db", tmp_path / "out"
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (a)")
        if "endless" in sql:
            db.execute(
                "CREATE VIEW endless AS WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT 1 FROM x) SELECT n FROM x"
            )
    done = ask("table", file=str(file), sql=sql.replace("OUTSIDE", str(secret)).replace("OUT", str(out)))
    assert failed_in_words(done), done
    assert not out.exists()
    assert "## t: 0 rows" in ask("table", file=str(file)).stdout


def test_write_ahead_log_beside_a_database_is_not_opened(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE t (a)")
    for suffix in ("-wal", "-journal", "-shm"):
        os.mkfifo(f"{file}{suffix}")  # an open of it would block
    assert "## t: 0 rows" in ask("table", file=str(file)).stdout


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deep.json", "[" * 100_000),
        ("digits.json", f'[{{"a": {"1" * 5000}}}]'),
        ("nul.csv", "x\0y,z\n1,2\n"),
        ("quotes.csv", ',"' * 1_000_000),
        ("wide.csv", ",".join(map(str, range(100_000))) + "\n" + "1," * 100_000),
        ("empty.csv", ""),
        ("noise.db", "SQLite format 3\0" + "\x01" * 5000),
        ("short.db", "SQLite format 3\0"),
    ],
)
def test_error_of_a_tool_is_a_sentence(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert failed_in_words(ask("table", file=str(tmp_path / name), sql="SELECT * FROM data"))


def test_numbers_that_fit_no_column_are_stored_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n99999999999999999999\n")
    assert "| 99999999999999999999 |" in ask("table", file=str(tmp_path / "a.csv")).stdout
    (tmp_path / "a.json").write_text('[{"a": 99999999999999999999, "b": "\\ud800"}]')
    assert "| 99999999999999999999 |" in ask("table", file=str(tmp_path / "a.json")).stdout


@pytest.mark.parametrize(
    "text",
    [
        "a." * 50_000,
        "a" * 200_000 + ".b",
        "1," * 40_000,
        "#" + " " * 200_000 + "x",
        "A b: " * 20_000,
        "." * 200_000 + "a",
    ],
)
@pytest.mark.parametrize("tool", ["extract", "summarise"])
def test_time_grows_with_the_text_and_not_with_its_square(tool: str, text: str) -> None:
    assert ask(tool, text=text).returncode == 0


def test_many_dates_and_many_days_are_bounded() -> None:
    assert failed_in_words(ask("calendar", text="today " * 100_000))
    assert ask("calendar", text="99999 working days ago and " * 500, today="2026-11-28").returncode == 0
    assert ask("calendar", text="\ud800 today").returncode == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("".join(f"# h{i}\na\n" for i in range(5000)), "".join(f"# g{i}\nb\n" for i in range(5000))),
        ("# h\n" * 20_000, "# h\nx\n" * 20_000),
        ("".join(f"{i % 10}" * 150 + "\n" for i in range(390)), "".join(f"{i % 10}" * 149 + "z\n" for i in range(390))),
    ],
    ids=["headings", "one heading", "alike lines"],
)
def test_comparison_of_hostile_texts_ends(old: str, new: str, tmp_path: Path) -> None:
    (tmp_path / "old").write_text(old)
    (tmp_path / "new").write_text(new)
    assert ask("diff-summary", old=str(tmp_path / "old"), file=str(tmp_path / "new")).returncode == 0
