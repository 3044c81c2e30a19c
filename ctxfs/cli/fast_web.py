"""The command web on the command line, without click."""

from __future__ import annotations

import os

from ctxfs.cli.output import fail
from ctxfs.model.errors import CommandError

_COMMAND = "web"
_NO_OPEN = "--no-open"
_VALUES = {"--port": "port", "--principal": "principal", "--as": "principal", "--token": "token", "--store": "store"}
_MAX_PORT = 65_535
_EXIT_INTERRUPTED = 130


def parse_web(words: list[str]) -> dict[str, str] | None:
    """Return the options that the words of a command line mean; None if they need another parser."""
    rest, options = list(words), dict[str, str]()
    if len(rest) > 2 and rest[0] == "--store":
        options["store"] = rest[1]
        del rest[:2]
    if not rest or rest.pop(0) != _COMMAND:
        return None
    while rest:
        name, has_value, value = rest.pop(0).partition("=")
        if name == _NO_OPEN and not has_value:
            options["no_open"] = "yes"
            continue
        if name not in _VALUES or not (has_value or rest):
            return None
        options[_VALUES[name]] = value if has_value else rest.pop(0)
    port = options.get("port", "0")
    is_port = port.isascii() and port.isdecimal() and int(port[:9]) <= _MAX_PORT
    return options if is_port and not any(value.startswith("-") for value in options.values()) else None


def run_web(options: dict[str, str]) -> int:
    """Serve the page until a signal, and return the exit code. Errors are printed with their remedy."""
    from ctxfs.cli.page_server import PageOptions, serve_page

    try:
        serve_page(
            PageOptions(
                options.get("store") or None,
                port=int(options.get("port", "0")),
                principal=options.get("principal", ""),
                token=options.get("token") or os.environ.get("CTXFS_TOKEN", ""),
                opens_browser="no_open" not in options,
            )
        )
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except (CommandError, OSError) as error:
        try:
            fail(error)
        except SystemExit as end:
            return int(end.code or 0)
    return 0
