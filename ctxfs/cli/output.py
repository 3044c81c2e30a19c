"""Output of commands: colours and bars on a terminal, plain text or JSON in a pipe."""

import errno
import json
import os
import shlex
import sys
from typing import Any, NoReturn

import click

from ctxfs.model.errors import EXIT_FAILURE, CommandError
from ctxfs.model.path import lines_of, one_line, printable


def print_line(text: str = "", **style: Any) -> None:
    """Print a line on stdout, with styles on a terminal only. Control characters are escaped."""
    click.secho(one_line(text), **style)


def count_noun(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1: `1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def print_lines(text: str, **style: Any) -> None:
    """Print lines on stdout, with the styles and escapes of `print_line`."""
    click.secho(lines_of(text), **style)


def warn(text: str) -> None:
    """Print a line on stderr."""
    click.secho(f"ctxfs: {one_line(text)}", err=True, fg="yellow")


def print_json(value: object) -> None:
    """Print one JSON document."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=lambda data: data.decode("utf-8", "replace"))
    click.echo(printable(text))


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
    """Return a command that helps with an error at a path of the tree; empty if its text is more than the errno's."""
    path = _path_of(error)
    if error.errno is None or error.strerror != os.strerror(error.errno) or not path or path.startswith("/"):
        return ""
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
    click.secho(f"ctxfs: {where}{one_line(error.strerror or str(error))}", err=True, fg="red")
    if remedy := find_remedy(error):
        click.secho(f"  → {remedy}", err=True)


def fail(error: Exception) -> NoReturn:
    """Print the error and its remedy, and exit with its code."""
    if isinstance(error, CommandError):
        click.secho(f"ctxfs: {lines_of(error.message)}", err=True, fg="red")
        if error.remedy:
            click.secho(f"  → {lines_of(error.remedy)}", err=True)
        sys.exit(error.code)
    if isinstance(error, OSError):
        print_path_error(error)
        sys.exit(EXIT_FAILURE)
    raise error
