"""Commit objects as values: actor, time, reason and operation, stored as trailers that plain `git log` shows too."""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ctxfs.model.path import one_line, printable
from ctxfs.versions.objects.name_encoding import is_valid_name, path_bytes, path_text
from ctxfs.versions.objects.trees import EMPTY_TREE

_MAX_SHOWN_PATHS = 3
_UNSAFE_CHARACTERS = re.compile(r"[\x00-\x1f\x7f<>]+")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_OID = re.compile(r"[0-9a-f]{40}")
_AGES = re.compile(r"\d{1,19}(?:,\d{1,19})*", re.ASCII)
_MAX_AGES_CHARACTERS = 4_000_000
_MAX_SHOWN_CHARACTERS = 4000
MAX_TIME_NS = (1 << 62) - 1  # in 2116; twice that no longer fits SQLite's integers


@dataclass(frozen=True, slots=True)
class Actor:
    """The principal, session, tool and reason that a change is recorded under."""

    principal: str
    session: str
    tool: str = ""
    reason: str = ""

    @property
    def is_person(self) -> bool:
        """Return True for a person. Only persons lift marks."""
        return self.principal.startswith("human:")


@dataclass(frozen=True, slots=True)
class Commit:
    """One version of the whole tree.

    `time_ns` is the time of recording. `moves` are pairs (source, target) of real paths.
    `op` is the operation that made it: write, recovered, outside, restore, undo, redo, merge, forget.
    `scope` is the path that was given to the operation. `undoes` is the id of the commit that an undo or redo is for.
    `anchor` is the state of the event log and the audit at that time.
    `ages` are the nanoseconds from the mtime of each added or changed file to `time_ns`, in the order of paths; empty if
    they were not recorded. Of a merge these are the files that differ from all parents.
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
    anchor: str = ""
    ages: tuple[int, ...] = ()

    @property
    def time_text(self) -> str:
        """Return the time in UTC, to the second."""
        return datetime.fromtimestamp(self.time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def encode_commit(commit: Commit) -> bytes:
    """Return the content of the commit object; `oid` is not part of it."""
    seconds = commit.time_ns // 1_000_000_000
    author = _single_line(commit.actor.principal) or "unknown"
    lines = [f"tree {commit.tree}", *(f"parent {parent}" for parent in commit.parents)]
    lines.append(f"author {author} <{re.sub(r'[^a-z0-9._-]', '.', author.lower())}@ctxfs> {seconds} +0000")
    lines.append(f"committer ctxfs <ctxfs@localhost> {seconds} +0000")
    trailers = {
        "Principal": commit.actor.principal,
        "Session": commit.actor.session,
        "Tool": commit.actor.tool,
        "Reason": commit.actor.reason,
        "Op": commit.op,
        "Time": str(commit.time_ns),
        "Scope": "" if commit.scope is None else _encode_path(commit.scope),
        "Undoes": commit.undoes,
        "Anchor": commit.anchor,
        "Ages": ",".join(map(str, commit.ages)),
    }
    lines += ["", _single_line(commit.subject), ""]
    lines += [f"Ctxfs-{name}: {_single_line(value)}" for name, value in trailers.items() if value]
    lines += [f"Ctxfs-Move: {_encode_path(source)} {_encode_path(target)}" for source, target in commit.moves]
    return ("\n".join(lines) + "\n").encode()


def decode_commit(oid: str, data: bytes) -> Commit:
    """Return the commit in an object. Without trailers of ctxfs, the author is its principal and `git` its op.

    Commits come from remotes, too: texts are cut to one line of bounded length, ids are checked, times fit 64 bits.
    """
    head, _, message = data.decode("utf-8", "replace").partition("\n\n")
    fields = [line.partition(" ") for line in head.split("\n")]
    author = next((value for name, _, value in fields if name == "author"), "unknown <> 0 +0000")
    trailers = dict(re.findall(r"^Ctxfs-(\w+): (.*)$", message, re.MULTILINE))
    author_time = re.search(r"> (\d+) ", author)

    def trailer(name: str, default: str = "") -> str:
        return _clean_text(trailers.get(name, default))

    return Commit(
        oid,
        next((value for name, _, value in fields if name == "tree" and _OID.fullmatch(value)), EMPTY_TREE),
        tuple(value for name, _, value in fields if name == "parent" and _OID.fullmatch(value)),
        _parse_time(trailers.get("Time"), 1) or _parse_time(author_time[1] if author_time else None, 1_000_000_000),
        Actor(trailer("Principal", author.partition(" <")[0]), trailer("Session"), trailer("Tool"), trailer("Reason")),
        trailer("Op", "git"),
        _clean_text(message.partition("\n")[0]),
        tuple(_parse_moves(message)),
        _parse_path(trailers["Scope"]) if "Scope" in trailers else None,
        trailers["Undoes"] if _OID.fullmatch(trailers.get("Undoes", "")) else "",
        trailer("Anchor"),
        _parse_ages(trailers.get("Ages", "")),
    )


def describe_paths(verb: str, paths: Sequence[bytes]) -> str:
    """Return a subject line such as `write memory/a/x.md` or `write 12 paths: a, b, c …`."""
    shown = ", ".join(one_line(path_text(path)) for path in paths[:_MAX_SHOWN_PATHS])
    if len(paths) == 1:
        return f"{verb} {shown}"
    return f"{verb} {len(paths)} paths: {shown}{' …' if len(paths) > _MAX_SHOWN_PATHS else ''}"


def now_ns(after: int, offset_ns: int = 0) -> int:
    """Return the current time and an offset, but at least `after` + 1: the order of times is the order of commits."""
    return min(max(time.time_ns() + offset_ns, after + 1), MAX_TIME_NS)


def _parse_moves(message: str) -> list[tuple[bytes, bytes]]:
    decoder, moves = json.JSONDecoder(), []
    for line in re.findall(r"^Ctxfs-Move: (.*)$", message, re.MULTILINE):
        try:
            source, end = decoder.raw_decode(line)
            target, _ = decoder.raw_decode(line[end:].lstrip())
            moves.append((_validate_path(source), _validate_path(target)))
        except (ValueError, RecursionError):
            continue
    return moves


def _encode_path(path: bytes) -> str:
    return json.dumps(path_text(path), ensure_ascii=True)


def _parse_path(text: str) -> bytes | None:
    try:
        return _validate_path(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _validate_path(value: object) -> bytes:
    """Return a path that a trailer names. Raise ValueError if the value is not a path of the tree."""
    if not isinstance(value, str):
        raise ValueError("not a path")
    path = path_bytes(value)
    if path and not all(map(is_valid_name, path.split(b"/"))):
        raise ValueError("not a path of the tree")
    return path


def _parse_time(text: str | None, unit_ns: int) -> int:
    """Return a number of units in nanoseconds, at most `MAX_TIME_NS`; 0 if the text is not a number."""
    if not text or not text.isascii() or not text.isdigit():
        return 0
    return min(int(text) * unit_ns, MAX_TIME_NS) if len(text) < 20 else MAX_TIME_NS


def _parse_ages(text: str) -> tuple[int, ...]:
    """Return the ages in a trailer; none if it is not a list of numbers that a store could have written."""
    if not _AGES.fullmatch(text) or len(text) > _MAX_AGES_CHARACTERS:
        return ()
    return tuple(map(int, text.split(",")))


def _clean_text(text: str) -> str:
    """Return a text of a commit without control characters, cut to `_MAX_SHOWN_CHARACTERS`."""
    return _CONTROL_CHARACTERS.sub(" ", text[:_MAX_SHOWN_CHARACTERS]).strip()


def _single_line(text: str) -> str:
    """Return one line without characters that end a line or delimit an address."""
    return _UNSAFE_CHARACTERS.sub(" ", printable(text)).strip()
