"""A LangChain retriever over the tree: the hits of a question as documents, with their place and probability."""

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from ctxfs.library.store import Store


class ContextRetriever(BaseRetriever):  # type: ignore[misc]  # not installed where types are checked
    """Retrieves the passages that answer a question; none if the searched files do not answer it, unless `weak`.

    `below` limits to a directory, `k` is the maximum number of documents.
    """

    store: Store
    below: str = ""
    k: int = 10
    weak: bool = False

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        answer = self.store.search(query, below=self.below, limit=self.k)
        hits = [hit for hit in answer if self.weak or (answer.verdict != "unknown" and hit.is_relevant)]
        return [
            Document(
                id=hit.place,
                page_content=hit.text,
                metadata={
                    "source": hit.path,
                    "first_line": hit.first,
                    "last_line": hit.last,
                    "kind": hit.kind,
                    "score": hit.score,
                    "probability": hit.probability,
                    "label": hit.label,
                    "verdict": answer.verdict,
                },
            )
            for hit in hits
        ]
