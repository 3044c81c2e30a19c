"""Embedding client for an HTTP server with OpenAI's `/v1/embeddings` API. No other file imports the HTTP client.

It is used only if `[endpoint]` in ctxfs.toml names a server, because the texts leave this machine.
"""

import os
import time
from collections.abc import Sequence
from typing import Any

import httpx2
import numpy as np

from ctxfs.index.engines.embedders import Stage, Vectors, normalise
from ctxfs.index.options import EmbedderSpec
from ctxfs.model.errors import CommandError

_MAX_BATCH_TEXTS = 64
_MAX_TEXT_CHARS = 8000  # models of this kind take 512 to 8,192 tokens; a chunk is shorter than either
_DEFAULT_TIMEOUT_SECONDS = 60.0
_QUESTION_TIMEOUT_SECONDS = 10.0
_MAX_ATTEMPTS = 4
_RETRY_STATUSES = frozenset((408, 409, 429, 500, 502, 503, 504))


class EndpointEmbedder:
    """One server and the name of a model there. The key comes from an environment variable and is never stored."""

    def __init__(self, spec: EmbedderSpec) -> None:
        key = os.environ.get(spec.key_env, "") if spec.key_env else ""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url = spec.url.rstrip("/") + "/embeddings"
        self._model = spec.model
        self._remedy = (
            f"check [endpoint] in ctxfs.toml, {spec.key_env or 'its key'}, and that the server is there; "
            "words are searched meanwhile"
        )
        try:
            self._client = httpx2.Client(headers=headers, timeout=_DEFAULT_TIMEOUT_SECONDS)
        except (ValueError, httpx2.HTTPError) as error:
            raise CommandError(f"[endpoint] cannot be used: {error}", self._remedy) from error
        self._dimensions = 0

    @property
    def dimensions(self) -> int:
        """The number of components of a vector, from the first response."""
        if not self._dimensions:
            self.embed(["How many numbers are there in a vector?"])
        return self._dimensions

    @property
    def device(self) -> str:
        """The server."""
        return "server"

    def embed_query(self, text: str) -> Vectors:
        """Embed a query in a single attempt with a short timeout, because the caller waits for it."""
        row: Vectors = self._request_vectors([text], attempts=1, timeout_seconds=_QUESTION_TIMEOUT_SECONDS)[0]
        return row

    def trust(self, text: str) -> float:
        """Return 1: the vocabulary of a server is unknown."""
        return 1.0

    def has_word(self, word: str) -> bool | None:
        """Return None: the vocabulary of a server is unknown."""
        return None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts in batches, and retry with exponential backoff while the server is overloaded."""
        parts = [texts[start : start + _MAX_BATCH_TEXTS] for start in range(0, len(texts), _MAX_BATCH_TEXTS)]
        return np.concatenate(
            [
                self._request_vectors(part, attempts=_MAX_ATTEMPTS, timeout_seconds=_DEFAULT_TIMEOUT_SECONDS)
                for part in parts
            ]
        )

    def embed_stage(
        self, texts: Sequence[str], stage: Stage, earlier: Vectors | None = None
    ) -> tuple[Vectors, Sequence[bool]]:
        """Embed texts as a whole, because a server is paid by the request."""
        return self.embed(texts), [False] * len(texts)

    def _request_vectors(self, texts: Sequence[str], attempts: int, timeout_seconds: float) -> Vectors:
        # Some servers refuse an empty text.
        payload = {"model": self._model, "input": [text[:_MAX_TEXT_CHARS] or " " for text in texts]}
        for attempt in range(1, attempts + 1):
            try:
                reply = self._client.post(self._url, json=payload, timeout=timeout_seconds)
            except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
                fault = f"{type(error).__name__}: {error}"
            else:
                if reply.status_code == 200:
                    return self._parse_vectors(reply, len(texts))
                fault = f"it answered {reply.status_code}: {reply.text[:200]}"
                if reply.status_code not in _RETRY_STATUSES:
                    break
            if attempt < attempts:
                time.sleep(2.0 ** (attempt - 1))
        raise CommandError(f"the embedding server at {self._url} cannot be asked: {fault}", self._remedy)

    def _parse_vectors(self, reply: Any, count: int) -> Vectors:
        try:
            rows = sorted(reply.json()["data"], key=lambda row: row["index"])
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{self._url} gave no vectors: {reply.text[:200]}", self._remedy) from error
        if vectors.ndim != 2 or len(vectors) != count or vectors.shape[1] != (self._dimensions or vectors.shape[1]):
            raise CommandError(f"{self._url} gave vectors of shape {vectors.shape} for {count} texts", self._remedy)
        self._dimensions = vectors.shape[1]
        return normalise(vectors)
