"""The totals of a catalog, which are counted only after a change: they scan its tables."""

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.search.results import IndexState

_MAX_SKIPPED_LISTED = 1000


class IndexTotals:
    """The totals of the catalog that was counted last. One thread at a time may use it."""

    def __init__(self) -> None:
        self._counted: tuple[Catalog, int, IndexState] | None = None

    def count(self, catalog: Catalog) -> IndexState:
        """Return the totals of a catalog, without the state of its vectors."""
        version, counted = catalog.data_version(), self._counted
        if counted is None or counted[:2] != (catalog, version):
            state = IndexState(
                catalog.counts(),
                catalog.skipped(),
                skipped_files=catalog.skipped_files(_MAX_SKIPPED_LISTED),
                noise=catalog.noise_counts(),
                partial=catalog.count_partial(),
                ignored_folders=catalog.ignored_folders(),
                chunks_per_second=catalog.embeddings.chunks_per_second,
                device=catalog.embeddings.device,
            )
            self._counted = counted = catalog, version, state
        return counted[2]
