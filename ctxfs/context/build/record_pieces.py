"""The texts of a record of the event log as pieces of contexts contain them. Pure.

A session's file only grows, so a piece is found by its line, and not by the digest of the file.
"""

from ctxfs.eventlog.record_text import message_of, parse_line
from ctxfs.index.extract.session_parts import split_message


def texts_of_record(data: bytes, line: int) -> list[str]:
    """Return the texts of the message in a line (from 1) of a session's file; none if it is gone, such as an erased one."""
    lines = data.split(b"\n")
    record = parse_line(lines[line - 1]) if 0 < line <= len(lines) else None
    message = message_of(record) if record is not None else None
    return [chunk.text for chunk in split_message(message, line)] if message is not None else []
