"""Which commits came from remotes that are not trusted: their trailers are claims of that remote, not of principals here.

One line a commit in the repository's folder, `<id> <remote>`. Written before the commits are taken in.
"""

import contextlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path as HostPath

from ctxfs.store.config import replace_text
from ctxfs.versions.objects.commits import Commit

_OPS = frozenset(("write", "begin", "recovered", "outside", "restore", "undo", "redo", "merge", "forget", "git"))


def read_store_id(repo: HostPath) -> str:
    """Return the name of this store among others whose versions it may hold; one is made where there is none."""
    file = repo / "ctxfs-store"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = file.read_text(encoding="ascii").strip()
        if re.fullmatch(r"[0-9a-f]{32}", text):
            return text
    text = secrets.token_hex(16)
    replace_text(file, f"{text}\n")
    return text


class Origins:
    """The commits and their remotes. Used under the archive's lock."""

    def __init__(self, file: HostPath) -> None:
        self._file = file
        self._remotes = dict[str, str]()
        if file.exists():
            lines = (line.partition(" ") for line in file.read_text(encoding="utf-8", errors="replace").splitlines())
            self._remotes = {oid: name for oid, _, name in lines}

    def add(self, oids: Iterable[str], remote: str) -> None:
        """Remember that commits came from a remote."""
        self._write({**dict.fromkeys(oids, remote), **self._remotes})

    def replace(self, new: Mapping[str, str]) -> None:
        """Follow commits that were written again: old id → new id."""
        if self._remotes:
            self._write({**self._remotes, **{new.get(oid, oid): remote for oid, remote in self._remotes.items()}})

    def qualify(self, commit: Commit) -> Commit:
        """Return a commit with the remote in the name of its principal, if it came from one."""
        remote = self._remotes.get(commit.oid)
        if remote is None:
            return commit
        actor = replace(commit.actor, principal=f"{commit.actor.principal}@{remote}")
        return replace(commit, actor=actor, op=commit.op if commit.op in _OPS else "git")

    def remote_of(self, oid: str) -> str:
        """Return the remote that a commit came from; empty for our own."""
        return self._remotes.get(oid, "")

    def is_foreign(self, oid: str) -> bool:
        """True for a commit that came from a remote which was not trusted."""
        return oid in self._remotes

    def _write(self, remotes: dict[str, str]) -> None:
        if remotes != self._remotes:
            replace_text(self._file, "".join(f"{oid} {name}\n" for oid, name in remotes.items()))
            self._remotes = remotes
