"""Reviews on a terminal, one after another: each with its evidence, decided by a key."""

import os
import sys
import termios
import tty

import click

from ctxfs.cli.output import print_line, warn
from ctxfs.daemon.session import StoreSession

_MAX_SHOWN_LINES = 40
_KEYS = "[a]ccept [r]eject [e]dit [u]ndo [s]kip [q]uit "
_CONFLICT_KEYS = "keep [t]his [o]ther [b]oth, [u]ndo [s]kip [q]uit "
_VERDICTS = {"a": "accept", "r": "reject"}
_CONFLICT_VERDICTS = {"t": "this", "o": "other", "b": "both"}
_CONFLICT = "conflict"
_FILES = {"proposal": ("why.md", "change.diff"), "": ("evidence.md",), _CONFLICT: ("evidence.md",)}  # by kind


def decide_by_keys(opened: StoreSession, waiting: list[dict[str, str]]) -> None:
    """Show each review and wait for a key, until the last one or `q`. `u` takes the last decision back and shows it."""
    position, decided = 0, list[int]()
    while position < len(waiting):
        _show(opened, waiting[position], f"{position + 1}/{len(waiting)}")
        is_conflict = waiting[position]["kind"] == _CONFLICT
        key = _read_key(_CONFLICT_KEYS if is_conflict else _KEYS, "tobusq" if is_conflict else "areusq")
        if key == "q":
            return
        if key == "u":
            if not decided:
                warn("there is no decision to undo")
            elif _call(opened, "undo_decision", id=waiting[decided[-1]]["id"]):
                position = decided.pop()
            continue
        if key != "s":
            verdict = (_VERDICTS | _CONFLICT_VERDICTS).get(key) or f"edit {click.prompt('as it should read', err=True)}"
            if _call(opened, "decide", id=waiting[position]["id"], verdict=verdict):
                print_line(verdict.split()[0], fg="green")
                decided.append(position)
        position += 1


def _read_key(prompt: str, keys: str) -> str:
    """Return one of the keys; `q` at the end of the input. Further typed characters are dropped: they saw no review."""
    while True:
        key = _read_character(prompt)
        click.echo(err=True)
        if key in ("", "\x04"):
            return "q"
        if key in ("\r", "\n", " "):
            return "s"
        if key in keys:
            return key


def _read_character(prompt: str) -> str:
    """Prompt for a key, and return the first character that is typed after the prompt; empty at the end of the input."""
    descriptor = sys.stdin.fileno()
    saved = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)  # before the prompt, as it drops pending input
    try:
        click.echo(prompt, nl=False, err=True)
        return os.read(descriptor, 64).decode("ascii", "replace")[:1].lower()
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, saved)


def _call(opened: StoreSession, method: str, **arguments: str) -> bool:
    """Call a method; print its refusal, such as of a review that was decided elsewhere, and return False."""
    try:
        opened.call(method, **arguments)
    except OSError as error:
        warn(f"{arguments['id']}: {error.strerror}")
        return False
    return True


def _show(opened: StoreSession, claim: dict[str, str], number: str) -> None:
    print_line()
    origin = f"context/{claim['task']}" if claim["task"] else claim["kind"]
    print_line(f"{number}  {origin}  {claim['id']}", fg="cyan")
    print_line(claim["claim"], bold=True)
    print_line(claim["why"])
    for file in _FILES.get(claim["kind"], ()):
        _print_file(opened, f"human/review/{claim['id']}/{file}")


def _print_file(opened: StoreSession, path: str) -> None:
    """Print the first lines of a file; none if it is not there."""
    try:
        lines = opened.call("read", path=path).decode("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines[:_MAX_SHOWN_LINES]:
        print_line(line)
    if len(lines) > _MAX_SHOWN_LINES:
        print_line(f"… {len(lines) - _MAX_SHOWN_LINES} more lines in {path}")
