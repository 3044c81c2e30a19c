"""A tool of a mounted ctxfs tree, run as a program: flags or JSON in, text out. See --help.

It writes the arguments to the file `call` beside it and reads the result there. It needs only Python's standard
library.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` would take longer to load than the rest
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable
    from typing import Any

INVALID = 22
OK, FAILED, USAGE, REFUSED, MISSING, INTERRUPTED = 0, 1, 2, 126, 127, 130
CODES = {"EINVAL": USAGE, "EACCES": REFUSED, "EPERM": REFUSED, "ENOENT": MISSING}
PIECE = 1 << 16


def main() -> int:
    """Run the tool and return the exit code."""
    here = os.path.dirname(os.path.realpath(sys.argv[0]))  # the program may have been found on the PATH, through a link
    if len(sys.argv) == 1 and not sys.stderr.isatty() and sys.stdin is not None and not sys.stdin.isatty():
        return main_without_json(here)
    return main_with_flags(here)


def main_without_json(here: str) -> int:
    """Pass JSON from stdin to the tool without parsing it, because parsing would take longer than many tools do."""
    name = here.rpartition("/tools/")[2]
    try:
        with open(os.path.join(here, "tool.json"), encoding="utf-8") as file:
            takes_nothing = '"properties": {}' in file.read()
    except OSError as error:
        return complain(name, f"its tool.json cannot be read: {error.strerror}", MISSING)
    said = b"" if takes_nothing else sys.stdin.buffer.read().strip()
    if said and not (said.startswith(b"{") and said.endswith(b"}")):
        return complain(name, "the arguments are a JSON object", USAGE)
    rest = said[1:].lstrip() if said else b"}"
    question = b'{"$call": {"plain": true}' + (b"" if rest == b"}" else b", ") + rest
    try:
        answer = asked_plainly(os.path.join(here, "call"), question)
    except PermissionError:
        return complain(name, refusal(here), REFUSED)
    except OSError as error:
        return complain(name, error.strerror or str(error), USAGE if error.errno == INVALID else FAILED)
    head, body = answer.split(b"\n", 1)
    state, *lengths = head.decode().split()
    pieces = []
    for length in map(int, lengths):
        pieces.append(body[:length])
        body = body[length:]
    text, complaints, fault, files = pieces
    sys.stdout.buffer.write(text + (files + b"\n" if files else b""))
    sys.stdout.flush()
    sys.stderr.buffer.write(complaints + b"\n" if complaints else b"")
    if state == "ok":
        return OK
    if fault not in complaints:
        complain(name, fault.decode("utf-8", "replace"), FAILED)
    return CODES.get(state, FAILED)


def asked_plainly(place: str, question: bytes) -> bytes:
    """Write the request to the transaction file and return the whole response."""
    descriptor = os.open(place, os.O_RDWR)
    try:
        write(descriptor, question)
        answer = b""
        while piece := os.read(descriptor, PIECE):
            answer += piece
        return answer
    finally:
        os.close(descriptor)


def write(descriptor: int, rest: bytes) -> None:
    """Write all of `rest`."""
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def main_with_flags(here: str) -> int:
    """Run the tool with arguments from flags, from stdin, or from both, with progress and questions on a terminal."""
    import json

    try:
        with open(os.path.join(here, "tool.json"), encoding="utf-8") as file:
            tool = json.load(file)
        arguments, options = given(tool, sys.argv[1:])
    except (OSError, ValueError) as error:
        return complain(sys.argv[0], str(error), USAGE if isinstance(error, ValueError) else MISSING)
    call: dict[str, Any] = {"progress": sys.stderr.isatty(), "confirmed": options["yes"]}
    if tool["annotations"]["destructiveHint"] and not options["yes"] and sys.stdin.isatty() and sys.stderr.isatty():
        print(f"What {tool['name']} does cannot be taken back. Run it? [y/N] ", end="", file=sys.stderr, flush=True)
        call["confirmed"] = sys.stdin.readline().strip().lower() in ("y", "yes")
        if not call["confirmed"]:
            return complain(tool["name"], "it was not run", REFUSED)
    try:
        call["files"] = placed(here, tool, arguments)
        answer = asked(os.path.join(here, "call"), json.dumps({**arguments, "$call": call}).encode())
    except PermissionError:
        return complain(tool["name"], refusal(here), REFUSED)
    except OSError as error:
        return complain(tool["name"], error.strerror or str(error), FAILED)
    return told(tool["name"], answer, as_json=options["output"] == "json")


def given(tool: dict[str, Any], words: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (arguments, options) from flags, from values in the order of `required`, or from JSON on stdin."""
    options: dict[str, Any] = {"yes": False, "output": "text"}
    if not words:
        if not tool["inputSchema"].get("properties") or sys.stdin is None or sys.stdin.isatty():
            return {}, options
        return from_stdin(), options
    return parsed(tool, words, options)


