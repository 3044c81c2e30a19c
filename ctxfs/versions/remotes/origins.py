"""The origins of commits that came from untrusted remotes: their trailers are claims of that remote.

The file in the repository's folder has one line a commit, `<id> <remote>`. It is written before the commits are merged.
"""

import contextlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path as HostPath

from ctxfs.store.durable_file import replace_text
from ctxfs.versions.objects.commits import Commit

_OPS = frozenset(("write", "begin", "recovered", "outside", "restore", "undo", "redo", "merge", "forget", "git"))


def read_store_id(repo: HostPath) -> str:
    """Return the id of this store, 32 hexadecimal digits. Create it if there is none."""
    file = repo / "ctxfs-store"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = file.read_text(encoding="ascii").strip()
        if re.fullmatch(r"[0-9a-f]{32}", text):
            return text
    text = secrets.token_hex(16)
    replace_text(file, f"{text}\n")
    return text


class Origins:
    """The foreign commits and their remotes. Used under the archive's lock."""

    def __init__(self, file: HostPath) -> None:
        self._file = file
        self._remotes = dict[str, str]()
        if file.exists():
            lines = (line.partition(" ") for line in file.read_text(encoding="utf-8", errors="replace").splitlines())
            self._remotes = {oid: name for oid, _, name in lines}

    def add(self, oids: Iterable[str], remote: str) -> None:
        """Record that commits came from a remote. An earlier record of a commit stays."""
        self._write({**dict.fromkeys(oids, remote), **self._remotes})

    def replace(self, new: Mapping[str, str]) -> None:
        """Apply a rewrite of history: old commit id → new commit id."""
        if self._remotes:
            self._write({**self._remotes, **{new.get(oid, oid): remote for oid, remote in self._remotes.items()}})

    def qualify(self, commit: Commit) -> Commit:
        """Return a foreign commit with its remote appended to the principal; other commits unchanged."""
        remote = self._remotes.get(commit.oid)
        if remote is None:
            return commit
        actor = replace(commit.actor, principal=f"{commit.actor.principal}@{remote}")
        return replace(commit, actor=actor, op=commit.op if commit.op in _OPS else "git")

    def remote_of(self, oid: str) -> str:
        """Return the remote that a commit came from; empty for a commit of this store."""
        return self._remotes.get(oid, "")

    def is_foreign(self, oid: str) -> bool:
        """Return True for a commit that came from an untrusted remote."""
        return oid in self._remotes

    def _write(self, remotes: dict[str, str]) -> None:
        if remotes != self._remotes:
            replace_text(self._file, "".join(f"{oid} {name}\n" for oid, name in remotes.items()))
            self._remotes = remotes
