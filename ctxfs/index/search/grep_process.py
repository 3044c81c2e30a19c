"""Grep process, which matches untrusted regular expressions: `python -m ctxfs.index.search.grep_process`.

Python's engine backtracks: `(a+)+$` on forty letters takes for ever, with the interpreter lock held.
In a process of its own it blocks no caller, and files are scanned one by one.
A file on which a pattern takes more than `MAX_FILE_CPU_SECONDS` is skipped and reported.

Requests and responses are lines of JSON on stdin and stdout.
A request is {"pattern", "fixed", "word", "ignore_case", "principal", "only", "files": [[prefix, root, holds records, [name…]]…]},
its response {"lines": [[path, number, text]…], "faults": [text…]}.
"""

import json
import os
import resource
import select
import signal
import sys
from typing import Any

from ctxfs.index.options import IndexedRoot
from ctxfs.index.search.grep import Line, Matcher, scan

MAX_FILE_CPU_SECONDS = 2.0
IDLE_SECONDS = 60.0
_MEMORY_BYTES = 4 << 30


class _FileTimeout(Exception):
    """The CPU alarm of a file. The engine checks for signals every few thousand steps."""


def main() -> None:
    """Serve requests until stdin ends, or until no request arrives for `IDLE_SECONDS`."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    os.nice(5)
    signal.signal(signal.SIGPROF, _raise_timeout)
    # The pool sends one request at a time, so that the buffer is empty while `select` waits.
    while select.select([sys.stdin], [], [], IDLE_SECONDS)[0] and (request := sys.stdin.buffer.readline()):
        response = _handle_request(json.loads(request))
        sys.stdout.write(json.dumps(response) + "\n")
        sys.stdout.flush()


def _raise_timeout(*_: object) -> None:
    raise _FileTimeout


def _handle_request(request: dict[str, Any]) -> dict[str, Any]:
    names = ("fixed", "word", "ignore_case", "principal")
    matcher = Matcher(request["pattern"], **{name: request[name] for name in names})
    lines: list[Line] = []
    faults: list[str] = []
    file_lines: list[Line]
    for prefix, folder, holds_records, parts in request["files"]:
        root = IndexedRoot(prefix, folder, holds_records=holds_records)
        path = "/".join((prefix, *parts))
        file_lines = []
        try:
            signal.setitimer(signal.ITIMER_PROF, MAX_FILE_CPU_SECONDS)
            file_lines, file_faults = scan([(root, tuple(parts))], matcher, request["only"])
            signal.setitimer(signal.ITIMER_PROF, 0)
        except _FileTimeout:
            file_faults = [f"{path}: the pattern takes too long on it"]
        except MemoryError:
            file_faults = [f"{path}: it is too large"]
        except Exception as error:  # an unforeseen one costs this file, not those after it
            file_faults = [f"{path}: it cannot be searched: {type(error).__name__}: {error}"]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        lines += file_lines
        faults += file_faults
    return {"lines": lines, "faults": faults}


if __name__ == "__main__":
    main()
