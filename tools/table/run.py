"""Ask a CSV, TSV, JSON or SQLite file in SQL, read-only. Arguments as JSON on stdin; rows on stdout."""

import csv
import io
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

_TABLE = "data"
_ROWS = 100
_SHOWN = 10
_MOST_STEPS = 100_000_000
_READS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    getattr(sqlite3, "SQLITE_RECURSIVE", 33),
}


def main() -> int:
    """Exit code 1 with the reason on stderr for what cannot be answered."""
    asked = json.loads(sys.stdin.buffer.read() or b"{}")
    try:
        db = opened(Path(asked["file"]))
        limit = int(asked.get("limit", _ROWS))
        if asked.get("sql"):
            names, rows = select(db, asked["sql"], limit)
            print(rendered(names, rows, asked.get("format", "markdown")))
        else:
            print(described(db))
    except (OSError, ValueError, sqlite3.Error) as error:
        print(f"table: {error}", file=sys.stderr)
        return 1
    return 0


def opened(file: Path) -> sqlite3.Connection:
    """A database with what the file says in it; SQLite files are opened as they are."""
    data = file.read_bytes()
    if data.startswith(b"SQLite format 3\0"):
        return sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)
    rows = _records(file.name.lower(), data.decode("utf-8-sig", "replace"))
    if not rows:
        raise ValueError("the file has no rows")
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    db = sqlite3.connect(":memory:")
    quoted = [_quoted(name) for name in names]
    db.execute(f"CREATE TABLE {_TABLE} ({', '.join(quoted)})")
    marks = ", ".join("?" * len(names))
    db.executemany(
        f"INSERT INTO {_TABLE} VALUES ({marks})", ([_value(row.get(name)) for name in names] for row in rows)
    )
    db.commit()
    return db


def _records(name: str, text: str) -> list[dict[str, Any]]:
    if name.endswith((".json", ".jsonl", ".ndjson")):
        try:
            said = json.loads(text)
        except ValueError:
            said = [json.loads(line) for line in text.splitlines() if line.strip()]
        if isinstance(said, dict):
            lists = [value for value in said.values() if isinstance(value, list)]
            said = lists[0] if len(lists) == 1 else [said]
        return [row if isinstance(row, dict) else {"value": row} for row in said]
    sample = text[:8192]
    try:
        dialect: Any = csv.Sniffer().sniff(sample, delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel_tab if name.endswith(".tsv") else csv.excel
    reader = csv.reader(io.StringIO(text), dialect)
    head = next(reader, [])
    names = [name.strip() or f"column{number}" for number, name in enumerate(head, 1)]
    return [dict(zip(names, row, strict=False)) for row in reader if row]


def _value(value: Any) -> Any:
    """Numbers as numbers, so that they are compared and added as such."""
    if isinstance(value, str):
        plain = value.strip()
        for kind in (int, float):
            try:
                found = kind(plain)
            except ValueError:
                continue
            return found if str(found) == plain or kind is float else value
        return value
    return value if value is None or isinstance(value, int | float) else json.dumps(value, ensure_ascii=False)


def select(db: sqlite3.Connection, sql: str, limit: int) -> tuple[list[str], list[tuple[Any, ...]]]:
    """(columns, rows). Nothing but reading is allowed, and not for ever."""
    db.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1_000_000
        return int(steps > _MOST_STEPS)

    db.set_progress_handler(count, 1_000_000)
    cursor = db.execute(sql)
    if cursor.description is None:
        raise ValueError("this is no SELECT")
    return [column[0] for column in cursor.description], cursor.fetchmany(limit)


def described(db: sqlite3.Connection) -> str:
    """Each table with its columns, how many rows it has, and the first of them."""
    out = []
    tables = db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'")
    for (name,) in tables.fetchall():
        (count,) = db.execute(f"SELECT count(*) FROM {_quoted(name)}").fetchone()
        cursor = db.execute(f"SELECT * FROM {_quoted(name)} LIMIT {_SHOWN}")
        names = [column[0] for column in cursor.description]
        out.append(f"## {name}: {count} rows\n\n{rendered(names, cursor.fetchall(), 'markdown')}")
    return "\n\n".join(out) or "no tables"


def rendered(names: list[str], rows: list[tuple[Any, ...]], form: str) -> str:
    """Rows as a table of Markdown, CSV or JSON."""
    if form == "json":
        return json.dumps([dict(zip(names, row, strict=True)) for row in rows], ensure_ascii=False, default=repr)
    if form == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([names, *rows])
        return out.getvalue().rstrip("\n")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


if __name__ == "__main__":
    sys.exit(main())
