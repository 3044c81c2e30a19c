"""The command context: build, verify, compare and deliver contexts, and evaluate responses against them."""

import json
import os
import sys
from pathlib import Path as HostPath
from typing import Any, BinaryIO

import click

from ctxfs.cli.output import say, say_json, warn, write_bytes
from ctxfs.cli.search import read_question
from ctxfs.daemon.session import StoreSession, session
from ctxfs.model.errors import EXIT_NOTHING_FOUND, EXIT_UNHEALTHY, EXIT_USAGE, CommandError

_json = click.option("--json", "as_json", is_flag=True, help="JSON for scripts.")
_FORMATS = {"md": "markdown", "markdown": "markdown", "xml": "xml", "json": "json", "messages": "messages"}
_BAR = 32
_COLOURS = {"supported": "green", "contradicted": "red", "unsupported": "yellow"}


class _WithDefault(click.Group):
    """A group for which `ctxfs context QUESTION` is `ctxfs context build QUESTION`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["build", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_WithDefault)
def context() -> None:
    """Manage contexts

    `ctxfs context QUESTION` builds one: build is the default. A MANIFEST is a file, a path of the tree, or the name of a task
    of context/.
    """


@context.command()
@click.argument("words", nargs=-1)
@click.option("--request", "request_file", type=click.File("rb"), help="A request.toml; options override it.")
@click.option("--budget", type=click.IntRange(1, 10_000_000), help="Tokens, a ceiling; ctxfs.toml has the default.")
@click.option("--tokenizer", help='"bound" (default), the path of a tokenizer.json, or an encoding of tiktoken.')
@click.option("--also", multiple=True, metavar="QUESTION", help="Another question. Repeatable.")
@click.option("--path", "paths", multiple=True, metavar="DIR", help="Only below this directory. Repeatable.")
@click.option("--kind", "kinds", multiple=True, help="Only this kind (markdown, code, fact …). Repeatable.")
@click.option("--pin", "pins", multiple=True, metavar="PATH[:A-B]", help="Always in, first. Repeatable.")
@click.option("--quota", multiple=True, metavar="KIND=N", help="At most N tokens (or N%) of a kind. Repeatable.")
@click.option("--reserve", multiple=True, metavar="KIND=N", help="At least N tokens (or N%) of a kind. Repeatable.")
@click.option("--recent", type=click.IntRange(0, 200), help="The newest files too, so many.")
@click.option("--fresh", metavar="AGE", help="Nothing older: 7d, 2026-11-01.")
@click.option("--as-of", metavar="VERSION", help="Memory and pads as they were: a version, snapshot or time.")
@click.option("--min-score", type=float, help="Nothing that answers worse.")
@click.option("--format", "form", type=click.Choice(list(_FORMATS)), help="How it reads; markdown by default.")
@click.option("--order", type=click.Choice(["rank", "edges", "time"]), help="How sources stand; rank by default.")
@click.option("--compress", is_flag=True, help="Of long texts only the sentences that answer.")
@click.option("--summarise", is_flag=True, help="What did not fit in short, by the command in ctxfs.toml.")
@click.option(
    "--untrusted",
    type=click.Choice(["mark", "drop", "keep"]),
    help="What came from tools and servers; mark by default.",
)
@click.option("--secrets", is_flag=True, help="Leave keys, tokens and passwords in; else they are withheld.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=HostPath), help="Write to a file.")
@click.option(
    "--save-manifest", type=click.Path(dir_okay=False, path_type=HostPath), help="Write manifest.json to a file."
)
@click.option("--manifest", is_flag=True, help="Print manifest.json instead of the context.")
@click.option("--json", "as_json", is_flag=True, help="Text, tokens and manifest as one JSON object.")
@click.pass_obj
def build(store: str | None, /, words: tuple[str, ...], request_file: BinaryIO | None, **options: Any) -> None:
    """Build a context for a question

    The context fits the token budget. `-` reads the question from standard input. Exit code 3 when nothing was found and
    nothing is pinned.

    \b
    { cat task.md; ctxfs context "$(cat task.md)" --budget 4000; } | some-llm
    """
    request = _request(words, request_file, options)
    with session(store) as opened:
        built = opened.call("context", request=request)
    for note in built["notes"]:
        warn(note)
    if options["save_manifest"]:
        _write(options["save_manifest"], built["manifest"])
    data = built["text"].encode("utf-8", "replace")
    if options["as_json"]:
        data = (
            json.dumps({**built, "manifest": json.loads(built["manifest"])}, indent=2, ensure_ascii=False) + "\n"
        ).encode()
    elif options["manifest"]:
        data = built["manifest"]
    if options["output"]:
        _write(options["output"], data)
    else:
        write_bytes(data)
    if not built["found"] and not request.get("pins"):
        sys.exit(EXIT_NOTHING_FOUND)


def _request(words: tuple[str, ...], file: BinaryIO | None, options: dict[str, Any]) -> dict[str, Any]:
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
            request[key] = dict(_share(text) for text in options[key])
    if options["form"]:
        request["format"] = _FORMATS[options["form"]]
    return request | {key: True for key in ("compress", "summarise", "secrets") if options[key]}


def _share(text: str) -> tuple[str, object]:
    kind, sign, value = text.partition("=")
    if not sign:
        raise CommandError(f"'{text}' has no '='", "write KIND=TOKENS or KIND=30%", EXIT_USAGE)
    return kind, int(value) if value.isdigit() else value


def _write(file: HostPath, data: bytes) -> None:
    """Replace a file atomically, so that concurrent readers see the old or the new content."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_bytes(data)
    os.replace(beside, file)


