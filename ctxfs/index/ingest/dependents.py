"""Dependents: the files of a source whose text was made with another content of their companion than the present one."""

from collections.abc import Iterator

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.catalog_schema import FileStat
from ctxfs.index.extract.companions import companion_label, companion_of, find_companion_label, read_companion
from ctxfs.index.extract.ignore import IgnoreRules
from ctxfs.index.options import IndexedRoot


def find_stale_dependents(
    catalog: Catalog, root: IndexedRoot, rules: IgnoreRules, companion: str
) -> Iterator[tuple[str, tuple[str, ...], FileStat]]:
    """Yield (path, parts below the source, stat) of the files that depend on a changed or deleted companion."""
    folder, parts = companion.rpartition("/")[0], _split(root, companion)
    for path in catalog.paths_below(folder):
        dependent, row = _split(root, path), catalog.file(path)
        if row is None or companion_of(dependent) != parts:
            continue
        label = companion_label(read_companion(root.root, dependent, rules.ignores_path))
        if find_companion_label(catalog.attributes(row.id)) != label:
            yield path, dependent, row.stat


def _split(root: IndexedRoot, path: str) -> tuple[str, ...]:
    return tuple(path.removeprefix(f"{root.prefix}/").split("/"))
