"""The command context: build, verify, compare and deliver contexts, and evaluate responses against them."""

import json
import os
import sys
from pathlib import Path as HostPath
from typing import Any, BinaryIO

import click

from ctxfs.cli import completion_values
from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import aliased_option, json_option
from ctxfs.cli.output import count_noun, print_json, print_line, warn, write_bytes
from ctxfs.cli.search import read_question
from ctxfs.daemon.session import StoreSession, session
from ctxfs.model.errors import EXIT_FAILURE, EXIT_NOTHING_FOUND, EXIT_UNHEALTHY, EXIT_USAGE, CommandError

_json_option = json_option()
_manifest_argument = click.argument("manifest", shell_complete=completion_values.tasks)
_task_argument = click.argument("task", shell_complete=completion_values.tasks)
_FORMATS = {"md": "markdown", "markdown": "markdown", "xml": "xml", "json": "json", "messages": "messages"}
_BAR_COLUMNS = 32
_COLOURS = {"supported": "green", "contradicted": "red", "unsupported": "yellow"}


class _GroupWithDefault(CommandGroup):
    """A group for which `ctxfs context QUESTION` is `ctxfs context build QUESTION`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["build", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_GroupWithDefault)
def context() -> None:
    """Manage contexts

    `ctxfs context QUESTION` builds one: build is the default. A MANIFEST is a file, a path of the tree, or the name
    of a task of context/.
    """


@context.command()
@click.argument("words", nargs=-1)
@click.option(
    "--request", "request_file", type=click.File("rb"), help="Request file, a request.toml; options override it"
)
@click.option("--budget", type=click.IntRange(1, 10_000_000), help="Token budget [default: from ctxfs.toml]")
@click.option("--tokenizer", help="Tokenizer: bound, a tokenizer.json, or a tiktoken encoding [default: bound]")
@click.option("--also", multiple=True, metavar="QUESTION", help="Add a question; repeatable")
@aliased_option(
    "--below",
    "paths",
    hidden_aliases=["--path"],
    multiple=True,
    metavar="PATH",
    shell_complete=completion_values.tree_paths,
    help="Limit to a directory of the tree; repeatable",
)
@click.option("--kind", "kinds", multiple=True, help="Limit to a kind (markdown, code, fact …); repeatable")
@click.option(
    "--pin",
    "pins",
    multiple=True,
    metavar="PATH[:A-B]",
    shell_complete=completion_values.tree_paths,
    help="Include a file or its lines first; repeatable",
)
@click.option("--quota", multiple=True, metavar="KIND=N", help="Use at most N tokens (or N%) for a kind; repeatable")
@click.option("--reserve", multiple=True, metavar="KIND=N", help="Reserve N tokens (or N%) for a kind; repeatable")
@click.option("--recent", type=click.IntRange(0, 200), metavar="N", help="Add the N newest files")
@click.option("--fresh", metavar="AGE", help="Exclude older content: 7d, 2026-11-01")
@click.option(
    "--as-of",
    metavar="WHEN",
    shell_complete=completion_values.revisions,
    help="Use memory and pads of a revision, snapshot or time",
)
@click.option("--min-score", type=click.FloatRange(0, 1), metavar="P", help="Exclude hits with a smaller probability")
@click.option("--fill", is_flag=True, help="Fill the budget, also with weak hits")
@click.option("--format", "form", type=click.Choice(list(_FORMATS)), help="Output format [default: markdown]")
@click.option("--order", type=click.Choice(["rank", "edges", "time"]), help="Order of the sources [default: rank]")
@click.option("--compress", is_flag=True, help="Keep only the relevant sentences of long texts")
@click.option("--summarise", is_flag=True, help="Summarise excluded pieces by the command in ctxfs.toml")
@click.option(
    "--untrusted",
    type=click.Choice(["mark", "drop", "keep"]),
    help="Treatment of untrusted content [default: mark]",
)
@click.option("--secrets", is_flag=True, help="Include keys, tokens and passwords")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=HostPath), help="Output file [default: standard output]"
)
@click.option(
    "--save-manifest", type=click.Path(dir_okay=False, path_type=HostPath), help="Output file for manifest.json"
)
@click.option("--manifest", is_flag=True, help="Print manifest.json instead of the context")
@json_option("Print text, tokens and manifest as JSON")
@click.pass_obj
def build(store: str | None, /, words: tuple[str, ...], request_file: BinaryIO | None, **options: Any) -> None:
    """Build a context for a question

    The context fits the token budget. `-` reads the question from standard input. Exit code 3 when the searched files
    do not answer and nothing is pinned, 1 when the budget is too small for any passage.

    \b
    { cat task.md; ctxfs context "$(cat task.md)" --budget 4000; } | some-llm
    """
    request = _build_request(words, request_file, options)
    with session(store) as opened:
        built = opened.call("context", request=request)
    for note in built["notes"]:
        warn(note)
    if options["save_manifest"]:
        _replace_file(options["save_manifest"], built["manifest"])
    data = built["text"].encode("utf-8", "replace")
    if options["as_json"]:
        data = (
            json.dumps({**built, "manifest": json.loads(built["manifest"])}, indent=2, ensure_ascii=False) + "\n"
        ).encode()
    elif options["manifest"]:
        data = built["manifest"]
    if options["output"]:
        _replace_file(options["output"], data)
    else:
        write_bytes(data)
    is_unknown = built["answer"]["verdict"] == "unknown" and not options["fill"] and not request.get("recent")
    if (is_unknown or not built["found"]) and not request.get("pins"):
        if not built["notes"]:
            warn("nothing found")
        sys.exit(EXIT_NOTHING_FOUND)
    if built["found"] and not built["pieces"]:
        sys.exit(EXIT_FAILURE)


def _build_request(words: tuple[str, ...], file: BinaryIO | None, options: dict[str, Any]) -> dict[str, Any]:
    import tomllib

    from ctxfs.model.toml import parse_toml

    try:
        request = parse_toml(file.read().decode("utf-8")) if file is not None else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"the request is not valid TOML: {error}", "mend that line", EXIT_USAGE) from error
    if words:
        request["query"] = [read_question(words), *options["also"]]
    elif "query" not in request and not options["pins"]:
        raise CommandError("the question is empty", 'ask something: ctxfs context "how do we rotate keys"', EXIT_USAGE)
    for key in ("budget", "tokenizer", "recent", "fresh", "as_of", "min_score", "order", "untrusted"):
        if options[key] is not None:
            request[key] = options[key]
    for key in ("paths", "kinds", "pins"):
        if options[key]:
            request[key] = list(options[key])
    for key in ("quota", "reserve"):
        if options[key]:
            request[key] = dict(_parse_share(text) for text in options[key])
    if options["form"]:
        request["format"] = _FORMATS[options["form"]]
    return request | {key: True for key in ("compress", "summarise", "secrets", "fill") if options[key]}


def _parse_share(text: str) -> tuple[str, object]:
    kind, sign, value = text.partition("=")
    if not sign:
        raise CommandError(f"'{text}' has no '='", "write KIND=TOKENS or KIND=30%", EXIT_USAGE)
    return kind, int(value) if value.isdigit() else value


def _replace_file(file: HostPath, data: bytes) -> None:
    """Replace a file atomically, so that concurrent readers see the old or the new content."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_bytes(data)
    os.replace(beside, file)


