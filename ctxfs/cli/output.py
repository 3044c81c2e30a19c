"""What commands print: people get colours and bars on a terminal, scripts get plain text or JSON."""

import json
import sys
from typing import Any, NoReturn

import click

from ctxfs.model.errors import EXIT_FAILURE, CommandError
from ctxfs.model.path import lines_of, one_line, printable


def say(text: str = "", **style: Any) -> None:
    """A line on stdout; styles show on a terminal only. What names and texts of others could do to a terminal is escaped."""
    click.secho(one_line(text), **style)


def say_lines(text: str, **style: Any) -> None:
    """Lines on stdout, as `say` prints one."""
    click.secho(lines_of(text), **style)


def warn(text: str) -> None:
    """A line on stderr."""
    click.secho(f"ctxfs: {one_line(text)}", err=True, fg="yellow")


def say_json(value: object) -> None:
    """One JSON document."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=lambda data: data.decode("utf-8", "replace"))
    click.echo(printable(text))


def write_bytes(data: bytes) -> None:
    """Bytes as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def fail(error: Exception) -> NoReturn:
    """Say what went wrong and what to do, and exit with the code that fits."""
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
