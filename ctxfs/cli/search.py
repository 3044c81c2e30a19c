"""The commands search, tokens and fit: questions and token budgets from the shell, for people and for scripts."""

import sys
from typing import Any, BinaryIO

import click

from ctxfs.cli.hit_output import FORMATS
from ctxfs.cli.options import aliased_option, below_option, json_option, limit_option
from ctxfs.cli.output import print_json, print_line, warn, write_bytes
from ctxfs.cli.pager import paged
from ctxfs.cli.search_output import DEFAULT_HITS, MAX_HITS, print_hits, print_notes, report_outcome
from ctxfs.daemon.session import session
from ctxfs.model.errors import EXIT_USAGE, CommandError

_GROUPS = ("kind", "author", "dir")
_tokenizer_option = click.option(
    "--tokenizer",
    default="bound",
    show_default=True,
    help="Tokenizer: bound, a tokenizer.json, or a tiktoken encoding",
)


def read_question(words: tuple[str, ...]) -> str:
    """Return the question in the words of a command line, or of standard input for `-`; raise CommandError if empty."""
    text = " ".join(words)
    if text == "-":
        text = sys.stdin.read()
    if not text.strip():
        raise CommandError("the question is empty", 'ask something: ctxfs search "how do we rotate keys"', EXIT_USAGE)
    return text


@click.command()
@click.argument("words", nargs=-1, required=True)
@below_option()
@limit_option("hits", default=DEFAULT_HITS, maximum=MAX_HITS)
@click.option("--explain", is_flag=True, help="Show each signal and its part of the score")
@click.option("--group-by", type=click.Choice(_GROUPS), help="Group the hits; the group of the best hit comes first")
@aliased_option(
    "--files-with-matches", "files_only", hidden_aliases=["-l"], is_flag=True, help="Print only the paths of the files"
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", help="Form of the output [default: text]")
@click.option("--real-paths", is_flag=True, help="Print host paths of files in sources")
@click.option("--no-pager", is_flag=True, help="Print to the terminal without $PAGER")
@click.option("--weak", is_flag=True, help="Show the nearest hits of an unknown answer")
@json_option("Print text, lines, score and signals as JSON")
@click.pass_obj
def search(
    store: str | None,
    words: tuple[str, ...],
    below: str,
    limit: int,
    explain: bool,
    group_by: str | None,
    files_only: bool,
    form: str,
    real_paths: bool,
    no_pager: bool,
    weak: bool,
    as_json: bool,
) -> None:
    """Search the tree

    Hits come best first, with the lines that match best, and those that may not answer below a line. `-` reads the
    question from standard input.

    Operators: "a phrase", +must, -not, kind:code, path:docs, author:ada, since:7d, mode:words|meaning. Put `--`
    before a question that begins with a dash. Exit code 3 when the searched files do not answer, 7 when nothing was
    found yet: the index is behind.
    """
    question = read_question(words)
    with session(store) as opened:
        answer = opened.call("search", question=question, below=below, limit=limit)
        sources = opened.call("status")["sources"] if real_paths else []
    form = "json" if as_json or form == "json" else "path" if files_only else form
    print_notes(answer)
    with paged(form == "text" and not no_pager and bool(answer["hits"])):
        print_hits(answer, sources, form=form, group_by=group_by, explain=explain, weak=weak)
    sys.exit(report_outcome(answer, form))


@click.command()
@click.argument("files", nargs=-1, type=click.File("rb"))
@_tokenizer_option
@json_option()
def tokens(files: tuple[BinaryIO, ...], tokenizer: str, as_json: bool) -> None:
    """Count tokens

    Of FILES, or of standard input; the sum, too, if there are several.
    """
    from ctxfs.context.build.tokens import open_tokenizer

    counter = open_tokenizer(tokenizer)
    counts = {getattr(file, "name", "-"): counter.count(_text_of(file.read())) for file in files or (sys.stdin.buffer,)}
    if as_json:
        print_json({"tokenizer": tokenizer, "files": counts, "total": sum(counts.values())})
        return
    for name, count in counts.items():
        print_line(f"{count}\t{name}" if files else str(count))
    if len(counts) > 1:
        print_line(f"{sum(counts.values())}\ttotal")


def _text_of(data: bytes) -> str:
    from ctxfs.index.extract.text_decoding import read_text

    text = read_text(data)
    return data.decode("utf-8", "replace") if text is None else text


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--budget", required=True, type=click.IntRange(1, 10_000_000), help="Token budget")
@click.option("--query", default="", help="Question that the text is for [default: keep the beginning]")
@click.option("--words", is_flag=True, help="Rank by words only, without the embedding model")
@_tokenizer_option
def fit(file: BinaryIO, budget: int, query: str, words: bool, tokenizer: str) -> None:
    """Cut a text to a token budget

    The passages that fit --query best stay, in the order of the text. Needs no store.

    \b
    git diff | ctxfs fit --budget 2000 --query "$(cat task.md)" | some-llm
    """
    from ctxfs.context.build.fit import fit as cut
    from ctxfs.context.build.tokens import open_tokenizer
    from ctxfs.index.engines.fulltext import analyse

    embed = None if words or not query else _open_default_embedder()
    text = cut(file.read(), query, budget, open_tokenizer(tokenizer).count, analyse, embed)
    write_bytes(text.encode("utf-8", "replace"))


def _open_default_embedder() -> Any:
    """Return the embedding function of the model on this machine; print a warning and return None if there is none."""
    from ctxfs.index.engines.embedders.sentence_model import SentenceModel
    from ctxfs.index.engines.model_files import default_model_folder

    try:
        return SentenceModel(default_model_folder(), 2).embed
    except CommandError as error:
        warn(f"{error.message}: words only. {error.remedy}")
        return None
