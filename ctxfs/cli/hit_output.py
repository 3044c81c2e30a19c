"""Output of hits: paths, one line for each, or passages with the matched words, as wide as the terminal."""

import os
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click

from ctxfs.cli.output import print_line
from ctxfs.index.search.snippets import find_matches, fit_line, select_lines
from ctxfs.model.path import one_line

FORMATS = ("text", "path", "line", "json")
_MAX_SHOWN_LINES = 3
_INDENT = 5
_PLAIN_WIDTH = 160  # columns of a line that is not for a terminal
_MIN_WIDTH = 20
_MIN_SHOWN_P = 0.01


def highlight(line: str, terms: Sequence[str]) -> str:
    """Return a line, escaped, with its matches in bold."""
    out, position = "", 0
    for start, end in find_matches(line, terms):
        out += one_line(line[position:start]) + click.style(line[start:end], bold=True, fg="red")
        position = end
    return out + one_line(line[position:])


def show_hit(rank: int, hit: Mapping[str, Any], path: str, terms: Sequence[str]) -> None:
    """Print a hit as text: its place, and the lines that match best, with their indentation."""
    details = f"  {hit['heading']}" if hit["heading"] else ""
    details += f"  {hit['date']}" if hit["date"] else ""
    details += f"  (valid until {hit['valid_until']} only)" if hit.get("valid_until") else ""
    click.echo(f"{rank:2} ", nl=False)
    print_line(f"{path}:{hit['first']}-{hit['last']}", fg="cyan", nl=False)
    print_line(f"  {_describe_worth(hit)}{details}")
    width = max(_MIN_WIDTH, _line_width() - _INDENT)
    _, lines = select_lines(hit["text"].expandtabs(4), terms, _MAX_SHOWN_LINES)
    for line in textwrap.dedent("\n".join(lines)).rstrip().split("\n"):
        click.echo(" " * _INDENT + highlight(fit_line(line.rstrip(), terms, width), terms))


def _describe_worth(hit: Mapping[str, Any]) -> str:
    """Return the probability that a hit helps, else its score.

    A score compares the hits of one question. It is 0 for an only hit, however good that is.
    """
    p = hit.get("p")
    if p is None:
        return f"{hit['score']:.2f}"
    return f"p {p:.2f}" if p >= _MIN_SHOWN_P else f"p <{_MIN_SHOWN_P}"


def print_plain(hits: Sequence[Mapping[str, Any]], paths: Sequence[str], terms: Sequence[str], form: str) -> None:
    """Print each path once (`path`), or path, line and text of the best line of each hit (`line`)."""
    if form == "path":
        for path in dict.fromkeys(paths):
            click.echo(one_line(path))
        return
    for hit, path in zip(hits, paths, strict=True):
        offset, lines = select_lines(hit["text"], terms, 1)
        click.echo(one_line(f"{path}:{hit['first'] + offset}:{lines[0]}"))


def host_path(path: str, sources: Sequence[Mapping[str, Any]]) -> str:
    """Return the host path of a file in a source; other paths are unchanged."""
    for source in sources:
        if path.startswith(f"{source['at']}/"):
            return os.path.join(source["path"], path[len(source["at"]) + 1 :])
    return path


def _line_width() -> int:
    is_terminal = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    return shutil.get_terminal_size().columns if is_terminal else _PLAIN_WIDTH


@contextmanager
def paged(is_wanted: bool) -> Iterator[None]:
    """Send the output through $PAGER if it is for a terminal; a pager that quits early is no error."""
    is_dumb = os.environ.get("TERM", "dumb") == "dumb"  # no pager can move its cursor
    if not is_wanted or is_dumb or not sys.stdout.isatty() or not sys.stdin.isatty():
        yield
        return
    command = shlex.split(os.environ.get("PAGER", "less"))
    try:
        pager = subprocess.Popen(
            command, stdin=subprocess.PIPE, text=True, errors="replace", env={"LESS": "FRX", **os.environ}
        )
    except (OSError, IndexError, ValueError):
        yield
        return
    context, terminal = click.get_current_context(), sys.stdout
    os.environ["COLUMNS"] = str(shutil.get_terminal_size().columns)
    context.color = context.color if context.color is not None else True
    assert pager.stdin is not None
    sys.stdout = pager.stdin
    try:
        yield
    except BrokenPipeError:
        pass
    finally:
        sys.stdout = terminal
        with suppress(BrokenPipeError):
            pager.stdin.close()
        pager.wait()
