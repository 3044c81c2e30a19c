"""Citations of hidden files as surfaces: visible files that cite hidden ones, and hidden ones beside visible ones.

`test_leaks.py` plants these files in both of its stores, the hidden one in one of them, and sends the probes to both.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ctxfs.memory.citations import Span, format_citations
from ctxfs.memory.token_stream import TokenStream
from ctxfs.model.change import Put, Remove
from ctxfs.model.path import Path as TreePath

FOLDER = "memory/shared/citing"
# A memory that agents may not read, beside those that they may.
HIDDEN_MEMORY = f"{FOLDER}/shut.md"
HIDDEN_TEXT = "The signing keys are kept in the vault of the third floor for 90 days.\n"
_FORMER = "knowledge/handbook/former/zanzibar.md"  # an absent source: its text is in a hidden file of the same name
CITES = "user.ctx.cites"


def plant(tree: Path, hidden: Mapping[str, str], *, with_hidden: bool) -> None:
    """Write files that cite the hidden ones, as far as these exist as they were, changed, or under another name."""
    texts = list(hidden.values())
    fact, sealed, source = list(hidden)[:3]
    cited = {
        "holds": (source, 3, texts[2]),
        "changed": (fact, 1, texts[0].replace("7741", "1147").replace("rotate", "turn")),
        "moved": (_FORMER, 3, texts[2]),
        "twice": (sealed, 1, texts[1]),
    }
    (tree / FOLDER).mkdir(parents=True)
    for name, (path, line, text) in cited.items():
        stream = TokenStream(enumerate(text.splitlines(), 1))
        file = tree / FOLDER / f"{name}.md"
        file.write_text(f"This note cites the signing keys, which {name} is about.\n")
        os.setxattr(file, CITES, format_citations([stream.cite(Span(path, line, line), 1_600_000_000_000)]))
    if with_hidden:
        (tree / HIDDEN_MEMORY).write_text(HIDDEN_TEXT)
        os.setxattr(tree / HIDDEN_MEMORY, "user.ctx.source", f"{FOLDER}/holds.md:1".encode())


def probes(hidden: Mapping[str, str]) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Yield (name, request of a caller); the words `label`, `move` and `write` name requests that change files."""
    yield from _reading()
    yield from _checks(hidden)
    for path, text in hidden.items():
        yield from _changing(path, text)
    yield "write remark on a hidden memory", lambda caller: _remarks(caller, HIDDEN_TEXT)
    yield (
        "write contradiction of a hidden memory",
        lambda caller: _remarks(caller, HIDDEN_TEXT.replace("90 days", "30 days")),
    )
    yield "move a note beside a hidden memory", _promoted


def _reading() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    for name in ("holds", "changed", "moved", "twice"):
        path = f"{FOLDER}/{name}.md"
        for attribute in ("holds", "holds_at"):
            yield (
                f"mount {attribute} of {name}",
                lambda caller, p=path, a=attribute: os.getxattr(caller.at / p, f"user.ctx.{a}"),
            )
        for method in ("metadata", "read_labelled", "check"):
            yield f"rpc {method} of {name}", lambda caller, p=path, m=method: _states(caller.call(m, path=p))
        yield f"mcp read of {name}", lambda caller, p=path: caller.mcp("ctx_read", path=p)
    for stale in ("mark", "drop"):
        request = {"query": "who cites the signing keys", "budget": 900, "stale": stale}
        yield f"rpc context stale {stale}", lambda caller, r=request: caller.call("context", request=r)["text"]


def _checks(hidden: Mapping[str, str]) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    for path in ("", "memory", "memory/shared", FOLDER, *hidden, HIDDEN_MEMORY):
        yield f"rpc check {path}", lambda caller, p=path: caller.call("check", path=p)
    for path in ("memory", "memory/shared", "memory/bob"):
        yield f"rpc groups of {path}", lambda caller, p=path: caller.call("memory_groups", path=p)
    for path in ("memory", "memory/shared", *(p for p in (*hidden, HIDDEN_MEMORY) if p.startswith("memory/"))):
        yield f"rpc memories {path}", lambda caller, p=path: _table(caller, p)
        yield f"rpc words in {path}", lambda caller, p=path: _table(caller, p, pattern="zanzibar")
    for path in (FOLDER, "memory/bob"):
        yield f"rpc consolidate {path}", lambda caller, p=path: caller.call("consolidate", path=p, dry_run=True)
    for path in (*hidden, HIDDEN_MEMORY):
        if not path.startswith("human/"):  # it cannot be cited
            yield f"rpc impact {path}", lambda caller, p=path: caller.call("impact", path=p)
            yield (
                f"rpc cite_source {path}",
                lambda caller, p=path: caller.call("cite_source", source=f"{p}:1") is None,
            )
    yield "rpc impact of an origin", lambda caller: caller.call("impact", origin=f"{FOLDER}/holds.md:1")
    yield "rpc impact of a session", lambda caller: caller.call("impact", session="zanzibar")


def _table(caller: Any, path: str, **filters: str) -> object:
    """Return the table of memories and its sums, without the times of their files."""
    page = caller.call("memories", path=path, **filters)
    sums = caller.call("memory_sizes", path=path, **filters)
    return {**page, "rows": [{**row, "changed_ns": 0} for row in page["rows"]]}, [{**p, "changed_ns": 0} for p in sums]


def _changing(path: str, text: str) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    line = next(number for number, line in enumerate(text.splitlines(), 1) if line and not line.startswith("#"))
    if not path.startswith("human/"):
        for source in (f"{path}:{line}", f"{path}:999"):
            yield f"rpc label by citing {source}", lambda caller, s=source: _cited(caller, s)
        source = f"{path}:{line}"
        yield f"mount label by source {source}", lambda caller, s=source: _sourced(caller, s)
    yield (
        f"rpc write correction of {path}",
        lambda caller: caller.call("correct", path=path, text="It is otherwise.", because="a test", line=line),
    )
    yield (
        f"rpc move by promotion of {path}",
        lambda caller: caller.call("promote", path=path, to="memory/mallory/fact"),
    )


def _states(result: Any) -> Any:
    """Return the names of the attributes and those of citations, without the others, which differ between any stores."""
    if isinstance(result, dict) and CITES in result:
        return sorted(result), {name: result.get(f"user.ctx.{name}") for name in ("cites", "holds", "holds_at")}
    return result


def _cited(caller: Any, source: str) -> Any:
    return caller.call("cite", path="memory/mallory/own.md", sources=[source], replace=True)


def _sourced(caller: Any, source: str) -> Any:
    file = caller.at / "memory/mallory/own.md"
    try:
        os.setxattr(file, "user.ctx.source", source.encode())
        return sorted(os.listxattr(file))
    finally:
        for name in ("user.ctx.source", CITES):
            with suppress(OSError):
                os.removexattr(file, name)


def _remarks(caller: Any, text: str) -> Any:
    path = TreePath.parse(f"{FOLDER}/remarked.md")
    try:
        return caller.change(Put(path, text.encode()))
    finally:
        with suppress(OSError):
            caller.change(Remove(path))


def _promoted(caller: Any) -> Any:
    note = TreePath.parse("pad/t/note.md")
    try:
        caller.change(Put(note, HIDDEN_TEXT.encode()))
        result = caller.call("promote", path=str(note), to=FOLDER)
        return result["path"], result["reasons"]
    finally:
        for path in (note, TreePath.parse(f"{FOLDER}/note.md")):
            with suppress(OSError):
                caller.change(Remove(path))
