"""The pager of long output on a terminal."""

import io
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class _PagerStream(io.TextIOWrapper):
    """The input of a pager, which shows styles as its terminal does."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@contextmanager
def paged(is_wanted: bool) -> Iterator[None]:
    """Send the output through $PAGER if it is for a terminal; a pager that quits early is no error."""
    is_dumb = os.environ.get("TERM", "dumb") == "dumb"  # no pager can move its cursor
    if not is_wanted or is_dumb or not sys.stdout.isatty() or not sys.stdin.isatty():
        yield
        return
    command = shlex.split(os.environ.get("PAGER", "less"))
    try:
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, env={"LESS": "FRX", **os.environ})
    except (OSError, IndexError, ValueError):
        yield
        return
    terminal = sys.stdout
    os.environ["COLUMNS"] = str(shutil.get_terminal_size().columns)
    assert pager.stdin is not None
    sys.stdout = _PagerStream(pager.stdin, encoding=terminal.encoding, errors="replace")
    try:
        yield
    except BrokenPipeError:
        pass
    finally:
        paged_output, sys.stdout = sys.stdout, terminal
        with suppress(BrokenPipeError):
            paged_output.close()
        pager.wait()
