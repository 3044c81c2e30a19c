"""Texts to vectors. The only room that runs ONNX Runtime and the tokenizer."""

import json
from collections.abc import Sequence
from pathlib import Path as HostPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ctxfs.model.errors import CommandError

Vectors = npt.NDArray[np.float32]

MAX_TOKENS = 256
_BATCH_TOKENS = 1024  # measured on two cores: 82 texts/s; 512 → 78, 2048 → 71, 4096 → 51


class Embedder(Protocol):
    """Turns texts into unit vectors. `name` changes whenever the same text would get another vector."""

    name: str
    dimensions: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dimensions], rows of length one. Blocks; may be called from several threads."""
        ...


class OnnxEmbedder:
    """A sentence model in a folder: model.onnx, tokenizer.json, model.json."""

    def __init__(self, folder: HostPath, threads: int) -> None:
        try:
            about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CommandError(f"no embedding model in '{folder}'", "install it: ctxfs model install") from error
        import onnxruntime
        import tokenizers

        self.name = f"{about['name']}-{about.get('quantised', 'f32')}-{about.get('weights_sha256', '')[:12]}"
        self.dimensions = int(about["dimensions"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # An arena that only grows would keep the largest batch's memory for good.
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        # The published file has padding and truncation at 128 baked in.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Batches of similar length, so that little is spent on padding."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        out = np.empty((len(texts), self.dimensions), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda number: len(encoded[number]))
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and len(encoded[order[stop]]) * (stop + 1 - start) <= _BATCH_TOKENS:
                stop += 1
            rows = order[start:stop]
            out[rows] = self._run([encoded[row] for row in rows])
            start = stop
        return out

    def _run(self, batch: list[list[int]]) -> Vectors:
        width = max(len(ids) for ids in batch)
        ids = np.zeros((len(batch), width), dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        (found,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        result: Vectors = found
        return result