def _manifest(opened: StoreSession, name: str) -> bytes:
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
@click.argument("manifest")
@_json
@click.pass_obj
def verify(store: str | None, manifest: str, as_json: bool) -> None:
    """Rebuild a context and compare the bytes

    The context of MANIFEST is built from its sources as they were. Exit code 6 if it cannot be built again or differs.
    """
    with session(store) as opened:
        found = opened.call("verify_context", manifest=_manifest(opened, manifest))
    if as_json:
        say_json(found)
    elif found["same"]:
        say("the same, byte for byte", fg="green")
        for path in found["changed"]:
            say(f"  changed since: {path}")
        say("a new build gives " + ("the same" if found["now"] else found["fault"] or "another one"))
    else:
        say("it cannot be made again" if found["missing"] else "another text", fg="red")
        for place in found["missing"]:
            say(f"  not to be had any more: {place}")
    if not found["same"]:
        sys.exit(EXIT_UNHEALTHY)


@context.command()
@click.argument("old")
@click.argument("new")
@_json
@click.pass_obj
def diff(store: str | None, old: str, new: str, as_json: bool) -> None:
    """Compare two contexts

    Lists the lines that the context of NEW has and that of OLD has not, and the reverse. Exit code 1 if they differ.
    """
    from ctxfs.context.build.manifest import parse_manifest
    from ctxfs.context.build.rebuild import compare

    with session(store) as opened:
        found = compare(parse_manifest(_manifest(opened, old)), parse_manifest(_manifest(opened, new)))
    if as_json:
        say_json(
            {
                "added": found.added,
                "dropped": found.dropped,
                "changed": found.changed,
                "kept": found.kept,
                "request": found.request,
            }
        )
    else:
        for name, (before, after) in found.request.items():
            say(f"~ request {name}: {before!r} → {after!r}", fg="yellow")
        for sign, places, colour in (
            ("-", found.dropped, "red"),
            ("~", found.changed, "yellow"),
            ("+", found.added, "green"),
        ):
            for place in places:
                say(f"{sign} {place}", fg=colour)
        say(f"{found.kept} the same")
    if found.added or found.dropped or found.changed:
        sys.exit(1)


@context.command()
@click.argument("manifest")
@click.argument("path")
@_json
@click.pass_obj
def why(store: str | None, manifest: str, path: str, as_json: bool) -> None:
    """Explain why a path is in a context, or not

    Exit code 3 if PATH was no candidate of the context of MANIFEST.
    """
    from ctxfs.context.build.manifest import parse_manifest
    from ctxfs.context.build.rebuild import why as told

    with session(store) as opened:
        entries = told(parse_manifest(_manifest(opened, manifest)), path)
    if as_json:
        say_json(entries)
    for entry in () if as_json else entries:
        place = f"{entry['path']}:{entry['first']}-{entry['last']}"
        if entry["in"]:
            say(f"+ {place}  {entry['why']}, score {entry['score']:.2f}, {entry['tokens']} tokens", fg="green")
            for name, share in sorted(entry["shares"].items(), key=lambda item: -abs(item[1])):
                say(f"    {share:+7.2f}  {name} {entry['signals'].get(name, 'not found')}")
        else:
            other = f" (of {entry['for']})" if entry.get("for") else ""
            say(f"- {place}  {entry['reason']}{other}, score {entry['score']:.2f}", fg="red")
    if not entries:
        if not as_json:
            warn("it was no candidate: search did not find it for this question")
        sys.exit(EXIT_NOTHING_FOUND)


