"""The help of `ctxfs` itself, laid out as click does it on 80 columns or more, without the import of click."""

from __future__ import annotations

from ctxfs.cli.command_table import GROUPS

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MIN_COLUMNS = 80  # click wraps lines on fewer columns
DESCRIPTION = """Manage a file system of context

Memory, tools and knowledge are one tree of files."""
STORE_HELP = "Store folder [default: $CTXFS_STORE or as below]"
VERSION_HELP = "Print the version"
EPILOG = """\b
ctxfs help COMMAND [SUBCOMMAND] describes one command.
Exit codes: 0 done · 1 failed · 2 wrong usage · 3 nothing found · 4 no store
            5 in use · 6 unhealthy or below a limit · 7 not known yet
The store is --store, $CTXFS_STORE, a .ctxfs folder here or above that you
have confirmed (ctxfs trust), or ~/.local/share/ctxfs/store."""
_USAGE = "Usage: ctxfs [OPTIONS] COMMAND [ARGS]..."
_OPTIONS = {
    "--store DIR": STORE_HELP,
    "-V, --version": VERSION_HELP,
    "-h, --help": "Show this message and exit.",
}


def help_page() -> str:
    """Return the help of `ctxfs`, with a line end."""
    name_width = max(len(name) for entries in GROUPS.values() for name in entries)
    sections = [
        _USAGE,
        _indent(DESCRIPTION),
        "\n".join(("Options:", *_rows(_OPTIONS))),
        *(
            "\n".join((f"{title}:", *_rows({name.ljust(name_width): entry.summary for name, entry in entries.items()})))
            for title, entries in GROUPS.items()
        ),
        _indent(EPILOG.removeprefix("\b\n")),
    ]
    return "\n\n".join(sections) + "\n"


def _rows(definitions: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, definitions))
    return (f"  {term.ljust(width)}  {text}" for term, text in definitions.items())


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.split("\n"))
