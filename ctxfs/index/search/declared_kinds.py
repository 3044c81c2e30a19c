"""Kinds of files that the index does not derive from paths: the store declares them."""

from collections.abc import Sequence
from dataclasses import replace

from ctxfs.index.query import KindFolders
from ctxfs.index.search.results import Hit, SearchResults


class DeclaredKinds:
    """The declared kinds of a store. This one has none."""

    def folders_of(self, kinds: Sequence[str]) -> KindFolders:
        """Return the folders of those of the kinds that are declared; it may block."""
        return KindFolders()

    def kind_of(self, path: str, kind: str) -> str:
        """Return the kind of a file with this path and indexed kind."""
        return kind

    def label(self, results: SearchResults) -> SearchResults:
        """Return results whose hits have the declared kinds of their files."""
        hits = tuple(map(self._label, results.hits))
        return replace(results, hits=hits) if hits != results.hits else results

    def _label(self, hit: Hit) -> Hit:
        kind = self.kind_of(hit.path, hit.chunk.kind)
        return hit if kind == hit.chunk.kind else replace(hit, chunk=hit.chunk._replace(kind=kind))


NO_DECLARED_KINDS = DeclaredKinds()
