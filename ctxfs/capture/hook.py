"""The hook of a client: one event as JSON on stdin, one line in the capture spool, always exit code 0.

The client waits for its hooks, and takes an error for an answer. So nothing here raises, waits long or writes to stdout,
except the recalled context that `--recall` requests. Modules that take long to import are imported when needed: the
whole takes less time than the import of the command line.
"""

import contextlib
import os
import select
import sys
import time
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ctxfs.capture.client_events import EVENTS, client_of, event_of, parse_payload, records_of
from ctxfs.eventlog.capture_spool import FOLDER, append_event

MAX_INPUT_BYTES = 10_000_000
DEFAULT_RECALL_TOKENS = 1000
MAX_RECALL_TOKENS = 100_000
_MAX_WAIT_SECONDS = 1.0  # for more input
_MAX_PAUSE_SECONDS = 0.2  # after the end of an object
_MAX_DRAIN_SECONDS = 2.0
_READ_BYTES = 1 << 18
_CONFIG_NAME = "ctxfs.toml"
_LOG_NAME = "capture.log"
_MAX_LOG_BYTES = 200_000


class HookArguments(NamedTuple):
    """The arguments of `ctxfs capture hook`; `recall` is in tokens, 0 for no answer."""

    event: str = ""
    client: str = ""
    store: str = ""
    principal: str = ""
    recall: int = 0


class HookError(Exception):
    """Raised for an event that cannot be recorded; the message is for people."""


def parse_arguments(words: Sequence[str]) -> HookArguments:
    """Parse the words after `capture hook`, or all words of `ctxfs`. Unknown words are ignored."""
    values = {"--client": "", "--store": "", "--as": "", "--principal": "", "--recall": ""}
    event = ""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name == "--recall":
            values[name] = value if equals else str(DEFAULT_RECALL_TOKENS)
        elif name in values:
            values[name] = value if equals else (rest.pop(0) if rest else "")
        elif event_of(word):
            event = event_of(word)
    recall = values["--recall"]
    tokens = min(int(recall), MAX_RECALL_TOKENS) if recall.isascii() and recall.isdigit() else 0
    return HookArguments(event, values["--client"], values["--store"], values["--principal"] or values["--as"], tokens)


def run_hook(words: Sequence[str]) -> int:
    """Handle one event; return 0 in any case. At most one line goes to stderr, and to the log of the store."""
    store = ""
    try:
        arguments = parse_arguments(words)
        data, total = _read_input()
        store = _find_store(arguments.store)
        _handle(arguments, store, data, total)
    except HookError as error:
        _report(store, str(error))
    except OSError as error:
        _report(store, f"the event is not recorded: {error.strerror or error}")
    except BaseException as error:  # the client is never broken by its hook
        _report(store, f"the event is not recorded: {type(error).__name__}: {error}")
    return 0


def _handle(arguments: HookArguments, store: str, data: bytes, total: int) -> None:
    is_cut = total > len(data)
    payload = parse_payload(data, is_cut=is_cut)
    if not payload:
        raise HookError("the event is not recorded: stdin has no JSON object")
    event_name = arguments.event or event_of(str(payload.get("hook_event_name", "")))
    if not event_name:
        raise HookError(f"the event is not recorded: the events are {', '.join(EVENTS)}")
    client = client_of(arguments.client, payload)
    records = records_of(event_name, client, payload, time.time_ns())
    folder = os.path.join(store, "history", FOLDER)
    for number, record in enumerate(records):
        if is_cut:
            record["cut"] = {**record.get("cut", {}), "input_bytes": total}
        event = {"sum": zlib.crc32(data) ^ number, "client": client, "hook": arguments.client}
        event |= {"principal": arguments.principal}
        if not append_event(folder, {**event, "record": record}):
            raise HookError("the event is not recorded: the capture spool is full")
    if event_name == "prompt" and arguments.recall and records:
        _answer(arguments, client, store, records[0])


def _answer(arguments: HookArguments, client: str, store: str, record: dict[str, Any]) -> None:
    from ctxfs.capture.recall import recall_output

    output = recall_output(store, client, arguments.principal, arguments.recall, record)
    if output:
        sys.stdout.write(output + "\n")
        sys.stdout.flush()


def _read_input() -> tuple[bytes, int]:
    """Return (the first `MAX_INPUT_BYTES` of stdin, size of all of it); the rest is read, so that the writer can end.

    A client that leaves stdin open is not waited for.
    """
    if os.isatty(0):
        return b"", 0
    chunks: list[bytes] = []
    total, deadline = 0, 0.0
    while True:
        is_whole = bool(chunks) and chunks[-1].rstrip().endswith(b"}")
        readable, _, _ = select.select([0], [], [], _MAX_PAUSE_SECONDS if is_whole else _MAX_WAIT_SECONDS)
        chunk = os.read(0, _READ_BYTES) if readable else b""
        if not chunk or (deadline and time.monotonic() > deadline):
            break
        if total < MAX_INPUT_BYTES:
            chunks.append(chunk)
        elif not deadline:
            deadline = time.monotonic() + _MAX_DRAIN_SECONDS
        total += len(chunk)
    return b"".join(chunks)[:MAX_INPUT_BYTES], total


def _find_store(named: str) -> str:
    """Return the folder of a store of this user; raise HookError if there is none."""
    root = named or os.environ.get("CTXFS_STORE", "")
    if not root:
        from ctxfs.model.errors import CommandError
        from ctxfs.store.layout import find_store

        try:
            return str(find_store(None).root)
        except CommandError as error:
            raise HookError(f"the event is not recorded: {error.message}") from error
    root = os.path.abspath(os.path.expanduser(root))
    try:
        config = os.stat(os.path.join(root, _CONFIG_NAME))
    except OSError:
        raise HookError(f"the event is not recorded: no store at '{root}'") from None
    if config.st_uid != os.geteuid():
        raise HookError(f"the event is not recorded: '{root}' belongs to another user")
    return root


def _report(store: str, message: str) -> None:
    """Write one line to stderr and to the store's log; a failure of either changes nothing."""
    line = " ".join(f"ctxfs capture: {message}".split())[:500]
    with contextlib.suppress(OSError):
        os.write(2, (line + "\n").encode("utf-8", "replace"))
    if not store:
        return
    with contextlib.suppress(OSError):
        path = os.path.join(store, "run", _LOG_NAME)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(fd).st_size < _MAX_LOG_BYTES:
                stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                os.write(fd, f"{stamp} {line}\n".encode("utf-8", "replace"))
        finally:
            os.close(fd)
