"""Query a CSV, TSV, JSON or SQLite file in SQL, read-only. Input: JSON on stdin. Output: rows on stdout."""

import csv
import io
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

_TABLE = "data"
_DEFAULT_ROWS = 100
_MAX_PREVIEW_ROWS = 10
_MAX_PREVIEW_TABLES = 100
_MAX_SAMPLE_LINES = 20
_DELIMITERS = ",;\t|"
MAX_STEPS = 30_000_000
MAX_FILE_BYTES = 100_000_000
MAX_VALUE_BYTES = 5_000_000
MAX_PATTERN_BYTES = 200
MAX_COLUMNS = 1000
MAX_INTEGER = 2**63 - 1
_SQLITE = b"SQLite format 3\0"
_READS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    getattr(sqlite3, "SQLITE_RECURSIVE", 33),
}


def main() -> int:
    """Print the rows; return exit code 1, with the reason on stderr, for any failure."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a TextIOWrapper
    try:
        arguments = json.loads(sys.stdin.buffer.read() or b"{}")
        db = open_database(Path(arguments["file"]))
        limit = int(arguments.get("limit", _DEFAULT_ROWS))
        if arguments.get("sql"):
            names, rows = select(db, arguments["sql"], limit)
            print(render(names, rows, arguments.get("format", "markdown")))
        else:
            print(describe(db))
    except RecursionError:
        print("table: the file is nested too deeply", file=sys.stderr)
        return 1
    except MemoryError:
        print("table: the file, or the answer, needs more memory than a tool has", file=sys.stderr)
        return 1
    except Exception as error:  # hostile files can raise any error: one line, no traceback
        message = " ".join(str(error).split())[:300] or type(error).__name__
        print(f"table: {message}", file=sys.stderr)
        return 1
    return 0


def open_database(file: Path) -> sqlite3.Connection:
    """Return a database in memory with the file's content, restricted to reading.

    A SQLite file is deserialised from its bytes: no name reaches SQLite, and no file beside it is opened.
    """
    with open(file, "rb") as content:
        data = content.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"the file has more than {MAX_FILE_BYTES} bytes")
    db = _deserialize(data) if data.startswith(_SQLITE) else _fill_table(file.name.lower(), data)
    _restrict(db)
    return db


def _deserialize(data: bytes) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    # A database in memory has no write-ahead log: both format versions are those of a rollback journal.
    db.deserialize(data[:18] + b"\1\1" + data[20:])
    return db


def _fill_table(name: str, data: bytes) -> sqlite3.Connection:
    rows = [
        {_replace_surrogates(key): _replace_surrogates(value) for key, value in row.items()}
        for row in _parse_records(name, data.decode("utf-8-sig", "replace"))
    ]
    if not rows:
        raise ValueError("the file has no rows")
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"the file has more than {MAX_COLUMNS} columns")
    db = sqlite3.connect(":memory:")
    db.execute(f"CREATE TABLE {_TABLE} ({', '.join(map(_quote_name, names))})")
    marks = ", ".join("?" * len(names))
    values = ([_convert_value(row.get(name)) for name in names] for row in rows)
    db.executemany(f"INSERT INTO {_TABLE} VALUES ({marks})", values)
    db.commit()
    return db


def _restrict(db: sqlite3.Connection) -> None:
    """Allow reading only, within bounds of time and memory; the schema of the file is not trusted to call functions."""
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON", "temp_store = MEMORY"):
        db.execute(f"PRAGMA {pragma}")
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    db.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES)
    db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    db.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 100_000
        return int(steps > MAX_STEPS)

    db.set_progress_handler(count, 100_000)


def _parse_records(name: str, text: str) -> list[dict[str, Any]]:
    if name.endswith((".json", ".jsonl", ".ndjson")):
        try:
            data = json.loads(text)
        except ValueError:
            data = [json.loads(line) for line in text.split("\n") if line.strip()]
        if isinstance(data, dict):
            lists = [value for value in data.values() if isinstance(value, list)]
            data = lists[0] if len(lists) == 1 else [data]
        return [
            row if isinstance(row, dict) else {"value": row} for row in (data if isinstance(data, list) else [data])
        ]
    csv.field_size_limit(MAX_VALUE_BYTES)
    reader = csv.reader(io.StringIO(text), delimiter=_detect_delimiter(name, text))
    head = next(reader, [])
    names = [name.strip() or f"column{number}" for number, name in enumerate(head, 1)]
    return [dict(zip(names, row, strict=False)) for row in reader if row]


def _detect_delimiter(name: str, text: str) -> str:
    """Return the character that splits the first lines into the most columns, the same number in most of them.

    In linear time, unlike `csv.Sniffer`, whose expressions backtrack.
    """
    default = "\t" if name.endswith(".tsv") else ","
    sample = text[:8192].splitlines()[:_MAX_SAMPLE_LINES]
    scores = {}
    for mark in _DELIMITERS:
        widths = [len(row) for row in csv.reader(sample, delimiter=mark) if row]
        usual = max(set(widths), key=lambda width: (widths.count(width), width), default=1)
        scores[mark] = (usual > 1) * widths.count(usual) / max(len(widths), 1), usual, mark == default
    best = max(_DELIMITERS, key=lambda mark: scores[mark])
    return best if scores[best][1] > 1 else default


def _convert_value(value: Any) -> Any:
    """Return numbers in text as numbers, so that they compare and add as such; integers beyond 64 bits stay text."""
    if isinstance(value, str):
        plain = value.strip()
        for kind in (int, float) if len(plain) < 40 else ():
            try:
                number = kind(plain)
            except ValueError:
                continue
            return number if (str(number) == plain and _fits(number)) or kind is float else value
        return value
    if value is None or isinstance(value, float) or (isinstance(value, int) and _fits(value)):
        return value
    return str(value) if isinstance(value, int) else json.dumps(value, ensure_ascii=False)


def _replace_surrogates(value: Any) -> Any:
    """Return text without lone surrogates, which JSON can encode and SQLite refuses."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and not value.isascii() else value


def _fits(number: float) -> bool:
    return -MAX_INTEGER - 1 <= number <= MAX_INTEGER


def select(db: sqlite3.Connection, sql: str, limit: int) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return (columns, rows) of a SELECT. Raises ValueError for another statement."""
    cursor = db.execute(sql)
    if cursor.description is None:
        raise ValueError("this is no SELECT")
    return [column[0] for column in cursor.description], cursor.fetchmany(limit)


def describe(db: sqlite3.Connection) -> str:
    """Return each table with its columns, number of rows, and first rows."""
    out = []
    tables = db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'")
    for (name,) in tables.fetchmany(_MAX_PREVIEW_TABLES):
        try:
            (count,) = db.execute(f"SELECT count(*) FROM {_quote_name(name)}").fetchone()
            cursor = db.execute(f"SELECT * FROM {_quote_name(name)} LIMIT {_MAX_PREVIEW_ROWS}")
            names = [column[0] for column in cursor.description]
            out.append(f"## {name}: {count} rows\n\n{render(names, cursor.fetchall(), 'markdown')}")
        except sqlite3.Error as error:
            out.append(f"## {name}: {error}")
    return "\n\n".join(out) or "no tables"


def render(names: list[str], rows: list[tuple[Any, ...]], form: str) -> str:
    """Return rows as a table of Markdown, CSV or JSON."""
    if form == "json":
        return json.dumps([dict(zip(names, row, strict=True)) for row in rows], ensure_ascii=False, default=repr)
    if form == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([names, *rows])
        return out.getvalue().rstrip("\n")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(_format_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _format_cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


if __name__ == "__main__":
    sys.exit(main())
