"""Output of sessions for people: overviews, turns with speaker and time, a day as a timeline. Texts are hostile input."""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from ctxfs.cli.output import count_noun, print_line, print_lines
from ctxfs.eventlog.record_text import Message, message_of, said_at_of
from ctxfs.model.path import one_line

_MAX_WIDTH = 100  # columns of wrapped text on a terminal
_MIN_WIDTH = 30
_MAX_TOOL_CHARS = 160
_MAX_TITLE_CHARS = 80
_INDENT = "  "
_SPEAKER_COLOURS = {
    "input": "green",
    "output": "cyan",
    "reasoning": "blue",
    "tool_call": "yellow",
    "tool_result": "yellow",
}


def show_overview(session: Mapping[str, Any]) -> None:
    """Print a session: its time, name, size and principals on one line, its first question on the next."""
    names = ", ".join((*session["clients"], *session["principals"]))
    print_line(f"{session['last_at'][:16].replace('T', ' '):<16}  ", nl=False)
    print_line(session["session"], nl=False, bold=True)
    print_line(f"  {count_noun(session['records'], 'record')}  {names}")
    if session["title"]:
        print_line(f"{_INDENT}{_cut(session['title'], _MAX_TITLE_CHARS)}", dim=True)


def show_turn(record: Mapping[str, Any], previous_day: str, *, is_whole: bool) -> str:
    """Print a record as a turn of a conversation; return its day, so that each day is named once.

    With `is_whole` the texts of tools are printed, too; otherwise each has one line.
    """
    moment = said_at_of(record)
    # A record with `seq` and without its hash would count as cut.
    message = message_of({name: value for name, value in record.items() if name != "seq"})
    day = moment.date().isoformat() if moment is not None else ""
    if day and day != previous_day:
        print_line(day, dim=True)
    clock = moment.strftime("%H:%M") if moment is not None else "--:--"
    kind = str(record.get("kind", "note"))
    if message is None:
        print_line(f"{clock} {kind}", dim=True)
    elif message.is_from_tool and not is_whole:
        print_line(f"{clock} {_tool_line(kind, message)}", dim=True)
    else:
        print_line(f"{clock} ", nl=False)
        print_line(_speaker_label(record, message), bold=True, fg=_SPEAKER_COLOURS.get(kind))
        for line in _wrapped(message.text + (" …" if message.is_cut or record.get("cut") else "")):
            print_lines(f"{_INDENT}{line}" if line else "")
        print_line()
    return day or previous_day


def show_day_message(message: Mapping[str, Any]) -> None:
    """Print a message of a day on one line."""
    print_line(f"{message['at'][11:16]}  ", nl=False)
    print_line(message["session"], nl=False, fg="cyan")
    tools = f"  (+{count_noun(message['tools'], 'other record')})" if message["tools"] else ""
    print_line(f"  {message['speaker']}: {_cut(message['text'], _line_width() - 20)}{tools}")


def _speaker_label(record: Mapping[str, Any], message: Message) -> str:
    model = record.get("model")
    name = f" ({' '.join(str(value) for value in model.values())[:60]})" if isinstance(model, dict) else ""
    kind = f" {message.kind}" if message.kind not in ("input", "output") else ""
    return f"{message.speaker}{name}{kind}"


def _tool_line(kind: str, message: Message) -> str:
    arrow = "→" if kind == "tool_call" else "←"
    return f"{arrow} {_cut(message.text, min(_line_width(), _MAX_TOOL_CHARS) - 10)}"


def _wrapped(text: str) -> Iterator[str]:
    """Yield the lines of a text, wrapped on a terminal only. The lines of a pipe stay as they are."""
    width = min(_line_width(), _MAX_WIDTH) - len(_INDENT) if sys.stdout.isatty() or _is_paged() else 0
    for line in text.expandtabs(4).split("\n"):
        if not width or len(line) <= width:
            yield line.rstrip()
            continue
        indent = " " * min(len(line) - len(line.lstrip()), width // 2)
        yield from textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]


def _is_paged() -> bool:
    return sys.stdout is not sys.__stdout__ and sys.__stdout__ is not None and sys.__stdout__.isatty()


def _line_width() -> int:
    return max(_MIN_WIDTH, shutil.get_terminal_size((_MAX_WIDTH, 24)).columns)


def _cut(text: str, limit: int) -> str:
    """Return a text on one line, cut to a number of characters; line ends are spaces."""
    line = one_line(" ".join(text[: 8 * limit].split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"
