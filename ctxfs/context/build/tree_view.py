"""Tree views that contexts are built from: the current tree and the tree as of a version."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ctxfs.context.build.piece import Piece
from ctxfs.context.build.rebuild import relocate_piece
from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.large_files import read_searched
from ctxfs.index.query import Query
from ctxfs.index.search.file_status import FileStatus
from ctxfs.index.search.results import SearchResults
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.errors import path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.policy.scope import VersionScope
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.archive import Archive

if TYPE_CHECKING:
    from ctxfs.context.grounding.judge import Embed

_MAX_VERSIONS = 200


class HeldFacts(Protocol):
    """Files that are held against the lines they cite."""

    def broken_states(self, cites: Mapping[str, str]) -> Mapping[str, str]:
        """Return `changed` or `gone` for files whose cited lines no longer hold, by their attributes `cites`. Blocks."""
        ...


class CurrentTree:
    """The current tree."""

    notes: Sequence[str] = ()

    def __init__(
        self,
        tree: Mount,
        searcher: Searcher,
        archive: Archive,
        scope: VersionScope,
        facts: HeldFacts | None = None,
    ) -> None:
        self._facts = facts
        self._scope = scope
        self._tree = tree
        self._searcher = searcher
        self._archive = archive
        self.revision = archive.newest

    @property
    def index(self) -> Mapping[str, object]:
        """Return the name of the embedding model."""
        return {"model": self._searcher.model}

    async def search(self, query: Query, below: Path, limit: int) -> SearchResults:
        """Return the best `limit` chunks below a directory."""
        return await blocking(partial(self._searcher.search, exact=True), query, below, limit)

    async def require(self, path: Path) -> None:
        """Return if a directory or file exists for the calling principal; raise OSError ENOENT otherwise."""
        await self._tree.stat(path)

    async def read(self, path: Path) -> bytes:
        """Return the content of a file."""
        return await self._tree.read(path)

    async def statuses(self, paths: Collection[str]) -> Mapping[str, FileStatus]:
        """Return the search-relevant status of those of these files that have one."""
        return await blocking(self._searcher.statuses, paths)

    async def broken(self, cites: Mapping[str, str]) -> Mapping[str, str]:
        """Return `changed` or `gone` for files whose cited lines no longer hold; none of another time."""
        return await blocking(self._facts.broken_states, cites) if self._facts is not None else {}

    async def revisions(self, paths: Collection[str]) -> Mapping[str, str]:
        """Return the newest version of each versioned file."""
        versioned = sorted(path for path in paths if self._scope.has_versions(_parse_path(path)))
        return await in_turn(self._newest_versions, versioned) if versioned else {}

    def _newest_versions(self, paths: Sequence[str]) -> dict[str, str]:
        commits = ((path, self._archive.reader.last_change(path)) for path in paths)
        return {
            path: commit.oid
            for path, commit in commits
            if commit is not None and commit.time_ns >= self._scope.readable_since(_parse_path(path))
        }

    def analyse(self, text: str) -> Sequence[str]:
        """Return the terms of a text as search indexes them."""
        from ctxfs.index.engines.fulltext import (
            analyse,  # an engine: imported on first use, so that a daemon mounts first
        )

        return analyse(text)


class TreeAsOf(CurrentTree):
    """The tree as of a version.

    Files that changed since are searched in their old content, by words. Sources have no versions.
    """

    def __init__(self, as_of: str, tree: Mount, searcher: Searcher, archive: Archive, scope: VersionScope) -> None:
        """Open the tree as of a version, snapshot or time. Blocks.

        Raise OSError: ENOENT for an unknown version and for a time before the first one, EINVAL for an invalid name.
        """
        from ctxfs.index.search.overlay import MAX_FILE_BYTES

        super().__init__(tree, searcher, archive, scope)
        archive.commit()
        self._commit = archive.reader.resolve(as_of).commit
        self.revision = self._commit.oid
        files = [
            file if self._was_visible(file.path) else file.hidden
            for file in archive.reader.differences(self._commit, MAX_FILE_BYTES)
        ]
        large = sorted(file.path for file in files if file.too_large)
        self._old_files = searcher.past_overlay(
            (file.path, file.data, file.attributes, self._commit.time_ns) for file in files
        )
        self.notes = (
            f"as of {self._commit.time_text}: memory, pads and what else has versions; knowledge has none and is left out",
            *(f"too large to search as it was then: {path}" for path in large[:10]),
        )

    async def search(self, query: Query, below: Path, limit: int) -> SearchResults:
        """Return the best chunks of the tree as of the version."""
        narrowed = query if query.paths else replace(query, paths=("memory", "pad"))
        results = await blocking(
            partial(self._searcher.search, past=self._old_files, exact=True), narrowed, below, limit
        )
        versioned = [hit for hit in results.hits if self._scope.has_versions(_parse_path(hit.path))]
        hits = await in_turn(lambda: [hit for hit in versioned if self._was_visible(hit.path)])
        return replace(results, query=query, hits=hits)

    def _was_visible(self, path: str) -> bool:
        return self._scope.readable_since(_parse_path(path)) <= self._commit.time_ns

    async def require(self, path: Path) -> None:
        """Return if a path exists or has versions: it may have existed as of the version."""
        if not self._scope.has_versions(path):
            await super().require(path)

    async def read(self, path: Path) -> bytes:
        """Return the content of a file as of the version; ENOENT if it has no versions."""
        if not self._scope.has_versions(path) or not await in_turn(self._was_visible, str(path)):
            raise path_error(errno.ENOENT, path, "it has no past")
        return await in_turn(self._archive.reader.read_in, self._commit, str(path))

    async def statuses(self, paths: Collection[str]) -> Mapping[str, FileStatus]:
        """Return the status of those of these files that had one as of the version."""
        return await blocking(partial(self._searcher.statuses, past=self._old_files), paths)

    async def revisions(self, paths: Collection[str]) -> Mapping[str, str]:
        """Return the one version of all files."""
        return dict.fromkeys(paths, self._commit.oid)


def _parse_path(text: str) -> Path:
    return Path(tuple(text.split("/")))


class SourceResolver(CurrentTree):
    """The current tree, with the operations of evaluators: old contents and the embedding model."""

    def __init__(
        self, tree: Mount, searcher: Searcher, archive: Archive, scope: VersionScope, max_file_bytes: int
    ) -> None:
        """Take the parts of the tree, and the size above which the index reads a part of a file."""
        super().__init__(tree, searcher, archive, scope)
        self._max_file_bytes = max_file_bytes

    async def fetch(self, path: str, sha256: str, revision: str) -> bytes | None:
        """Return the content whose SHA-256 has this prefix: the current one, else a version; None if absent."""
        tree_path = Path.parse(path)
        try:
            data = await self._tree.read(tree_path)
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest().startswith(sha256):
            return data
        return (
            await in_turn(self._read_version, path, sha256, revision) if self._scope.has_versions(tree_path) else None
        )

    def _read_version(self, path: str, sha256: str, revision: str) -> bytes | None:
        self._archive.commit()
        since = self._scope.readable_since(_parse_path(path))
        if revision:
            with contextlib.suppress(OSError):
                is_visible = self._archive.reader.resolve(revision).commit.time_ns >= since
                data = self._archive.reader.show(path, revision) if is_visible else b""
                if hashlib.sha256(data).hexdigest().startswith(sha256):
                    return data
        with contextlib.suppress(OSError):
            for version in reversed(self._archive.reader.versions(path)[-_MAX_VERSIONS:]):
                if version.commit.time_ns < since or not version.is_file:
                    continue
                data = self._archive.reader.content_of(version)
                if hashlib.sha256(data).hexdigest().startswith(sha256):
                    return data
        return None

    def extract(self, path: str, data: bytes) -> list[Chunk]:
        """Return the chunks of a content of a file, as a search returns them. Blocks; raise UnreadableFile."""
        name = path.rpartition("/")[2]
        searched = read_searched(io.BytesIO(data), name, len(data), self._max_file_bytes).data
        return self._searcher.name_users(path, self._searcher.extract(name, searched))

    async def current(self, path: str) -> str:
        """Return the hexadecimal SHA-256 of a file's current content; empty if it is gone."""
        try:
            return hashlib.sha256(await self._tree.read(Path.parse(path))).hexdigest()
        except OSError:
            return ""

    async def reread(self, pieces: Sequence[Piece]) -> list[Piece | None]:
        """Return each piece with its current position in its source; None if its text is gone."""
        contents: dict[str, bytes | None] = {}
        for path in dict.fromkeys(piece.path for piece in pieces if piece.path):
            try:
                contents[path] = await self._tree.read(Path.parse(path))
            except OSError:
                contents[path] = None
        return await blocking(
            lambda: [relocate_piece(piece, contents.get(piece.path), self.extract) for piece in pieces]
        )

    def embedder(self) -> Embed | None:
        """Return the embedding function; None if no model is available."""
        return self._searcher.embed if self._searcher.can_embed() else None
