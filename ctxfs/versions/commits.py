"""Commit objects as values: who, when, why, and what was done, as trailers that plain `git log` shows too."""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ctxfs.model.path import printable
from ctxfs.versions.names import path_bytes, path_text

_SHOWN_PATHS = 3
_UNSAFE = re.compile(r"[\x00-\x1f\x7f<>]+")


@dataclass(frozen=True, slots=True)
class Actor:
    """On whose account a change is recorded."""

    principal: str
    session: str
    tool: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Commit:
    """One version of the whole tree. `time_ns` is when it was recorded; `moves` are (from, to) real paths.

    `op` is what made it: write, recovered, outside, restore, undo, redo, merge, forget. `scope` is the path that an
    operation was asked for; `undoes` the commit that an undo or redo is about.
    """

    oid: str
    tree: str
    parents: tuple[str, ...]
    time_ns: int
    actor: Actor
    op: str
    subject: str
    moves: tuple[tuple[bytes, bytes], ...] = ()
    scope: bytes | None = None
    undoes: str = ""

    @property
    def when(self) -> str:
        """The time in UTC, to the second."""
        return datetime.fromtimestamp(self.time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def encode_commit(commit: Commit) -> bytes:
    """The commit object (`oid` is not part of it)."""
    seconds = commit.time_ns // 1_000_000_000
    who = _line(commit.actor.principal) or "unknown"
    lines = [f"tree {commit.tree}", *(f"parent {parent}" for parent in commit.parents)]
    lines.append(f"author {who} <{re.sub(r'[^a-z0-9._-]', '.', who.lower())}@ctxfs> {seconds} +0000")
    lines.append(f"committer ctxfs <ctxfs@localhost> {seconds} +0000")
    trailers = {
        "Principal": commit.actor.principal,
        "Session": commit.actor.session,
        "Tool": commit.actor.tool,
        "Reason": commit.actor.reason,
        "Op": commit.op,
        "Time": str(commit.time_ns),
        "Scope": "" if commit.scope is None else _json(commit.scope),
        "Undoes": commit.undoes,
    }
    lines += ["", _line(commit.subject), ""]
    lines += [f"Ctxfs-{name}: {_line(value)}" for name, value in trailers.items() if value]
    lines += [f"Ctxfs-Move: {_json(source)} {_json(target)}" for source, target in commit.moves]
    return ("\n".join(lines) + "\n").encode()


def decode_commit(oid: str, data: bytes) -> Commit:
    """The commit in an object; one that ctxfs did not write has its author as principal and `git` as its op."""
    text = data.decode("utf-8", "replace")
    head, _, message = text.partition("\n\n")
    fields = [line.partition(" ") for line in head.split("\n")]
    author = next((value for name, _, value in fields if name == "author"), "unknown <> 0 +0000")
    trailers = dict(re.findall(r"^Ctxfs-(\w+): (.*)$", message, re.MULTILINE))
    written = re.search(r"> (\d+) ", author)
    return Commit(
        oid,
        next((value for name, _, value in fields if name == "tree"), ""),
        tuple(value for name, _, value in fields if name == "parent"),
        _number(trailers.get("Time")) or (int(written[1]) if written else 0) * 1_000_000_000,
        Actor(
            trailers.get("Principal", author.partition(" <")[0]),
            trailers.get("Session", ""),
            trailers.get("Tool", ""),
            trailers.get("Reason", ""),
        ),
        trailers.get("Op", "git"),
        message.partition("\n")[0],
        tuple(_moves(message)),
        _path(trailers["Scope"]) if "Scope" in trailers else None,
        trailers.get("Undoes", ""),
    )


def describe_paths(verb: str, paths: Sequence[bytes]) -> str:
    """A subject line such as `write memory/a/x.md` or `write 12 paths: a, b, c …`."""
    shown = ", ".join(printable(path_text(path)) for path in paths[:_SHOWN_PATHS])
    if len(paths) == 1:
        return f"{verb} {shown}"
    return f"{verb} {len(paths)} paths: {shown}{' …' if len(paths) > _SHOWN_PATHS else ''}"


def now_ns(after: int) -> int:
    """The time now; never before the last commit, so that the order of times is the order of commits."""
    return max(time.time_ns(), after + 1)


def _moves(message: str) -> list[tuple[bytes, bytes]]:
    found = []
    for line in re.findall(r"^Ctxfs-Move: (.*)$", message, re.MULTILINE):
        decoder = json.JSONDecoder()
        try:
            source, end = decoder.raw_decode(line)
            target, _ = decoder.raw_decode(line[end:].lstrip())
        except ValueError:
            continue
        if isinstance(source, str) and isinstance(target, str):
            found.append((path_bytes(source), path_bytes(target)))
    return found


def _json(path: bytes) -> str:
    return json.dumps(path_text(path), ensure_ascii=True)


def _path(text: str) -> bytes | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return path_bytes(found) if isinstance(found, str) else None


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _line(text: str) -> str:
    """One line without anything that could end it or stand for an address."""
    return _UNSAFE.sub(" ", printable(text)).strip()
