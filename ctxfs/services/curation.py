"""The tree as tools of ctxfs write to it: facts and reviews are versions like every other file."""

import contextlib
from collections.abc import Sequence

from ctxfs.context.build.tree_view import SourceResolver
from ctxfs.memory.citations import Span
from ctxfs.model.change import Change
from ctxfs.model.entry import Entry
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.services.citations import Citations
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.recording.journal import new_session_name
from ctxfs.vfs.namespace import Namespace
from ctxfs.vfs.session import SessionTree


class CuratedTree:
    """Implements `context.grounding.review.Book` without access control, in sessions of a tool of ctxfs."""

    def __init__(self, namespace: Namespace, archive: Archive, owner: Principal, tool: str = "evaluator") -> None:
        self._tool = tool
        self._namespace = namespace
        self._archive = archive
        self._owner = owner

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the entries of a directory."""
        return await self._namespace.list(path)

    async def read(self, path: Path) -> bytes:
        """Return the content of a file."""
        return await self._namespace.read(path)

    async def apply(self, changes: Sequence[Change], reason: str) -> None:
        """Apply changes in order; directories that exist already are left as they are."""
        journal = self._archive.writer(Actor(str(self._owner), new_session_name("e"), self._tool, reason))
        try:
            tree = SessionTree(self._namespace, None, journal)
            for change in changes:
                with contextlib.suppress(FileExistsError):
                    await tree.apply(change)
        finally:
            journal.close()


class JudgedLines:
    """Implements `context.grounding.review.Citer`: citations of sources as a context had them."""

    def __init__(self, resolver: SourceResolver, citations: Citations) -> None:
        self._resolver = resolver
        self._citations = citations

    async def cite(self, path: str, lines: tuple[int, int], sha256: str, revision: str) -> bytes:
        """Return the value of `cites` for lines of the content with this SHA-256; empty if no version has it any more."""
        data = await self._resolver.fetch(path, sha256, revision)
        return b"" if data is None else await self._citations.cite_content(Span(path, *lines), data)
