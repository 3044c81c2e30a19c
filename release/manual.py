"""Write the manual pages from the help of the commands: ctxfs(1), and a page for each command.

`python release/manual.py FOLDER`
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ctxfs import __version__
from ctxfs.cli.command_table import GROUPS
from ctxfs.cli.main import cli


def escape(text: str) -> str:
    """Return a text for troff: backslashes and hyphens as they are, no line that begins as a request does."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def paragraphs(help_text: str) -> Iterator[str]:
    """Return the lines of a help text in troff; paragraphs that begin with `\\b` keep their lines."""
    for block in help_text.strip().split("\n\n"):
        lines = [line.strip() for line in block.split("\n")]
        if lines[0] == "\b":
            yield from (".PP", ".nf", *map(escape, lines[1:]), ".fi")
        else:
            yield from (".PP", *map(escape, lines))


def sections(command: click.Command, context: click.Context) -> Iterator[str]:
    """Return the synopsis, description and options of a command, and of its subcommands, in troff."""
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (".SH SYNOPSIS", f".B {escape(context.command_path)}", escape(usage))
    yield from (".SH DESCRIPTION", *paragraphs(command.help or ""))
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    if records:
        yield ".SH OPTIONS"
    for names, summary in records:
        yield from (".TP", f".B {escape(names)}", escape(summary) or "\\&")
    if command.epilog:
        yield from (".SH NOTES", *paragraphs(command.epilog))
    if isinstance(command, click.Group) and context.parent is not None:
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                inner = click.Context(child, info_name=name, parent=context)
                yield from (line.replace(".SH ", f".SS {escape(name)}: ") for line in sections(child, inner))


def page(name: str, command: click.Command, context: click.Context) -> str:
    """Return the manual page of a command."""
    summary = (command.help or "").strip().split("\n")[0]
    lines = [
        f'.TH {escape(name).upper()} 1 "" "ctxfs {__version__}"',
        ".SH NAME",
        f"{escape(name)} \\- {escape(summary)}",
    ]
    lines += sections(command, context)
    if context.parent is None:
        lines.append(".SH COMMANDS")
        for title, entries in GROUPS.items():
            lines.append(f".SS {escape(title)}")
            for entry_name, entry in entries.items():
                lines += [".TP", f".BR {escape(name)}\\-{escape(entry_name)} (1)", escape(entry.summary)]
    else:
        lines += [".SH SEE ALSO", ".BR ctxfs (1)"]
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    """Write the pages into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    root = click.Context(cli, info_name="ctxfs")
    (folder / "ctxfs.1").write_text(page("ctxfs", cli, root), encoding="utf-8")
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        if command is not None:
            context = click.Context(command, info_name=name, parent=root)
            (folder / f"ctxfs-{name}.1").write_text(page(f"ctxfs-{name}", command, context), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
