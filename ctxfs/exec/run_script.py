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
    payload = b"" if takes_nothing else sys.stdin.buffer.read().strip()
    if payload and not (payload.startswith(b"{") and payload.endswith(b"}")):
        return complain(name, "the arguments are a JSON object", USAGE)
    rest = payload[1:].lstrip() if payload else b"}"
    request = b'{"$call": {"plain": true}' + (b"" if rest == b"}" else b", ") + rest
    try:
        response = exchange_plainly(os.path.join(here, "call"), request)
    except PermissionError:
        return complain(name, refusal(here), REFUSED)
    except OSError as error:
        return complain(name, error.strerror or str(error), USAGE if error.errno == INVALID else FAILED)
    head, body = response.split(b"\n", 1)
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


def exchange_plainly(path: str, request: bytes) -> bytes:
    """Write the request to the transaction file and return the whole response."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        write(descriptor, request)
        response = b""
        while piece := os.read(descriptor, PIECE):
            response += piece
        return response
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
        arguments, options = parse_arguments(tool, sys.argv[1:])
    except (OSError, ValueError) as error:
        return complain(sys.argv[0], str(error), USAGE if isinstance(error, ValueError) else MISSING)
    call: dict[str, Any] = {"progress": sys.stderr.isatty(), "confirmed": options["yes"]}
    if tool["annotations"]["destructiveHint"] and not options["yes"] and sys.stdin.isatty() and sys.stderr.isatty():
        print(f"What {tool['name']} does cannot be taken back. Run it? [y/N] ", end="", file=sys.stderr, flush=True)
        call["confirmed"] = sys.stdin.readline().strip().lower() in ("y", "yes")
        if not call["confirmed"]:
            return complain(tool["name"], "it was not run", REFUSED)
    try:
        call["files"] = convert_paths(here, tool, arguments)
        response = exchange(os.path.join(here, "call"), json.dumps({**arguments, "$call": call}).encode())
    except PermissionError:
        return complain(tool["name"], refusal(here), REFUSED)
    except OSError as error:
        return complain(tool["name"], error.strerror or str(error), FAILED)
    return print_result(tool["name"], response, as_json=options["output"] == "json")


def parse_arguments(tool: dict[str, Any], words: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (arguments, options) from flags, from values in the order of `required`, or from JSON on stdin."""
    options: dict[str, Any] = {"yes": False, "output": "text"}
    if not words:
        if not tool["inputSchema"].get("properties") or sys.stdin is None or sys.stdin.isatty():
            return {}, options
        return from_stdin(), options
    return parse_flags(tool, words, options)


def from_stdin() -> dict[str, Any]:
    """Return the arguments from JSON on stdin. Raise ValueError."""
    import json

    text = sys.stdin.read()
    arguments = json.loads(text) if text.strip() else {}
    if not isinstance(arguments, dict):
        raise ValueError("the arguments are a JSON object")
    return arguments


def parse_flags(
    tool: dict[str, Any], words: list[str], options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (arguments, options) by the flags that the schema defines. Exit with a usage message for invalid ones."""
    properties, required = tool["inputSchema"].get("properties", {}), tool["inputSchema"].get("required", [])
    parser = make_parser(tool, properties, required)
    namespace = vars(parser.parse_intermixed_args(words))
    options["yes"], options["output"] = namespace.pop("/yes"), namespace.pop("/output")
    positionals = namespace.pop("/words")
    arguments = from_stdin() if "-" in positionals else {}
    arguments.update({name: value for name, value in namespace.items() if value is not None})
    values = [word for word in positionals if word != "-"]
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


def make_parser(tool: dict[str, Any], properties: dict[str, Any], required: list[str]) -> ArgumentParser:
    """Return the parser of a tool's flags and values.

    It also accepts `-y`, `-o` and `-h`, and their long names unless the tool has arguments of these names.
    """
    import argparse

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
    return parser


def flag(name: str) -> str:
    """Return an argument's name as a flag: `maxRows` and `max_rows` are --max-rows."""
    text = "".join(
        f"-{character.lower()}" if character.isupper() and before.islower() else character
        for before, character in pairs(name)
    )
    return text.replace("_", "-")


def pairs(text: str) -> list[tuple[str, str]]:
    """Return (previous character, character) for each character."""
    return list(zip(" " + text, text, strict=False))


def add_flag(parser: ArgumentParser, name: str, schema: dict[str, Any], *, is_required: bool) -> None:
    """Add `--name VALUE`, repeatable for a list; `--name` and `--no-name` for a boolean."""
    import json
    from argparse import BooleanOptionalAction

    help_text = str(schema.get("description", "")).replace("%", "%%") + (" (required)" if is_required else "")
    if "default" in schema:
        help_text += f" (default: {json.dumps(schema['default'])})".replace("%", "%%")
    names = list(dict.fromkeys((f"--{flag(name)}", f"--{name}")))
    kind = schema.get("type")
    if kind == "boolean":
        parser.add_argument(*names, dest=name, action=BooleanOptionalAction, default=None, help=help_text.strip())
        return
    repeated = kind == "array"
    items = schema.get("items", {}) if repeated else schema
    options: dict[str, Any] = {
        "type": value_of(items if isinstance(items, dict) else {}),
        "dest": name,
        "help": help_text.strip() or None,
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


def convert_paths(here: str, tool: dict[str, Any], arguments: dict[str, Any]) -> dict[str, str]:
    """Turn host paths in the mount into paths of the tree, and return the contents (base64) of other files."""
    root = here
    for _ in range(len(tool["name"].split("/")) + 1):
        root = os.path.dirname(root)
    root, files = os.path.realpath(root), {}
    for name, schema in tool["inputSchema"].get("properties", {}).items():
        value = arguments.get(name)
        if not isinstance(schema, dict) or schema.get("x-ctx") not in ("file", "folder") or not isinstance(value, str):
            continue
        real = os.path.realpath(value)
        if real.startswith(root + os.sep):
            arguments[name] = os.path.relpath(real, root)
        elif schema["x-ctx"] == "file" and os.path.isfile(real):
            import base64

            with open(real, "rb") as file:
                files[name] = base64.b64encode(file.read()).decode()
    return files


def exchange(path: str, request: bytes) -> dict[str, Any]:
    """Write the request to the transaction file, show progress lines, and return the response."""
    import json

    descriptor = os.open(path, os.O_RDWR)
    try:
        write(descriptor, request)
        buffer, has_progress = b"", False
        while piece := os.read(descriptor, PIECE):
            buffer += piece
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                response: dict[str, Any] = json.loads(line)
                if "progress" not in response:
                    if has_progress:
                        print("\r\033[K", end="", file=sys.stderr, flush=True)
                    return response
                has_progress = True
                print(
                    f"\r\033[K{response['progress']:4.0%} {response['message'][:70]}",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
        raise OSError(5, "the answer ended in the middle")
    finally:
        os.close(descriptor)


def print_result(name: str, response: dict[str, Any], *, as_json: bool) -> int:
    """Write the text to stdout and errors to stderr, and return the exit code."""
    if as_json:
        import json

        print(json.dumps(response, ensure_ascii=False, indent=1))
    else:
        sys.stdout.write(response.get("text", ""))
        for file in response.get("files", ()):
            print(file)
        if response.get("stderr"):
            print(response["stderr"], file=sys.stderr)
    sys.stdout.flush()
    if response["ok"]:
        return OK
    if response["fault"] not in response.get("stderr", ""):
        complain(name, response["fault"], FAILED)
    return CODES.get(str(response.get("errno")), FAILED)


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
