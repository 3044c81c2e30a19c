"""The commands without click: help, version, and searches through a daemon into a pipe, which start fast, and the page.

They take the most common words only, and give the output of the commands in `main`, which take all others. A command
starts in a third of the time because neither click, nor `typing`, `pathlib`, `dataclasses` or `json` are imported.
"""

from __future__ import annotations

import os
import sys

_COMPLETION_VARIABLE = "_CTXFS_COMPLETE"


def run_fast(words: list[str]) -> int | None:
    """Run a command and return its exit code; None, without any output, if `main` has to run it."""
    if _COMPLETION_VARIABLE in os.environ:
        return None
    try:
        code = _run(words)
        if code is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of the pipe ended, as in `ctxfs search … | head`: this is no error, and output has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(words: list[str]) -> int | None:
    if words in (["--help"], ["-h"], ["help"]):
        return _print_help()
    if words in (["--version"], ["-V"]):
        return _print_version()
    if "search" in words[:3] and not sys.stdout.isatty():
        from ctxfs.cli.fast_search import parse_search, run_search

        search = parse_search(words)
        return None if search is None else run_search(search)
    if "web" in words[:3]:
        from ctxfs.cli.fast_web import parse_web, run_web

        page = parse_web(words)
        return None if page is None else run_web(page)
    return None


def _print_help() -> int | None:
    from ctxfs.cli.help_page import MIN_COLUMNS, help_page
    from ctxfs.cli.terminal import echo

    if _columns() < MIN_COLUMNS:
        return None
    echo(help_page(), nl=False)
    return 0


def _print_version() -> int:
    from ctxfs import __version__
    from ctxfs.cli.terminal import echo

    echo(f"ctxfs {__version__}")
    return 0


def _columns() -> int:
    """Return the columns of the terminal, as `shutil.get_terminal_size` does."""
    named = os.environ.get("COLUMNS", "")
    if named:
        return int(named) if named.isascii() and named.isdecimal() else 0
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80
