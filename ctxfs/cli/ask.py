"""search, context, tokens: questions from the shell, for people and for scripts."""

import sys
from typing import Any, BinaryIO

import click

from ctxfs.cli.output import say, say_json, warn, write_bytes
from ctxfs.daemon.session import session
from ctxfs.model.errors import EXIT_NOTHING_FOUND, EXIT_USAGE, CommandError

_GROUPS = ("kind", "author", "dir")


def _question(words: tuple[str, ...]) -> str:
    text = " ".join(words)
    if text == "-":
        text = sys.stdin.read()
    if not text.strip():
        raise CommandError("the question is empty", 'ask something: ctxfs search "how do we rotate keys"', EXIT_USAGE)
    return text


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--below", default="", metavar="PATH", help="Only below this directory of the tree.")
@click.option("-n", "--limit", default=10, show_default=True, type=click.IntRange(1, 200), help="How many hits.")
@click.option("--explain", is_flag=True, help="Show what each signal measured and added to the score.")
@click.option(
    "--group-by", type=click.Choice(_GROUPS), help="Put hits together; groups in the order of their best hit."
)
@click.option("--json", "as_json", is_flag=True, help="Hits with text, lines, score and signals.")
@click.pass_obj
def search(
    store: str | None,
    words: tuple[str, ...],
    below: str,
    limit: int,
    explain: bool,
    group_by: str | None,
    as_json: bool,
) -> None:
    """Ask the tree; hits come best first. `-` reads the question from standard input.

    Operators: "a phrase", +must, -not, kind:code, path:docs, author:ada, since:7d, mode:words|meaning. Put `--` before a
    question that begins with a dash. Exit code 3 when nothing was found.
    """
    with session(store) as opened:
        answer = opened.call("search", question=_question(words), below=below, limit=limit)
    for note in (*answer["notes"], *answer["remarks"]):
        warn(note)
    groups = _grouped(answer["hits"], group_by)
    if as_json:
        say_json({**answer, "groups": groups} if group_by else answer)
    else:
        for name, ranks in groups.items():
            if group_by:
                say(f"{name or '(none)'}  {len(ranks)}", bold=True)
            for rank in ranks:
                _show_hit(rank, answer["hits"][rank - 1], explain)
    if not answer["hits"]:
        if not as_json:
            warn("nothing found")
        sys.exit(EXIT_NOTHING_FOUND)


def _grouped(hits: list[dict[str, Any]], by: str | None) -> dict[str, list[int]]:
    """Group → ranks of its hits, in order; all in one group when nothing was asked."""
    groups: dict[str, list[int]] = {}
    for rank, hit in enumerate(hits, 1):
        name = "" if by is None else hit["path"].rpartition("/")[0] if by == "dir" else hit[by]
        groups.setdefault(name, []).append(rank)
    return groups


def _show_hit(rank: int, hit: dict[str, Any], explain: bool) -> None:
    said = f"  {hit['heading']}" if hit["heading"] else ""
    said += f"  {hit['date']}" if hit["date"] else ""
    click.echo(f"{rank:2} ", nl=False)
    say(f"{hit['path']}:{hit['first']}-{hit['last']}", fg="cyan", nl=False)
    say(f"  {hit['score']:.2f}{said}")
    say(f"     {hit['snippet']}", dim=True)
    if explain:
        for name, share in sorted(hit["shares"].items(), key=lambda item: -abs(item[1])):
            measured = hit["signals"].get(name)
            say(f"     {share:+7.2f}  {name} {'not found' if measured is None else f'{measured:.3g}'}")


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--budget", type=click.IntRange(1, 10_000_000), help="Tokens, a ceiling; ctxfs.toml has the default.")
@click.option("--tokenizer", default="bound", show_default=True, help='"bound", or the path of a tokenizer.json.')
@click.option("--path", "paths", multiple=True, metavar="DIR", help="Only below this directory. Repeatable.")
@click.option("--kind", "kinds", multiple=True, help="Only this kind (markdown, code, fact …). Repeatable.")
@click.option("--pin", "pins", multiple=True, metavar="PATH[:A-B]", help="Always in, first. Repeatable.")
@click.option("--manifest", is_flag=True, help="Print manifest.json instead of the context.")
@click.option("--json", "as_json", is_flag=True, help="Text, tokens and manifest as one JSON object.")
@click.pass_obj
def context(
    store: str | None,
    words: tuple[str, ...],
    budget: int | None,
    tokenizer: str,
    paths: tuple[str, ...],
    kinds: tuple[str, ...],
    pins: tuple[str, ...],
    manifest: bool,
    as_json: bool,
) -> None:
    """Print a context for a question, packed to a budget. `-` reads the question from standard input.

    \b
    { cat task.md; ctxfs context "$(cat task.md)" --budget 4000; } | some-llm
    """
    request: dict[str, object] = {
        "query": _question(words),
        "tokenizer": tokenizer,
        "paths": list(paths),
        "kinds": list(kinds),
        "pins": list(pins),
    }
    if budget is not None:
        request["budget"] = budget
    with session(store) as opened:
        built = opened.call("context", request=request)
    for note in built["notes"]:
        warn(note)
    if as_json:
        import json

        say_json({**built, "manifest": json.loads(built["manifest"])})
    else:
        write_bytes(built["manifest"] if manifest else built["text"].encode("utf-8", "replace"))
    if not built["found"] and not pins:
        sys.exit(EXIT_NOTHING_FOUND)


@click.command()
@click.argument("files", nargs=-1, type=click.File("rb"))
@click.option("--tokenizer", default="bound", show_default=True, help='"bound", or the path of a tokenizer.json.')
def tokens(files: tuple[BinaryIO, ...], tokenizer: str) -> None:
    """Count the tokens of FILES, or of standard input."""
    from ctxfs.context.tokens import open_tokenizer

    counter = open_tokenizer(tokenizer)
    for file in files or (sys.stdin.buffer,):
        text = file.read().decode("utf-8", "replace")
        name = getattr(file, "name", "-")
        say(f"{counter.count(text)}\t{name}" if files else str(counter.count(text)))
