"""Embedders, which compute vectors of texts: a local model (`sentence_model`) or an HTTP server (`endpoint`)."""

import hashlib
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path as HostPath
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctxfs.index.engines.model_files import weights_of
from ctxfs.index.options import EmbedderSpec
from ctxfs.model.errors import CommandError

Vectors = npt.NDArray[np.float32]

_FILE_END_BYTES = 1 << 20


# Counts the ways in which a chunk becomes a vector (its text, the windows). A change of them also has to change
# `catalog_schema.SCHEMA_VERSION`, so that vectors of different recipes are never compared.
_RECIPE = 3


class Stage(IntEnum):
    """The part of a text that its vector contains. The value 0 is left for "nothing more to do"."""

    BEGINNING = 1
    WINDOW = 2
    WHOLE = 3


class Embedder(Protocol):
    """An embedding model with unit vectors. The same text gives the same vector in any batch.

    Methods block, may run in several threads, and raise CommandError on failure.
    """

    @property
    def dimensions(self) -> int:
        """The number of components of a vector."""
        ...

    @property
    def device(self) -> str:
        """The device of the model: "cpu", "cuda", "server", or "cpu" with the reason why it is not the wanted one."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed documents: float32 [len(texts), dimensions], rows of length one."""
        ...

    def embed_stage(
        self, texts: Sequence[str], stage: Stage, earlier: Vectors | None = None
    ) -> tuple[Vectors, Sequence[bool]]:
        """Embed documents up to a stage: float32 [len(texts), dimensions], and True for each text that has more.

        `earlier` are the vectors of the stage WINDOW, which WHOLE needs. `embed` is the stage WINDOW.
        """
        ...

    def embed_query(self, text: str) -> Vectors:
        """Embed a query: float32 [dimensions]. Some models use a different prompt for queries."""
        ...

    def trust(self, text: str) -> float:
        """Return the share, 0 to 1, by which the vector of a query counts: 1 if the vocabulary covers its words."""
        ...

    def has_word(self, word: str) -> bool | None:
        """Return True if the vocabulary contains a word as a whole; None if the vocabulary is not known."""
        ...


def open_embedder(spec: EmbedderSpec, threads: int) -> Embedder:
    """Open the embedder that `spec` names. Raise CommandError with the remedy on failure."""
    if spec.url:
        from ctxfs.index.engines.embedders.endpoint import EndpointEmbedder

        return EndpointEmbedder(spec)
    from ctxfs.index.engines.embedders.sentence_model import SentenceModel

    return SentenceModel(HostPath(spec.folder), threads, spec.device)


def model_name(spec: EmbedderSpec) -> str:
    """Return the name of a spec's model in the catalog. Cheap.

    The name changes whenever the same text would get another vector.
    For local weights it depends on their size and on both ends of the file, because training changes all of it.
    """
    if spec.url:
        return f"{spec.model} at {spec.url} ({_RECIPE})"
    weights = weights_of(HostPath(spec.folder))
    if weights is None:
        raise CommandError(f"no embedding model in '{spec.folder}'", "install it: ctxfs model install")
    digest = hashlib.sha256(str(weights.stat().st_size).encode())
    with open(weights, "rb") as file:
        digest.update(file.read(_FILE_END_BYTES))
        file.seek(max(0, weights.stat().st_size - _FILE_END_BYTES))
        digest.update(file.read(_FILE_END_BYTES))
    return f"{HostPath(spec.folder).name} {digest.hexdigest()[:12]} ({_RECIPE})"


def normalise(vectors: Vectors) -> Vectors:
    """Scale rows to length one. Raise CommandError for a row that is not finite or is zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(vectors).all() or not lengths.all():
        raise CommandError("the embedding model gave a vector without a direction", "check it, or choose another model")
    scaled: Vectors = (vectors / lengths).astype(np.float32)
    return scaled
