"""Embedding client for an HTTP server with OpenAI's `/v1/embeddings` API. No other file imports the HTTP client.

It is used only if `[endpoint]` in ctxfs.toml names a server, because the texts leave this machine.
"""

import os
import time
from collections.abc import Sequence
from typing import Any

import httpx2
import numpy as np

from ctxfs.index.engines.embedders import Vectors, unit
from ctxfs.index.options import EmbedderSpec
from ctxfs.model.errors import CommandError

_BATCH = 64
_MAX_CHARACTERS = 8000  # models of this kind take 512 to 8,192 tokens; a chunk is shorter than either
_SECONDS = 60.0
_QUESTION_SECONDS = 10.0
_ATTEMPTS = 4
_AGAIN = frozenset((408, 409, 429, 500, 502, 503, 504))


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
            self._client = httpx2.Client(headers=headers, timeout=_SECONDS)
        except (ValueError, httpx2.HTTPError) as error:
            raise CommandError(f"[endpoint] cannot be used: {error}", self._remedy) from error
        self._dimensions = 0

    @property
    def dimensions(self) -> int:
        """The number of components of a vector, from the first response."""
        if not self._dimensions:
            self.embed(["How many numbers are there in a vector?"])
        return self._dimensions

    def embed_question(self, text: str) -> Vectors:
        """Embed a query in a single attempt with a short timeout, because the caller waits for it."""
        row: Vectors = self._ask([text], attempts=1, seconds=_QUESTION_SECONDS)[0]
        return row

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts in batches, and retry with exponential backoff while the server is overloaded."""
        parts = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
        return np.concatenate([self._ask(part, attempts=_ATTEMPTS, seconds=_SECONDS) for part in parts])

    def _ask(self, texts: Sequence[str], attempts: int, seconds: float) -> Vectors:
        # Some servers refuse an empty text.
        asked = {"model": self._model, "input": [text[:_MAX_CHARACTERS] or " " for text in texts]}
        for attempt in range(1, attempts + 1):
            try:
                reply = self._client.post(self._url, json=asked, timeout=seconds)
            except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
                fault = f"{type(error).__name__}: {error}"
            else:
                if reply.status_code == 200:
                    return self._read(reply, len(texts))
                fault = f"it answered {reply.status_code}: {reply.text[:200]}"
                if reply.status_code not in _AGAIN:
                    break
            if attempt < attempts:
                time.sleep(2.0 ** (attempt - 1))
        raise CommandError(f"the embedding server at {self._url} cannot be asked: {fault}", self._remedy)

    def _read(self, reply: Any, count: int) -> Vectors:
        try:
            rows = sorted(reply.json()["data"], key=lambda row: row["index"])
            found = np.array([row["embedding"] for row in rows], dtype=np.float32)
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{self._url} gave no vectors: {reply.text[:200]}", self._remedy) from error
        if found.ndim != 2 or len(found) != count or found.shape[1] != (self._dimensions or found.shape[1]):
            raise CommandError(f"{self._url} gave vectors of shape {found.shape} for {count} texts", self._remedy)
        self._dimensions = found.shape[1]
        return unit(found)
