"""The command grep: exact search through the index."""

import sys

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import aliased_option, json_option, limit_option
from ctxfs.cli.output import print_json, warn
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import session
from ctxfs.model.errors import EXIT_NOT_KNOWN, EXIT_NOTHING_FOUND
from ctxfs.model.path import one_line


@click.command()
@click.argument("pattern")
@click.argument("path", default="", shell_complete=completion_values.tree_paths)
@click.option("-F", "--fixed-strings", "fixed", is_flag=True, help="Match PATTERN as a text, not as an expression")
@click.option("-i", "--ignore-case", is_flag=True, help="Match capital and small letters alike")
@click.option("-w", "--word-regexp", "word", is_flag=True, help="Match whole words only")
@aliased_option(
    "--files-with-matches",
    "files_only",
    hidden_aliases=["-l"],
    is_flag=True,
    help="Print only the paths of files that match",
)
@click.option("-c", "--count", is_flag=True, help="Print the number of lines of each file")
@limit_option("lines or files", default=10_000, maximum=1_000_000, hidden_aliases=["-m", "--max-lines"])
@click.option("--hidden", is_flag=True, help="Include hidden files and folders")
@json_option("Print path, line and text of each match as JSON")
@click.pass_obj
def grep(
    store: str | None,
    pattern: str,
    path: str,
    fixed: bool,
    ignore_case: bool,
    word: bool,
    files_only: bool,
    count: bool,
    limit: int,
    hidden: bool,
    as_json: bool,
) -> None:
    """Print lines that match a regular expression

    PATTERN is matched with each line of the indexed files below PATH.

    Like `rg` on the same folders: ignored, binary and hidden files are left out. Only files that can have a match by
    the index are read. Exit code 3 when nothing matches, 7 when nothing matches in the readable files and others
    could not be read.
    """
    with session(store) as opened:
        result = opened.call(
            "grep",
            pattern=pattern,
            below=tree_path(opened, path),
            fixed=fixed,
            ignore_case=ignore_case,
            word=word,
            hidden=hidden,
            only="count" if count else "first" if files_only else "lines",
            limit=limit,
        )
    for fault in result["faults"]:
        warn(fault)
    lines = result["lines"]
    if as_json:
        print_json([{"path": match_path, "line": number, "text": text} for match_path, number, text in lines])
    elif files_only or count:
        for match_path, number, _ in lines:
            click.echo(f"{one_line(match_path)}:{number}" if count else one_line(match_path))
    else:
        for match_path, number, text in lines:
            click.secho(one_line(match_path), fg="magenta", nl=False)
            click.echo(f":{number}:{one_line(text)}")
    if result["more"]:
        warn(f"there is more than the first {limit}: -n shows more")
    if not lines:
        sys.exit(EXIT_NOT_KNOWN if result["faults"] else EXIT_NOTHING_FOUND)
