"""The commands promote and correct: notes that become memories, and lines as they should read."""

import os
import re

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import json_option, reason_option
from ctxfs.cli.output import print_json, print_line, warn
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import session

_LINE = re.compile(r"(.+):(\d{1,9})")


@click.command()
@click.argument("path", shell_complete=completion_values.tree_paths)
@click.argument("to", shell_complete=completion_values.tree_paths)
@reason_option()
@json_option()
@click.pass_obj
def promote(store: str | None, path: str, to: str, reason: str, as_json: bool) -> None:
    """Move a note to memory

    TO is a folder such as memory/alice/fact. The file keeps its attributes. A file that is untrusted, that nothing
    supports, that is in memory already or that contradicts a memory is not moved: it waits for ctxfs review.
    """
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli", reason=reason)
        result = opened.call("promote", path=tree_path(opened, path), to=tree_path(opened, to))
    if as_json:
        print_json(result)
    elif result["review"]:
        for text in result["reasons"]:
            warn(text)
        print_line(f"not moved: review {result['review']} waits for a decision (ctxfs review)")
    else:
        print_line(result["path"])


@click.command()
@click.argument("path", metavar="PATH[:LINE]", shell_complete=completion_values.tree_paths)
@click.argument("text")
@click.option("--because", required=True, metavar="TEXT", help="Reason of the correction")
@click.option("--was", default="", metavar="TEXT", help="Line as you have read it")
@json_option()
@click.pass_obj
def correct(store: str | None, path: str, text: str, because: str, was: str, as_json: bool) -> None:
    """Correct a line of memory or of a source

    A memory is superseded by a file with the corrected line, which cites the old one; the old file stays readable. Of a
    source the correction is a fact of its own, which cites the line. LINE may be left out if the file has one statement.

    \b
    ctxfs correct memory/alice/fact/keys.md:3 'Keys last 30 days.' \\
        --because 'the policy of May'
    """
    match = _LINE.fullmatch(path)
    name, line = (match[1], int(match[2])) if match else (path, 0)
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli", reason=because)
        arguments = {"path": tree_path(opened, name), "line": line, "text": text, "because": because, "was": was}
        result = opened.call("correct", **arguments)
    if as_json:
        print_json(result)
        return
    for remark in result["remarks"]:
        warn(remark)
    print_line(f"{result['path']}  corrects {result['corrects']}: {result['was']}")
