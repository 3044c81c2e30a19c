"""Output of hits: paths, one line for each, or passages with the matched words, as wide as the terminal.

This module imports few others, so that commands start fast.
"""

from __future__ import annotations

import os
import sys

from ctxfs.cli.output import print_line
from ctxfs.cli.terminal import echo, shows_color, style
from ctxfs.index.search.word_matches import find_matches, fit_line, select_lines
from ctxfs.model.escapes import one_line

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

FORMATS = ("text", "path", "line", "json")
_MAX_SHOWN_LINES = 3
_INDENT = 5
_PLAIN_WIDTH = 160  # columns of a line that is not for a terminal
_MIN_WIDTH = 20
_MIN_SHOWN_P = 0.01


def highlight(line: str, terms: Sequence[str]) -> str:
    """Return a line, escaped, with its matches in bold on a terminal."""
    if not shows_color(sys.stdout):
        return one_line(line)
    out, position = "", 0
    for start, end in find_matches(line, terms):
        out += one_line(line[position:start]) + style(line[start:end], sys.stdout, bold=True, fg="red")
        position = end
    return out + one_line(line[position:])


def show_hit(rank: int, hit: Mapping[str, Any], path: str, terms: Sequence[str]) -> None:
    """Print a hit as text: its place, and the lines that match best, with their indentation."""
    details = f"  {hit['heading']}" if hit["heading"] else ""
    details += f"  {hit['date']}" if hit["date"] else ""
    details += f"  (valid until {hit['valid_until']} only)" if hit.get("valid_until") else ""
    echo(f"{rank:2} ", nl=False)
    print_line(f"{path}:{hit['first']}-{hit['last']}", fg="cyan", nl=False)
    print_line(f"  {_describe_worth(hit)}{details}")
    width = max(_MIN_WIDTH, _line_width() - _INDENT)
    _, lines = select_lines(hit["text"].expandtabs(4), terms, _MAX_SHOWN_LINES)
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    for line in "\n".join(line[indent:].rstrip() for line in lines).rstrip().split("\n"):
        echo(" " * _INDENT + highlight(fit_line(line, terms, width), terms))


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
            echo(one_line(path))
        return
    for hit, path in zip(hits, paths, strict=True):
        offset, lines = select_lines(hit["text"], terms, 1)
        echo(one_line(f"{path}:{hit['first'] + offset}:{lines[0]}"))


def host_path(path: str, sources: Sequence[Mapping[str, Any]]) -> str:
    """Return the host path of a file in a source; other paths are unchanged."""
    for source in sources:
        if path.startswith(f"{source['at']}/"):
            return os.path.join(source["path"], path[len(source["at"]) + 1 :])
    return path


def _line_width() -> int:
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdecimal():
        return _PLAIN_WIDTH
    import shutil

    return shutil.get_terminal_size().columns
