"""The commands ls, cat, edit and tree: the tree without a mount."""

import hashlib
import os
import sys
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import json_option, reason_option
from ctxfs.cli.output import print_json, print_line, print_path_error, warn, write_content
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import StoreSession, note_nearest, session
from ctxfs.model.change import Put
from ctxfs.model.errors import CommandError, invalid
from ctxfs.model.line_ends import LF, convert_line_ends
from ctxfs.model.path import Path, encode_name, printable
from ctxfs.rpc.wire import change_to_wire

_NAME, _KIND, _VERSION, _SIZE, _MTIME, _MODE, _TARGET = range(7)
_COLOURS = {"dir": "blue", "link": "cyan"}


def _record(entry: list[Any]) -> dict[str, object]:
    return {
        "name": printable(entry[_NAME]),
        "kind": entry[_KIND],
        "size": entry[_SIZE],
        "mtime_ns": entry[_MTIME],
        "mode": f"{entry[_MODE]:04o}",
        **({"target": printable(entry[_TARGET])} if entry[_KIND] == "link" else {}),
    }


@click.command()
@click.argument("path", default="", shell_complete=completion_values.tree_paths)
@click.option("-l", "--long", "long", is_flag=True, help="Show kind, size, time and link target")
@json_option()
@click.pass_obj
def ls(store: str | None, path: str, long: bool, as_json: bool) -> None:
    """List a directory of the tree

    PATH may be a question: ctxfs ls 'search/how do we rotate keys'
    """
    with session(store) as opened:
        entry = opened.call("stat", path=path)
        entries = opened.call("list", path=path) if entry[_KIND] == "dir" else [[path, *entry[1:]]]
        if long or as_json:
            entries = [
                entry if entry[_SIZE] is not None else opened.call("stat", path=f"{path}/{entry[_NAME]}")
                for entry in entries
            ]
    if as_json:
        print_json([_record(entry) for entry in entries])
        return
    for entry in entries:
        name = entry[_NAME] + ("/" if entry[_KIND] == "dir" else "")
        if long:
            when = datetime.fromtimestamp(entry[_MTIME] / 1e9).strftime("%Y-%m-%d %H:%M") if entry[_MTIME] else "-"
            arrow = f" -> {entry[_TARGET]}" if entry[_KIND] == "link" else ""
            name = f"{entry[_KIND]:<5}{entry[_SIZE]:>10} {when:>16}  {name}{arrow}"
        print_line(name, fg=_COLOURS.get(entry[_KIND]))


@click.command()
@click.argument("paths", nargs=-1, required=True, shell_complete=completion_values.tree_paths)
@click.option("--join", is_flag=True, help="Print the path of each file above its content")
@click.option("--text", "as_text", is_flag=True, help="Print the text of PDF, office files, mail")
@click.pass_obj
def cat(store: str | None, paths: tuple[str, ...], join: bool, as_text: bool) -> None:
    """Print files of the tree

    Links are followed. The bytes are unchanged; a terminal shows text in any charset. With --text, the passages of
    PDF, office files, books, mail and notebooks are printed as search cites them, with their numbers.
    """
    failed = False
    with session(store) as opened:
        for path in paths:
            try:
                data = _read_through_links(opened, path, as_text=as_text)
                if join:
                    data = b"==> " + encode_name(path) + b" <==\n" + data + (b"" if data.endswith(b"\n") else b"\n")
                write_content(data)
            except BrokenPipeError:
                raise
            except OSError as error:
                failure = OSError(error.errno, error.strerror, path)
                if isinstance(failure, FileNotFoundError):
                    note_nearest(opened, failure)
                print_path_error(failure)
                failed = True
    sys.exit(1 if failed else 0)