def _read_manifest(opened: StoreSession, name: str) -> bytes:
    """Return a manifest by its file, its path in the tree, or the name of its task."""
    if HostPath(name).is_file():
        return HostPath(name).read_bytes()
    path = name.strip("/") if "/" in name.strip("/") else f"context/{name}/manifest.json"
    try:
        data: bytes = opened.call("read", path=path)
    except OSError as error:
        raise CommandError(
            f"'{name}' is neither a file nor a task: {error.strerror}",
            "give a manifest.json, or a name from: ctxfs ls context",
        ) from error
    return data


@context.command()
@_manifest_argument
@_json_option
@click.pass_obj
def verify(store: str | None, manifest: str, as_json: bool) -> None:
    """Rebuild a context and compare the bytes

    The context of MANIFEST is built from its sources as they were. Exit code 6 if it cannot be built again or differs.
    """
    with session(store) as opened:
        outcome = opened.call("verify_context", manifest=_read_manifest(opened, manifest))
    if as_json:
        print_json(outcome)
    elif outcome["same"]:
        print_line("the same, byte for byte", fg="green")
        for path in outcome["changed"]:
            print_line(f"  changed since: {path}")
        print_line("a new build gives " + ("the same" if outcome["now"] else outcome["fault"] or "another one"))
    else:
        print_line("it cannot be made again" if outcome["missing"] else "another text", fg="red")
        for passage in outcome["missing"]:
            print_line(f"  not to be had any more: {passage}")
    if not outcome["same"]:
        sys.exit(EXIT_UNHEALTHY)


