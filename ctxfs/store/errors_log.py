"""The bounded log errors.jsonl: warnings and errors, one JSON object a line, written through the standard logging."""

import json
import logging
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path as HostPath

from ctxfs.model.credentials import without_passwords
from ctxfs.model.path import printable

_MAX_BYTES = 1_000_000


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "where": record.name,
            "message": printable(without_passwords(record.getMessage())),
        }
        if record.exc_info:
            line["traceback"] = printable(without_passwords(self.formatException(record.exc_info)))
        return json.dumps(line, ensure_ascii=False)


def log_to(file: HostPath, level: int = logging.WARNING) -> None:
    """Log to `file` from `level` up; the file and one older file have at most a megabyte each."""
    handler = RotatingFileHandler(file, maxBytes=_MAX_BYTES, backupCount=1, encoding="utf-8", delay=True)
    handler.setFormatter(_JsonLine())
    handler.setLevel(level)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
