"""Diffs with attributes, and blame."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ctxfs.model.path import one_line
from ctxfs.versions.objects.commits import Commit
from ctxfs.versions.objects.name_encoding import path_text, split_path, stored_path
from ctxfs.versions.objects.sidecar import SideCar
from ctxfs.versions.recording.ledger import Ledger

_BLAME_HEADER = re.compile(rb"([0-9a-f]{40}) \d+ (\d+)")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, and the version that added it."""

    commit: str
    principal: str
    time_ns: int
    number: int
    text: bytes


def diff_trees(ledger: Ledger, old: str, new: str, path: bytes) -> bytes:
    """Return git's unified diff between two trees below `path`, followed by a line for each differing attribute."""
    pathspec = b":(top,literal)" + stored_path(path) if path else b"."
    options = ("-p", "-r", "--no-ext-diff", "--no-textconv", "-M")
    out = ledger.repo.run("diff-tree", *options, old, new, "--", pathspec, ":(top,exclude,glob)**/.x~*")
    lines = []
    for change in ledger.compare_trees(old, new):
        if path and change.path != path and not change.path.startswith(path + b"/"):
            continue
        parts = split_path(change.path)
        before, after = (ledger.read_sidecar(ledger.state(tree, parts).side) for tree in (old, new))
        lines += [
            f"{path_text(change.path)}: {description}" for description in _describe_attribute_changes(before, after)
        ]
    return out + "".join(f"{one_line(line)}\n" for line in lines).encode()


def _describe_attribute_changes(before: SideCar, after: SideCar) -> list[str]:
    descriptions = []
    for name in sorted(before.xattrs.keys() | after.xattrs.keys()):
        old, new = before.xattrs.get(name), after.xattrs.get(name)
        if old != new:
            descriptions.append(f"{name}: {_format_value(old)} → {_format_value(new)}")
    if before.mode != after.mode:
        descriptions.append(f"mode: {_format_mode(before.mode)} → {_format_mode(after.mode)}")
    return descriptions


def blame_lines(ledger: Ledger, commit: str, path: bytes, changes: Sequence[Commit]) -> list[Line]:
    """Return the lines of a file in a version, each with the version that added it.

    `changes` are all commits up to that version which changed the file, newest first: git then compares these only, and does
    not walk the history of all files. Empty: git finds them itself.
    """
    options, data = list[str](), None
    if changes:
        options, data, commit = ["-S", "/dev/stdin"], _ancestry(changes), changes[0].oid
    out = ledger.repo.run("blame", *options, "--line-porcelain", commit, "--", stored_path(path), data=data)
    lines, commits = list[Line](), dict[str, Commit]()
    oid, number = "", 0
    for line in out.split(b"\n"):
        if line.startswith(b"\t"):
            if oid not in commits:
                commits[oid] = ledger.read_commit(oid)
            lines.append(Line(oid, commits[oid].actor.principal, commits[oid].time_ns, number, line[1:]))
        elif header := _BLAME_HEADER.match(line):
            oid, number = header[1].decode(), int(header[2])
    return lines


def _ancestry(changes: Sequence[Commit]) -> bytes:
    """Return the parents of commits for git: each has its own parent, for comparison, whose parent is the change before."""
    lines = []
    for commit, older in zip(changes, (*changes[1:], None), strict=True):
        parent = next(iter(commit.parents), "")
        lines.append(f"{commit.oid} {parent}".strip())
        if parent and (older is None or older.oid != parent):
            lines.append(f"{parent} {older.oid if older is not None else ''}".strip())
    return "".join(f"{line}\n" for line in lines).encode()


def _format_value(value: bytes | None) -> str:
    return "(none)" if value is None else value.decode("utf-8", "replace")


def _format_mode(mode: int | None) -> str:
    return "usual" if mode is None else f"{mode:04o}"
