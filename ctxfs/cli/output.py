"""Output of commands: colours and bars on a terminal, plain text or JSON in a pipe."""

import json
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


def fail(error: Exception) -> NoReturn:
    """Print the error and its remedy, and exit with its code."""
    if isinstance(error, CommandError):
        click.secho(f"ctxfs: {lines_of(error.message)}", err=True, fg="red")
        if error.remedy:
            click.secho(f"  → {lines_of(error.remedy)}", err=True)
        sys.exit(error.code)
    if isinstance(error, OSError):
        where = f"{one_line(str(error.filename))}: " if error.filename else ""
        click.secho(f"ctxfs: {where}{one_line(error.strerror or str(error))}", err=True, fg="red")
        sys.exit(EXIT_FAILURE)
    raise error