@context.command()
@click.argument("manifest")
@_json
@click.pass_obj
def show(store: str | None, manifest: str, as_json: bool) -> None:
    """Show the budget of a context by source"""
    with session(store) as opened:
        body = json.loads(_manifest(opened, manifest))
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
        say_json({"context": body["context"], "sources": sources, "excluded": reasons})
        return
    say(
        f"{total} of {budget} tokens ({total / budget:.0%}), {len(body['items'])} pieces of {len(sources)} sources",
        bold=True,
    )
    framing = max(0, total - sum(source["tokens"] for source in sources.values()))
    rows = [
        *sorted(sources.items(), key=lambda item: -item[1]["tokens"]),
        ("(headers, citations)", {"tokens": framing, "pieces": 0}),
    ]
    for path, source in rows:
        filled = round(_BAR * source["tokens"] / budget)
        say(f"{'█' * filled}{'·' * (_BAR - filled)} ", fg="cyan", nl=False)
        say(f"{source['tokens']:>7}  {path}" + (f" ({source['pieces']})" if source["pieces"] else ""))
    if reasons:
        say("left out: " + ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())))


def _deliver(store: str | None, task: str, name: str) -> bytes:
    with session(store) as opened:
        data: bytes = opened.call("read", path=f"context/{task}/{name}")
    return data


@context.command(name="next")
@click.argument("task")
@click.option("--cursor", type=click.IntRange(0), help="That piece again; nothing is delivered.")
@click.pass_obj
def next_piece(store: str | None, task: str, cursor: int | None) -> None:
    """Print the next piece of a task's stream

    Exit code 3 at its end.
    """
    data = _deliver(store, task, "stream" if cursor is None else f"stream@{cursor}")
    write_bytes(data)
    if not data:
        sys.exit(EXIT_NOTHING_FOUND)


@context.command()
@click.argument("task")
@click.pass_obj
def refresh(store: str | None, task: str) -> None:
    """Print the changes of a task's context

    The output has the additions, replacements and removals since the last delivery of TASK's context to a window.
    """
    write_bytes(_deliver(store, task, "delta.md"))


@context.command()
@click.argument("answer", metavar="TASK|RESPONSE")
@click.option("--manifest", metavar="MANIFEST", help="The context that the file RESPONSE answers.")
@click.option("--min", "least", type=click.FloatRange(0, 1), help="Exit code 6 if groundedness is below.")
@_json
@click.pass_obj
def evaluate(store: str | None, answer: str, manifest: str | None, least: float | None, as_json: bool) -> None:
    """Check a response against its sources

    Each claim of the response is held against the sources. TASK: its response.md is evaluated, facts are stored if the request
    sets that, and doubtful claims go to human/review/. With --manifest: a file (`-`: standard input) is only evaluated.
    """
    with session(store) as opened:
        if manifest is not None:
            response = sys.stdin.buffer.read() if answer == "-" else _response(answer)
            done: dict[str, Any] = {}
            record = opened.call("evaluate_response", manifest=_manifest(opened, manifest), response=response)
        else:
            done = opened.call("curate", task=answer.strip("/").removeprefix("context/"))
            record = done.pop("evaluation")
    body = json.loads(record)
    if as_json:
        say_json({**body, **done})
    else:
        _show_evaluation(body, done)
    grounded = body["groundedness"]
    if least is not None and (grounded is None or grounded < least):
        warn(f"groundedness {'unknown' if grounded is None else f'{grounded:.2f}'} is below {least}")
        sys.exit(EXIT_UNHEALTHY)


def _response(name: str) -> bytes:
    try:
        return HostPath(name).read_bytes()
    except OSError as error:
        raise CommandError(
            f"cannot read the response '{name}': {error.strerror}", "give a file, or - for standard input"
        ) from error


def _show_evaluation(body: dict[str, Any], done: dict[str, Any]) -> None:
    for claim in body["claims"]:
        if claim["verdict"] == "unchecked":
            continue
        say(f"{claim['verdict']:<13}", fg=_COLOURS[claim["verdict"]], nl=False)
        say(f"{claim['support']:.2f}  {claim['claim']}")
        if claim.get("source"):
            say(f"                   {claim['source']['at']}", dim=True)
        for conflict in claim["conflicts"]:
            say(
                f"                   {conflict['kind']}: '{conflict['claim']}', but '{conflict['source']}' at {conflict['at']}",
                fg="red",
            )
        for citation in claim["citations"]:
            if not citation["resolves"]:
                say(f"                   {citation['cite']} names nothing in the context", fg="red")
    for path in body["stale"]:
        say(f"changed since: {path}", fg="yellow")
    for note in body["notes"]:
        say(note, dim=True)
    for path in done.get("kept", ()):
        say(f"kept: {path}", fg="green")
    if done.get("reviews"):
        say(f"{len(done['reviews'])} for review: ctxfs review")
    grounded = body["groundedness"]
    counts = ", ".join(f"{count} {name}" for name, count in body["counts"].items())
    say(f"groundedness {'unknown' if grounded is None else f'{grounded:.2f}'}: {counts}", bold=True)


@context.command()
def schema() -> None:
    """Print the JSON Schema of manifests"""
    from ctxfs.context.build.manifest import schema as text

    write_bytes(text())
