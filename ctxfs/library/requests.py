"""The requests of the library, without a connection: the method, its arguments, and the decoding of its response.

The blocking and the asynchronous store send the same requests.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ctxfs.library import results
from ctxfs.model.change import Append, Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path
from ctxfs.rpc.wire import change_to_wire, entry_from_wire

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Request(Generic[Result]):
    """A call of a method. `is_repeatable` is True for one that changes nothing, so that it may be sent twice."""

    method: str
    decode: Callable[[Any], Result]
    arguments: Mapping[str, object] = field(default_factory=dict)
    is_repeatable: bool = True


def whoami() -> Request[str]:
    """Return the request for the principal of the session."""
    return Request("whoami", lambda reply: str(reply["principal"]))


def stat(path: str) -> Request[results.Entry]:
    """Return the request for the entry of a path."""
    return Request("stat", entry_from_wire, {"path": path})


def list_directory(path: str) -> Request[list[results.Entry]]:
    """Return the request for the entries of a directory."""
    return Request("list", lambda reply: [entry_from_wire(row) for row in reply], {"path": path})


def read(path: str) -> Request[bytes]:
    """Return the request for the content of a file."""
    return Request(
        "read", bytes, {"path": path}, is_repeatable=False
    )  # a second read of a stream returns other content


def read_extracted(path: str) -> Request[str]:
    """Return the request for the text of a file, extracted from PDF, office files, mail and notebooks."""
    return Request("read_extracted", _decode_text, {"path": path})


def meta(path: str) -> Request[dict[str, str]]:
    """Return the request for the attributes of a path, by their names without `user.ctx.`."""
    return Request("metadata", _decode_attributes, {"path": path})


def put(path: str, data: bytes, attributes: Mapping[str, str], expects: str) -> Request[results.Written]:
    """Return the request that creates or replaces a file."""
    named = {_full_name(name): value.encode() for name, value in attributes.items()}
    return _apply(Put(Path.parse(path), data, named, expects), path, data)


def append(path: str, data: bytes) -> Request[results.Written]:
    """Return the request that appends lines to an append-only file."""
    return _apply(Append(Path.parse(path), data), path, data)


def make_directory(path: str) -> Request[None]:
    """Return the request that makes a directory."""
    return _change(MakeDir(Path.parse(path)))


def remove(path: str, expects: str = "") -> Request[None]:
    """Return the request that removes a file, a link or an empty directory; `expects` is the revision of the file."""
    return _change(Remove(Path.parse(path), expects))


def move(path: str, to: str, expects: str = "") -> Request[None]:
    """Return the request that renames a path; `expects` is the revision of the file."""
    return _change(Move(Path.parse(path), Path.parse(to), expects))


def set_meta(path: str, name: str, value: str | None) -> Request[None]:
    """Return the request that sets an attribute, or removes it for None."""
    return _change(SetMeta(Path.parse(path), _full_name(name), None if value is None else value.encode()))


def search(question: str, below: str, limit: int | None) -> Request[results.SearchAnswer]:
    """Return the request for the hits of a question."""
    return Request("search", _decode_answer, {"question": question, "below": below, "limit": limit, "labels": True})


def find(filters: str, below: str, limit: int) -> Request[list[str]]:
    """Return the request for the paths of files by their attributes."""
    return Request("find", list, {"filters": filters, "below": below, "limit": limit})


def grep(
    pattern: str, below: str, limit: int, *, fixed: bool, word: bool, ignore_case: bool
) -> Request[results.GrepMatches]:
    """Return the request for the lines that match a pattern."""
    options = {"fixed": fixed, "word": word, "ignore_case": ignore_case}
    return Request("grep", _decode_matches, {"pattern": pattern, "below": below, "limit": limit, **options})


def glob(pattern: str, below: str, limit: int) -> Request[list[str]]:
    """Return the request for the paths that match a pattern such as `**/*.md`."""
    return Request("glob", lambda reply: list(reply["paths"]), {"pattern": pattern, "below": below, "limit": limit})


def context(
    question: str | Sequence[str], budget: int | None, options: Mapping[str, object]
) -> Request[results.Context]:
    """Return the request for a context. `options` are the other fields of a request.toml."""
    queries = [question] if isinstance(question, str) else list(question)
    request = {"query": queries, **({"budget": budget} if budget is not None else {}), **options}
    return Request("context", _decode_context, {"request": request})


def verify_context(manifest: bytes) -> Request[bool]:
    """Return the request that builds a context again from its manifest, and compares."""
    return Request("verify_context", lambda reply: bool(reply["same"]), {"manifest": manifest})


def history(day: str, session: str, principal: str, kind: str, limit: int) -> Request[list[results.Record]]:
    """Return the request for the newest records of the event log, oldest first."""
    filters = {"day": day, "session": session, "principal": principal, "kind": kind, "limit": limit}
    return Request("history", lambda reply: [results.record_from(raw) for raw in reply], filters)


def record(said: Sequence[Mapping[str, object]], session: str) -> Request[int]:
    """Return the request that appends records; its result is the number of records."""
    return Request(
        "record", lambda _: len(said), {"said": [dict(item) for item in said], "session": session}, is_repeatable=False
    )


def log(path: str, filters: Mapping[str, object]) -> Request[list[results.Version]]:
    """Return the request for the versions of a path, newest first."""
    return Request("log", lambda reply: [results.version_from(item) for item in reply], {"path": path, **filters})


def show(path: str, at: str) -> Request[bytes]:
    """Return the request for the content of a file in a version."""
    return Request("show", bytes, {"path": path, "at": at})


def diff(path: str, old: str, new: str) -> Request[str]:
    """Return the request for the difference between two versions."""
    return Request("diff", lambda reply: reply.decode("utf-8", "replace"), {"path": path, "old": old, "new": new})


def rollback(method: str, path: str, arguments: Mapping[str, object]) -> Request[results.Rollback]:
    """Return the request `undo`, `redo` or `restore`."""
    return Request(method, results.rollback_from, {"path": path, **arguments}, is_repeatable=False)


def snapshot(name: str) -> Request[results.Version]:
    """Return the request that names the present version."""
    return Request("snapshot", results.version_from, {"name": name}, is_repeatable=False)


def promote(path: str, to: str) -> Request[results.Promotion]:
    """Return the request that moves a file to memory, or opens a review."""
    return Request("promote", _decode_promotion, {"path": path, "to": to}, is_repeatable=False)


def correct(path: str, text: str, because: str, line: int, was: str) -> Request[results.Correction]:
    """Return the request that replaces a line of a memory by a corrected one that supersedes it."""
    arguments = {"path": path, "text": text, "because": because, "line": line, "was": was}
    return Request("correct", _decode_correction, arguments, is_repeatable=False)


def cite(path: str, sources: Sequence[str], *, replace: bool) -> Request[list[str]]:
    """Return the request that adds citations to a file; its result are the lines of all of its citations."""
    arguments = {"path": path, "sources": list(sources), "replace": replace}
    return Request("cite", lambda reply: list(reply["citations"]), arguments, is_repeatable=False)


def check(path: str) -> Request[list[results.CheckedFile]]:
    """Return the request for the files with citations at and below a path."""
    return Request("check", lambda reply: [results.checked_from(item) for item in reply], {"path": path})


def revision_of(data: bytes) -> str:
    """Return the revision of a content: its sha256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _apply(change: Change, path: str, data: bytes) -> Request[results.Written]:
    def decode(reply: Mapping[str, Any]) -> results.Written:
        return results.Written(path, revision_of(data), tuple(reply["warnings"]))

    return Request("apply", decode, {"change": change_to_wire(change)}, is_repeatable=False)


