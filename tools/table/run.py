"""Query a CSV, TSV, JSON or SQLite file in SQL, read-only. Input: JSON on stdin. Output: rows on stdout."""

import csv
import io
import json
import math
import re
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
_INTEGER = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?", re.ASCII)
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
            form = arguments.get("format", "markdown")
            print(render(names, rows if form == "json" else _as_written(db, names, rows), form))
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
    names, rows, is_text = _parse_rows(name, data.decode("utf-8-sig", "replace"))
    if not rows:
        raise ValueError("the file has no rows")
    db = Database(":memory:")
    columns = [[row[number] if number < len(row) else None for row in rows] for number in range(len(names))]
    for number, column in enumerate(columns):
        kind, decimals = _classify(column) if is_text else ("", None)
        columns[number] = [_store_value(value, kind) for value in column]
        if decimals is not None:
            db.decimals[names[number]] = decimals
    db.execute(f"CREATE TABLE {_TABLE} ({', '.join(map(_quote_name, names))})")
    marks = ", ".join("?" * len(names))
    db.executemany(f"INSERT INTO {_TABLE} VALUES ({marks})", zip(*columns, strict=True))
    db.commit()
    return db


class Database(sqlite3.Connection):
    """A database with, for columns of decimals, the number of digits after the point that each value was written with."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.decimals: dict[str, int] = {}


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


def _parse_rows(name: str, text: str) -> tuple[list[str], list[list[Any]], bool]:
    """Return (names of the columns, rows, True if all values are text whose type has to be read from it)."""
    if name.endswith((".json", ".jsonl", ".ndjson")):
        records = _parse_json(text)
        keys = list(dict.fromkeys(str(key) for record in records for key in record))
        return _distinct_names(keys), [[record.get(key) for key in keys] for record in records], False
    csv.field_size_limit(MAX_VALUE_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_detect_delimiter(name, text))
    head = next(reader, [])
    rows = [row for row in reader if row]
    width = max([len(head), *map(len, rows)])
    head += [""] * (width - len(head))
    return _distinct_names([name.strip() or f"column{number}" for number, name in enumerate(head, 1)]), rows, True


def _parse_json(text: str) -> list[dict[str, Any]]:
    try:
        data = json.loads(text)
    except ValueError:
        data = [json.loads(line) for line in text.split("\n") if line.strip()]
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list)]
        data = lists[0] if len(lists) == 1 else [data]
    return [row if isinstance(row, dict) else {"value": row} for row in (data if isinstance(data, list) else [data])]


def _distinct_names(names: list[str]) -> list[str]:
    """Return the names with a number after each that stands already; SQLite compares names without case.

    Raises ValueError for more than `MAX_COLUMNS` names.
    """
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"the file has more than {MAX_COLUMNS} columns")
    out: list[str] = []
    taken = {_replace_surrogates(name).lower() for name in names}
    seen: set[str] = set()
    for name in map(_replace_surrogates, names):
        number, distinct = 1, name
        while distinct.lower() in seen:
            number += 1
            distinct = f"{name}_{number}"
            if distinct.lower() in taken and distinct.lower() not in seen:
                seen.add(distinct.lower())  # another column has that name
        seen.add(distinct.lower())
        out.append(distinct)
    return out


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


def _classify(column: list[Any]) -> tuple[str, int | None]:
    """Return (type of a column of text, digits after the point if all values have the same number of them).

    A column is `int` or `float` only if every value in it is written as such a number is, so that no value changes: 007,
    1E5, Inf, NaN and a mixture of 1.9 and 1.10 stay text.
    """
    values = [value.strip() for value in column if value is not None and value.strip()]
    if not values:
        return "", None
    if all(_INTEGER.fullmatch(value) and _fits(int(value)) for value in values):
        return "int", None
    if not all(_DECIMAL.fullmatch(value) for value in values):
        return "", None
    digits = {len(value.partition(".")[2]) for value in values}
    if len(digits) == 1:
        return "float", digits.pop()
    is_canonical = all(repr(float(value)) == value or _INTEGER.fullmatch(value) for value in values)
    return ("number", None) if is_canonical else ("", None)


def _store_value(value: Any, kind: str) -> Any:
    """Return a value for SQLite; integers beyond 64 bits and numbers that are not finite stay text."""
    if isinstance(value, str):
        if kind and not value.strip():
            return None
        if kind == "int" or (kind == "number" and _INTEGER.fullmatch(value.strip())):
            return int(value)
        return float(value) if kind else _replace_surrogates(value)
    if (
        value is None
        or (isinstance(value, int) and _fits(value))
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    return _replace_surrogates(json.dumps(value, ensure_ascii=False))


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


def _as_written(db: sqlite3.Connection, names: list[str], rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows with decimals as the file writes them: 1.10 and not 1.1."""
    decimals = [db.decimals.get(name) if isinstance(db, Database) else None for name in names]
    if not any(decimals):
        return rows
    return [
        tuple(
            f"{value:.{digits}f}" if digits and isinstance(value, float) else value
            for value, digits in zip(row, decimals, strict=True)
        )
        for row in rows
    ]


def describe(db: sqlite3.Connection) -> str:
    """Return each table with its columns, number of rows, and first rows."""
    out = []
    tables = db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'")
    for (name,) in tables.fetchmany(_MAX_PREVIEW_TABLES):
        try:
            (count,) = db.execute(f"SELECT count(*) FROM {_quote_name(name)}").fetchone()
            cursor = db.execute(f"SELECT * FROM {_quote_name(name)} LIMIT {_MAX_PREVIEW_ROWS}")
            names = [column[0] for column in cursor.description]
            rows = _as_written(db, names, cursor.fetchall())
            out.append(f"## {name}: {count} rows\n\n{render(names, rows, 'markdown')}")
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
