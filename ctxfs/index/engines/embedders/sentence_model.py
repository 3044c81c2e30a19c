"""Local ONNX sentence models. No other file imports ONNX Runtime and the tokenizer.

The folder has the layout of `ctxfs model install`, or of an export by sentence-transformers or Optimum:
model.onnx (or onnx/model.onnx) and tokenizer.json.
1_Pooling/config.json, sentence_bert_config.json and config_sentence_transformers.json are optional.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as HostPath
from typing import Any

import numpy as np

from ctxfs.index.engines.embedders import Vectors, normalise
from ctxfs.index.engines.model_files import weights_of
from ctxfs.model.errors import CommandError

_DEFAULT_MAX_TOKENS = 256
_MAX_TOKENS = 512
_PADDING_NAMES = ("[PAD]", "<pad>")
_REMEDY = "export it again (tokenizer.json and model.onnx), or: ctxfs model install"


class SentenceModel:
    """A loaded model with its tokenizer. Texts are truncated to the maximum input length."""

    def __init__(self, folder: HostPath, threads: int) -> None:
        weights = weights_of(folder)
        if weights is None:
            raise CommandError(f"no embedding model in '{folder}'", "install it: ctxfs model install")
        import onnxruntime
        import tokenizers

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # The arena never shrinks, so that it would hold the memory of the largest batch forever.
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # both libraries raise their own exception types
            raise CommandError(f"the embedding model in '{folder}' cannot be read: {error}", _REMEDY) from error
        self._executor = ThreadPoolExecutor(threads, "ctxfs-embed")
        self._input_names = [value.name for value in self._session.get_inputs()]
        output = self._session.get_outputs()[0]
        self._output_name, self._dimensions = output.name, _check_output_shape(output.shape, folder)
        self._is_pooled = len(output.shape) == 2
        self._pools_first_token = bool(
            _read_settings(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token")
        )
        prompts = _read_settings(folder / "config_sentence_transformers.json").get("prompts") or {}
        self._query_prompt = str(prompts.get("query") or "")
        self._document_prompt = str(prompts.get("document") or prompts.get("passage") or "")
        self._padding_id = next(
            (n for name in _PADDING_NAMES if (n := self._tokenizer.token_to_id(name)) is not None), 0
        )
        # The published tokenizer files contain padding, and truncation at 128 tokens.
        self._tokenizer.no_padding()
        max_tokens = _read_settings(folder / "sentence_bert_config.json").get("max_seq_length") or _DEFAULT_MAX_TOKENS
        self._tokenizer.enable_truncation(min(int(max_tokens), _MAX_TOKENS))

    @property
    def dimensions(self) -> int:
        """The number of components of a vector."""
        return self._dimensions

    def embed_query(self, text: str) -> Vectors:
        """Embed a query."""
        return self._run_model(self._tokenizer.encode(self._query_prompt + text).ids)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts."""
        return self._embed_prompted([self._document_prompt + text for text in texts])

    def _embed_prompted(self, texts: Sequence[str]) -> Vectors:
        """Embed texts, one text a run and one thread a run.

        An int8 model scales its activations over all texts of a run.
        So in a batch a vector would depend on its neighbours: cosine .99 to itself, .96 at worst.
        Then two indexes of the same files would differ.

        Single texts cost nothing: on two processors 74 long texts a second, against 53 in batches.
        For short texts it is 800 a second either way.
        """
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        out = np.empty((len(texts), self._dimensions), dtype=np.float32)
        for row, vector in enumerate(self._executor.map(self._run_model, encoded)):
            out[row] = vector
        return out

    def _run_model(self, tokens: list[int]) -> Vectors:
        ids = np.array([tokens or [self._padding_id]], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        (output,) = self._session.run([self._output_name], {name: inputs[name] for name in self._input_names})
        row: Vectors = normalise(output if self._is_pooled else self._pool_tokens(output))[0]
        return row

    def _pool_tokens(self, hidden: Any) -> Any:
        return hidden[:, 0] if self._pools_first_token else hidden.mean(axis=1)


def _read_settings(file: HostPath) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CommandError(f"'{file}' cannot be read: {error}", _REMEDY) from error
    return settings if isinstance(settings, dict) else {}


def _check_output_shape(shape: Sequence[object], folder: HostPath) -> int:
    if len(shape) not in (2, 3) or not isinstance(shape[-1], int):
        raise CommandError(f"the model in '{folder}' does not give sentence or token vectors: {shape}", _REMEDY)
    return shape[-1]