@context.command()
@click.argument("old", shell_complete=completion_values.tasks)
@click.argument("new", shell_complete=completion_values.tasks)
@_json_option
@click.pass_obj
def diff(store: str | None, old: str, new: str, as_json: bool) -> None:
    """Compare two contexts

    Lists the lines that the context of NEW has and that of OLD has not, and the reverse. Exit code 1 if they differ.
    """
    from ctxfs.context.build.comparison import compare
    from ctxfs.context.build.manifest import parse_manifest

    with session(store) as opened:
        difference = compare(*(parse_manifest(_read_manifest(opened, name)).body for name in (old, new)))
    if as_json:
        print_json(
            {
                "added": difference.added,
                "dropped": difference.dropped,
                "changed": difference.changed,
                "kept": difference.kept,
                "request": difference.request,
            }
        )
    else:
        for name, (before, after) in difference.request.items():
            print_line(f"~ request {name}: {before!r} → {after!r}", fg="yellow")
        for sign, passages, colour in (
            ("-", difference.dropped, "red"),
            ("~", difference.changed, "yellow"),
            ("+", difference.added, "green"),
        ):
            for passage in passages:
                print_line(f"{sign} {passage}", fg=colour)
        print_line(f"{difference.kept} the same")
    if difference.added or difference.dropped or difference.changed:
        sys.exit(1)


@context.command()
@_manifest_argument
@click.argument("path", shell_complete=completion_values.tree_paths)
@click.option("--budgets", is_flag=True, help="Add the budget at which a passage comes in")
@_json_option
@click.pass_obj
def why(store: str | None, manifest: str, path: str, budgets: bool, as_json: bool) -> None:
    """Explain why a path is in a context, or not

    With --budgets, larger budgets are tried, up to 32 times that of the context. Exit code 3 if PATH was no candidate of
    the context of MANIFEST.
    """
    from ctxfs.context.build.manifest import parse_manifest
    from ctxfs.context.build.rebuild import explain_path

    with session(store) as opened:
        parsed = parse_manifest(_read_manifest(opened, manifest))
        entries = explain_path(parsed, path)
        steps = opened.call("context_budgets", request=parsed.request.record()) if budgets and entries else []
    needed = {tuple(item.values()): step["budget"] for step in reversed(steps) for item in step["items"]}
    for entry in entries if budgets else ():
        entry["comes_in_at"] = needed.get((entry["path"], entry["first"], entry["last"]))
    if as_json:
        print_json(entries)
    for entry in () if as_json else entries:
        passage = f"{entry['path']}:{entry['first']}-{entry['last']}"
        if entry["in"]:
            print_line(f"+ {passage}  {entry['why']}, score {entry['score']:.2f}, {entry['tokens']} tokens", fg="green")
            for name, share in sorted(entry["shares"].items(), key=lambda item: -abs(item[1])):
                print_line(f"    {share:+7.2f}  {name} {entry['signals'].get(name, 'not found')}")
        else:
            other = f" (of {entry['for']})" if entry.get("for") else ""
            at = f", comes in at {entry['comes_in_at']} tokens" if entry.get("comes_in_at") else ""
            print_line(f"- {passage}  {entry['reason']}{other}, score {entry['score']:.2f}{at}", fg="red")
    if not entries:
        if not as_json:
            warn("it was no candidate: search did not find it for this question")
        sys.exit(EXIT_NOTHING_FOUND)


@context.command()
@_manifest_argument
@_json_option
@click.pass_obj
def show(store: str | None, manifest: str, as_json: bool) -> None:
    """Show the budget of a context by source"""
    with session(store) as opened:
        body = json.loads(_read_manifest(opened, manifest))
    sources: dict[str, dict[str, int]] = {}
    for item in body["items"]:
        source = sources.setdefault(item["path"] or "(summary)", {"tokens": 0, "pieces": 0})
        source["tokens"] += item["tokens"]
        source["pieces"] += 1
    total, budget = body["context"]["tokens"], body["context"]["budget"]
    reasons: dict[str, int] = {}
    for out in body["excluded"]:
        reasons[out["reason"]] = reasons.get(out["reason"], 0) + 1
    if as_json:
        print_json({"context": body["context"], "sources": sources, "excluded": reasons})
        return
    print_line(
        f"{total} of {budget} tokens ({total / budget:.0%}), {count_noun(len(body['items']), 'piece')} of "
        f"{count_noun(len(sources), 'source')}",
        bold=True,
    )
    framing = max(0, total - sum(source["tokens"] for source in sources.values()))
    rows = [
        *sorted(sources.items(), key=lambda item: -item[1]["tokens"]),
        ("(headers, citations)", {"tokens": framing, "pieces": 0}),
    ]
    for path, source in rows:
        filled = round(_BAR_COLUMNS * source["tokens"] / budget)
        print_line(f"{'█' * filled}{'·' * (_BAR_COLUMNS - filled)} ", fg="cyan", nl=False)
        print_line(f"{source['tokens']:>7}  {path}" + (f" ({source['pieces']})" if source["pieces"] else ""))
    if reasons:
        print_line("left out: " + ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())))


