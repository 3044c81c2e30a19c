"""A LlamaIndex reader over the tree: files as documents, with their attributes."""

from collections.abc import Iterable, Iterator
from typing import Any

from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document

from ctxfs.library.store import Store

_COMPUTED = ("author", "created_at", "kind", "sha256", "source", "state", "trust", "valid_from", "valid_until")


class ContextReader(BaseReader):  # type: ignore[misc]  # not installed where types are checked
    """Reads the text of the files that match a pattern, PDF and office files included.

    The identifier of a document is its path, so that a later load replaces it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def lazy_load_data(
        self, pattern: str = "**", *, below: str = "", limit: int = 10_000, **_: Any
    ) -> Iterable[Document]:
        """Yield a document for each indexed file that matches `pattern`; files without text are left out."""
        return self._documents(pattern, below, limit)

    def _documents(self, pattern: str, below: str, limit: int) -> Iterator[Document]:
        for path in self._store.glob(pattern, below=below, limit=limit):
            try:
                text, attributes = self._store.read_extracted(path), self._store.meta(path)
            except FileNotFoundError:  # removed meanwhile
                continue
            if text:
                metadata = {"path": path, **{name: attributes[name] for name in _COMPUTED if name in attributes}}
                yield Document(id_=path, text=text, metadata=metadata)