def _read_through_links(opened: StoreSession, path: str, *, as_text: bool) -> bytes:
    """Return the content of a file, or its text, through links such as those in the directory of a question."""
    for _ in range(8):
        entry = opened.call("stat", path=path)
        if entry[_KIND] != "link":
            break
        names = path.strip("/").split("/")[:-1]
        for part in entry[_TARGET].split("/"):
            if part == "..":
                names = names[:-1]
            elif part not in ("", "."):
                names.append(part)
        path = "/".join(names)
    data: bytes = _read_extracted(opened, path) if as_text else opened.call("read", path=path)
    return data


def _read_extracted(opened: StoreSession, path: str) -> bytes:
    """Return the extracted text of a file, or a file that is text itself. Raise EINVAL if it has none."""
    from ctxfs.index.extract.extracted_text import number_lines
    from ctxfs.index.extract.extractor import unpack_chunk
    from ctxfs.index.extract.text_formats import is_text_itself

    reply = opened.call("read_extracted", path=path)
    if not reply["format"] or (reply["reason"] and is_text_itself(reply["format"])):
        source: bytes = reply["data"]
        return source
    if reply["reason"]:
        raise invalid(path, f"a {reply['format']} file: {reply['reason']}")
    lines = number_lines([unpack_chunk(*row) for row in reply["passages"]])
    if reply["note"]:
        warn(f"{path}: {reply['note']}")
    return "".join(f"{line.text}\n" for line in lines).encode("utf-8", "replace")


@click.command()
@click.argument("path", shell_complete=completion_values.tree_paths)
@reason_option()
@click.pass_obj
def edit(store: str | None, path: str, reason: str) -> None:
    """Edit a file of the tree in $EDITOR

    The file keeps its charset and line ends. A file that has changed meanwhile is not replaced.
    """
    from ctxfs.index.extract.editable_text import CharsetConflict, parse_editable_text

    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli", reason=reason)
        target = Path.parse(tree_path(opened, path))
        data: bytes = opened.call("read", path=str(target))
        try:
            editable = parse_editable_text(data)
            before = convert_line_ends(editable.text, LF)
            edited = click.edit(before, extension=PurePosixPath(target.name).suffix or ".txt")
            if edited is None or edited == before:
                print_line("nothing was changed")
                return
            new = editable.encode(convert_line_ends(edited, editable.line_end))
        except CharsetConflict as conflict:
            raise CommandError(f"'{path}' cannot be edited: {conflict}", "edit it on a mount") from conflict
        revision = hashlib.sha256(data).hexdigest()
        for warning in opened.call("apply", change=change_to_wire(Put(target, new, expects=revision)))["warnings"]:
            warn(warning)
        print_line(f"{target}: saved")


@click.command()
@click.argument("path", default="", shell_complete=completion_values.tree_paths)
@click.option("-L", "--depth", default=2, show_default=True, type=click.IntRange(1, 50), help="Maximum depth")
@json_option()
@click.pass_obj
def tree(store: str | None, path: str, depth: int, as_json: bool) -> None:
    """Show a directory and all below it"""
    with session(store) as opened:
        if as_json:
            print_json(_nested_records(opened, path, depth))
            return
        print_line(path or ".", fg="blue")
        _draw(opened, path, depth, "")


def _nested_records(opened: StoreSession, path: str, depth: int) -> list[dict[str, object]]:
    out = []
    for entry in opened.call("list", path=path):
        record = _record(entry)
        if entry[_KIND] == "dir" and depth > 1:
            record["entries"] = _nested_records(opened, f"{path}/{entry[_NAME]}", depth - 1)
        out.append(record)
    return out


def _draw(opened: StoreSession, path: str, depth: int, indent: str) -> None:
    entries = opened.call("list", path=path)
    for number, entry in enumerate(entries, 1):
        last = number == len(entries)
        arrow = f" -> {entry[_TARGET]}" if entry[_KIND] == "link" else ""
        click.echo(indent + ("└── " if last else "├── "), nl=False)
        print_line(entry[_NAME] + arrow, fg=_COLOURS.get(entry[_KIND]))
        if entry[_KIND] == "dir" and depth > 1:
            _draw(opened, f"{path}/{entry[_NAME]}", depth - 1, indent + ("    " if last else "│   "))
