"""Texts to vectors: one protocol, and who speaks it. A model in a folder (`sentence_model`), or a server (`endpoint`)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path as HostPath
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctxfs.index.engines.model_files import weights_of
from ctxfs.index.options import EmbedderSpec
from ctxfs.model.errors import CommandError

Vectors = npt.NDArray[np.float32]

_ENDS = 1 << 20


class Embedder(Protocol):
    """Turns texts into unit vectors. Methods block; they may be called from several threads. CommandError if it cannot."""

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Texts that are to be found, as float32 [len(texts), dimensions], rows of length one."""
        ...

    def embed_question(self, text: str) -> Vectors:
        """A text to find them by, as float32 [dimensions]; some models want to be told the difference."""
        ...


def open_embedder(spec: EmbedderSpec, threads: int) -> Embedder:
    """The embedder that `spec` names; CommandError with the remedy if it cannot be had."""
    if spec.url:
        from ctxfs.index.engines.embedders.endpoint import EndpointEmbedder

        return EndpointEmbedder(spec)
    from ctxfs.index.engines.embedders.sentence_model import SentenceModel

    return SentenceModel(HostPath(spec.folder), threads)


def name_of(spec: EmbedderSpec) -> str:
    """What its vectors are known by: changes whenever the same text would get another vector. Cheap.

    Of weights the size and both ends are looked at: whoever trains a model changes all of it.
    """
    if spec.url:
        return f"{spec.model} at {spec.url}"
    weights = weights_of(HostPath(spec.folder))
    if weights is None:
        raise CommandError(f"no embedding model in '{spec.folder}'", "install it: ctxfs model install")
    digest = hashlib.sha256(str(weights.stat().st_size).encode())
    with open(weights, "rb") as file:
        digest.update(file.read(_ENDS))
        file.seek(max(0, weights.stat().st_size - _ENDS))
        digest.update(file.read(_ENDS))
    return f"{HostPath(spec.folder).name} {digest.hexdigest()[:12]}"


def unit(vectors: Vectors) -> Vectors:
    """Rows of length one; CommandError for what is no vector (not finite, or of no length)."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(vectors).all() or not lengths.all():
        raise CommandError("the embedding model gave a vector without a direction", "check it, or choose another model")
    scaled: Vectors = (vectors / lengths).astype(np.float32)
    return scaled
