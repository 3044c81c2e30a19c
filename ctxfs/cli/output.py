"""Output of commands: colours on a terminal, plain text or JSON in a pipe.

This module imports few others, so that commands start fast.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable

from ctxfs.cli.terminal import echo
from ctxfs.model.errors import EXIT_FAILURE, CommandError
from ctxfs.model.escapes import lines_of, one_line, printable

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    from typing import Any, NoReturn


def print_line(text: str = "", **style: Any) -> None:
    """Print a line on stdout, with styles on a terminal only. Control characters are escaped."""
    echo(one_line(text), **style)


def count_noun(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1: `1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def print_lines(text: str, **style: Any) -> None:
    """Print lines on stdout, with the styles and escapes of `print_line`."""
    echo(lines_of(text), **style)


def warn(text: str) -> None:
    """Print a line on stderr."""
    echo(f"ctxfs: {one_line(text)}", err=True, fg="yellow")


def warn_each(texts: Iterable[str]) -> None:
    """Print lines on stderr."""
    for text in texts:
        warn(text)


def print_json(value: object) -> None:
    """Print one JSON document."""
    import json

    text = json.dumps(value, indent=2, ensure_ascii=False, default=lambda data: data.decode("utf-8", "replace"))
    echo(printable(text))


def write_bytes(data: bytes) -> None:
    """Write bytes to stdout unchanged."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def write_content(data: bytes) -> None:
    """Write the content of a file to stdout: unchanged, but to a terminal as text in UTF-8 without escape sequences."""
    if sys.stdout.isatty():
        from ctxfs.index.extract.text_decoding import read_text

        text = read_text(data)
        data = data if text is None else text.encode("utf-8", "replace")
    write_bytes(data)


def find_remedy(error: OSError) -> str:
    """Return a command that helps with an error at a path of the tree; empty if its text is more than the errno's.

    A note of the error, which names similar paths, takes the place of the command.
    """
    for note in getattr(error, "__notes__", ()):
        if str(note).startswith("did you mean "):
            return one_line(str(note))
    path = _path_of(error)
    if error.errno == errno.EROFS and path.startswith("/"):
        return "a store has to be writable, also for searches: remount it, or name a copy: ctxfs --store DIR …"
    if error.errno is None or error.strerror != os.strerror(error.errno) or not path or path.startswith("/"):
        return ""
    import shlex

    quoted, parent = shlex.quote(one_line(path)), shlex.quote(one_line(path.rpartition("/")[0]))
    return {
        errno.ENOENT: f"see the names there: ctxfs ls {parent}" if parent != "''" else "see the names: ctxfs ls",
        errno.EISDIR: f"list it: ctxfs ls {quoted}",
        errno.ENOTDIR: f"a part of the path is a file: ctxfs cat {parent}",
        errno.EACCES: f"see the permissions: ctxfs policy explain PRINCIPAL {quoted}",
    }.get(error.errno, "")


def _path_of(error: OSError) -> str:
    name = error.filename or ""
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)


def print_path_error(error: OSError) -> None:
    """Print an error at a path, with its remedy, on standard error."""
    where = f"{one_line(path)}: " if (path := _path_of(error)) else ""
    echo(f"ctxfs: {where}{one_line(error.strerror or str(error))}", err=True, fg="red")
    if remedy := find_remedy(error):
        echo(f"  → {remedy}", err=True)


def fail(error: Exception) -> NoReturn:
    """Print the error and its remedy, and exit with its code."""
    if isinstance(error, CommandError):
        echo(f"ctxfs: {lines_of(error.message)}", err=True, fg="red")
        if error.remedy:
            echo(f"  → {lines_of(error.remedy)}", err=True)
        sys.exit(error.code)
    if isinstance(error, OSError):
        print_path_error(error)
        sys.exit(EXIT_FAILURE)
    raise error