def from_stdin() -> dict[str, Any]:
    """Return the arguments from JSON on stdin. Raise ValueError."""
    import json

    text = sys.stdin.read()
    arguments = json.loads(text) if text.strip() else {}
    if not isinstance(arguments, dict):
        raise ValueError("the arguments are a JSON object")
    return arguments


def parsed(tool: dict[str, Any], words: list[str], options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (arguments, options) by the flags that the schema defines. Exit with a usage message for invalid ones."""
    import argparse

    properties, required = tool["inputSchema"].get("properties", {}), tool["inputSchema"].get("required", [])
    own = [name for name in ("yes", "output", "help") if name not in properties]
    parser = argparse.ArgumentParser(
        prog=f"{tool['name']}/{os.path.basename(sys.argv[0])}",
        description=tool["description"],
        epilog="Without flags the arguments are read as JSON from stdin ('-': the same, beside flags). Exit codes: 0 an answer, 1 the "
        "tool failed, 2 wrong arguments, 126 refused, 127 no such tool, 130 given up.",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", *["--help"][: "help" in own], action="help", help="say this")
    parser.add_argument(
        "-y", *["--yes"][: "yes" in own], dest="/yes", action="store_true", help="do what cannot be taken back"
    )
    parser.add_argument(
        "-o",
        *["--output"][: "output" in own],
        dest="/output",
        choices=["text", "json"],
        default="text",
        help="the text, or the result",
    )
    parser.add_argument(
        "/words",
        nargs="*",
        metavar="VALUE",
        help=f"in this order: {' '.join(required)}" if required else argparse.SUPPRESS,
    )
    for name, schema in properties.items():
        add_flag(parser, name, schema if isinstance(schema, dict) else {}, is_required=name in required)
    found = vars(parser.parse_intermixed_args(words))
    options["yes"], options["output"] = found.pop("/yes"), found.pop("/output")
    loose = found.pop("/words")
    arguments = from_stdin() if "-" in loose else {}
    arguments.update({name: value for name, value in found.items() if value is not None})
    values = [word for word in loose if word != "-"]
    for name in required:
        if name not in arguments and values:
            try:
                arguments[name] = value_of(properties.get(name, {}))(values.pop(0))
            except ValueError as error:
                parser.error(f"{name}: {error}")
    if values:
        parser.error(f"too many values: {' '.join(values)}")
    missing = [name for name in required if name not in arguments]
    if missing:
        parser.error(f"it needs {', '.join('--' + flag(name) for name in missing)}; see --help")
    return arguments, options


def flag(name: str) -> str:
    """Return an argument's name as a flag: `maxRows` and `max_rows` are --max-rows."""
    words = "".join(f"-{each.lower()}" if each.isupper() and before.islower() else each for before, each in pairs(name))
    return words.replace("_", "-")


def pairs(text: str) -> list[tuple[str, str]]:
    """Return (previous character, character) for each character."""
    return list(zip(" " + text, text, strict=False))


def add_flag(parser: ArgumentParser, name: str, schema: dict[str, Any], *, is_required: bool) -> None:
    """Add `--name VALUE`, repeatable for a list; `--name` and `--no-name` for a boolean."""
    import json
    from argparse import BooleanOptionalAction

    said = str(schema.get("description", "")).replace("%", "%%") + (" (required)" if is_required else "")
    if "default" in schema:
        said += f" (default: {json.dumps(schema['default'])})".replace("%", "%%")
    names = list(dict.fromkeys((f"--{flag(name)}", f"--{name}")))
    kind = schema.get("type")
    if kind == "boolean":
        parser.add_argument(*names, dest=name, action=BooleanOptionalAction, default=None, help=said.strip())
        return
    repeated = kind == "array"
    items = schema.get("items", {}) if repeated else schema
    options: dict[str, Any] = {
        "type": value_of(items if isinstance(items, dict) else {}),
        "dest": name,
        "help": said.strip() or None,
        "default": None,
    }
    choices = items.get("enum") if isinstance(items, dict) else None
    options["metavar"] = "|".join(map(str, choices)) if choices else str((items or {}).get("type", "value")).upper()
    if repeated:
        options["action"] = "append"
    parser.add_argument(*names, **options)


def value_of(schema: dict[str, Any]) -> Callable[[str], Any]:
    """Return the converter from a word to a value: text where the schema requires a string, else JSON."""
    import json

    kind, choices = schema.get("type"), schema.get("enum")

    def make(word: str) -> Any:
        if choices:
            for choice in choices:
                if str(choice) == word:
                    return choice
            raise ValueError(f"one of {', '.join(map(str, choices))}, not '{word}'")
        if kind == "string":
            return word
        try:
            return json.loads(word)
        except ValueError:
            if kind in ("integer", "number"):
                raise ValueError(f"'{word}' is no {kind}") from None
            return word

    make.__name__ = str(kind or "value")  # argparse shows this name for an invalid value
    return make


def placed(here: str, tool: dict[str, Any], arguments: dict[str, Any]) -> dict[str, str]:
    """Turn host paths in the mount into paths of the tree, and return the contents (base64) of other files."""
    root = here
    for _ in range(len(tool["name"].split("/")) + 1):
        root = os.path.dirname(root)
    root, files = os.path.realpath(root), {}
    for name, schema in tool["inputSchema"].get("properties", {}).items():
        said = arguments.get(name)
        if not isinstance(schema, dict) or schema.get("x-ctx") not in ("file", "folder") or not isinstance(said, str):
            continue
        real = os.path.realpath(said)
        if real.startswith(root + os.sep):
            arguments[name] = os.path.relpath(real, root)
        elif schema["x-ctx"] == "file" and os.path.isfile(real):
            import base64

            with open(real, "rb") as file:
                files[name] = base64.b64encode(file.read()).decode()
    return files


def asked(place: str, question: bytes) -> dict[str, Any]:
    """Write the request to the transaction file, show progress lines, and return the response."""
    import json

    descriptor = os.open(place, os.O_RDWR)
    try:
        write(descriptor, question)
        buffer, shown = b"", False
        while piece := os.read(descriptor, PIECE):
            buffer += piece
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                answer: dict[str, Any] = json.loads(line)
                if "progress" not in answer:
                    if shown:
                        print("\r\033[K", end="", file=sys.stderr, flush=True)
                    return answer
                shown = True
                print(
                    f"\r\033[K{answer['progress']:4.0%} {answer['message'][:70]}", end="", file=sys.stderr, flush=True
                )
        raise OSError(5, "the answer ended in the middle")
    finally:
        os.close(descriptor)


def told(name: str, answer: dict[str, Any], *, as_json: bool) -> int:
    """Write the text to stdout and errors to stderr, and return the exit code."""
    if as_json:
        import json

        print(json.dumps(answer, ensure_ascii=False, indent=1))
    else:
        sys.stdout.write(answer.get("text", ""))
        for file in answer.get("files", ()):
            print(file)
        if answer.get("stderr"):
            print(answer["stderr"], file=sys.stderr)
    sys.stdout.flush()
    if answer["ok"]:
        return OK
    if answer["fault"] not in answer.get("stderr", ""):
        complain(name, answer["fault"], FAILED)
    return CODES.get(str(answer.get("errno")), FAILED)


def refusal(here: str) -> str:
    """Return the reason why the tool may not run, from its README."""
    try:
        with open(os.path.join(here, "README.md"), encoding="utf-8") as file:
            for line in file:
                if line.startswith("It does not run"):
                    return line.strip()
    except OSError:
        pass
    return "you may not run it"


def complain(name: str, why: str, code: int) -> int:
    """Write an error to stderr and return the exit code."""
    print(f"{name}: {why}", file=sys.stderr)
    return code


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at exit does not fail
        code = 141
    sys.exit(code)