def _change(change: Change) -> Request[None]:
    return Request("apply", lambda _: None, {"change": change_to_wire(change)}, is_repeatable=False)


def _full_name(name: str) -> str:
    return name if name.startswith("user.") else PREFIX + name


def _decode_attributes(reply: Mapping[str, bytes]) -> dict[str, str]:
    return {name.removeprefix(PREFIX): value.decode("utf-8", "replace") for name, value in reply.items()}


def _decode_text(reply: Mapping[str, Any]) -> str:
    if reply["data"]:
        from ctxfs.index.extract.text_decoding import read_text

        return read_text(reply["data"]) or ""
    return "\n\n".join(text for text, *_ in reply["passages"])


def _decode_answer(reply: Mapping[str, Any]) -> results.SearchAnswer:
    return results.SearchAnswer(
        hits=tuple(results.hit_from(hit, reply["labels"]) for hit in reply["hits"]),
        verdict=reply["answer"]["verdict"],
        probability=reply["answer"].get("p"),
        is_complete=reply["complete"],
        notes=tuple(reply["notes"]),
        remarks=tuple(reply["remarks"]),
    )


def _decode_matches(reply: Mapping[str, Any]) -> results.GrepMatches:
    matches = tuple(results.Match(path, line, text) for path, line, text in reply["lines"])
    return results.GrepMatches(matches, tuple(reply["faults"]), reply["more"])


def _decode_context(reply: Mapping[str, Any]) -> results.Context:
    return results.Context(
        text=reply["text"],
        tokens=reply["tokens"],
        pieces=reply["pieces"],
        found=reply["found"],
        verdict=reply["answer"]["verdict"],
        notes=tuple(reply["notes"]),
        manifest=json.loads(reply["manifest"]),
        manifest_bytes=reply["manifest"],
    )


def _decode_promotion(reply: Mapping[str, Any]) -> results.Promotion:
    return results.Promotion(reply["path"], reply["review"], tuple(reply["reasons"]))


def _decode_correction(reply: Mapping[str, Any]) -> results.Correction:
    return results.Correction(reply["path"], reply["corrects"], reply["was"], tuple(reply["remarks"]))