def _read_delivery(store: str | None, task: str, name: str) -> bytes:
    with session(store) as opened:
        data: bytes = opened.call("read", path=f"context/{task}/{name}")
    return data


@context.command(name="next")
@_task_argument
@click.option("--cursor", type=click.IntRange(0), help="Print the piece at this position again; it is no delivery")
@click.pass_obj
def next_piece(store: str | None, task: str, cursor: int | None) -> None:
    """Print the next piece of a task's stream

    Exit code 3 at its end.
    """
    data = _read_delivery(store, task, "stream" if cursor is None else f"stream@{cursor}")
    write_bytes(data)
    if not data:
        sys.exit(EXIT_NOTHING_FOUND)


@context.command()
@_task_argument
@click.pass_obj
def refresh(store: str | None, task: str) -> None:
    """Print the changes of a task's context

    The output has the additions, replacements and removals since the last delivery of TASK's context to a window.
    """
    write_bytes(_read_delivery(store, task, "delta.md"))


@context.command()
@click.argument("answer", metavar="TASK|RESPONSE", shell_complete=completion_values.tasks)
@click.option(
    "--manifest",
    metavar="MANIFEST",
    shell_complete=completion_values.tasks,
    help="Manifest of the context that the file RESPONSE answers",
)
@click.option("--min", "least", type=click.FloatRange(0, 1), help="Minimum groundedness; exit code 6 if it is lower")
@_json_option
@click.pass_obj
def evaluate(store: str | None, answer: str, manifest: str | None, least: float | None, as_json: bool) -> None:
    """Check a response against its sources

    Each claim of the response is held against the sources. TASK: its response.md is evaluated, facts are stored if
    the request sets that, and doubtful claims go to human/review/. With --manifest: a file (`-`: standard input) is
    only evaluated.
    """
    with session(store) as opened:
        if manifest is not None:
            response = sys.stdin.buffer.read() if answer == "-" else _read_response(answer)
            actions: dict[str, Any] = {}
            record = opened.call("evaluate_response", manifest=_read_manifest(opened, manifest), response=response)
        else:
            actions = opened.call("curate", task=answer.strip("/").removeprefix("context/"))
            record = actions.pop("evaluation")
    body = json.loads(record)
    if as_json:
        print_json({**body, **actions})
    else:
        _show_evaluation(body, actions)
    grounded = body["groundedness"]
    if least is not None and (grounded is None or grounded < least):
        warn(f"groundedness {'unknown' if grounded is None else f'{grounded:.2f}'} is below {least}")
        sys.exit(EXIT_UNHEALTHY)


def _read_response(name: str) -> bytes:
    try:
        return HostPath(name).read_bytes()
    except OSError as error:
        raise CommandError(
            f"cannot read the response '{name}': {error.strerror}", "give a file, or - for standard input"
        ) from error


def _show_evaluation(body: dict[str, Any], actions: dict[str, Any]) -> None:
    for claim in body["claims"]:
        if claim["verdict"] == "unchecked":
            continue
        print_line(f"{claim['verdict']:<13}", fg=_COLOURS[claim["verdict"]], nl=False)
        print_line(f"{claim['support']:.2f}  {claim['claim']}")
        if claim.get("source"):
            print_line(f"                   {claim['source']['at']}", dim=True)
        for conflict in claim["conflicts"]:
            print_line(
                f"                   {conflict['kind']}: '{conflict['claim']}', but '{conflict['source']}' at {conflict['at']}",
                fg="red",
            )
        for citation in claim["citations"]:
            if not citation["resolves"]:
                print_line(f"                   {citation['cite']} names nothing in the context", fg="red")
    for path in body["stale"]:
        print_line(f"changed since: {path}", fg="yellow")
    for note in body["notes"]:
        print_line(note, dim=True)
    for path in actions.get("kept", ()):
        print_line(f"kept: {path}", fg="green")
    if actions.get("reviews"):
        print_line(f"{len(actions['reviews'])} for review: ctxfs review")
    grounded = body["groundedness"]
    counts = ", ".join(f"{count} {name}" for name, count in body["counts"].items())
    print_line(f"groundedness {'unknown' if grounded is None else f'{grounded:.2f}'}: {counts}", bold=True)


@context.command()
def schema() -> None:
    """Print the JSON Schema of manifests"""
    from ctxfs.context.build.manifest import schema as text

    write_bytes(text())
