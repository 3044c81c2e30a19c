"""Local ONNX sentence models. No other file imports the tokenizer.

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

from ctxfs.index.engines.embedders import Stage, Vectors, normalise
from ctxfs.index.engines.embedders.onnx_session import OnnxSession
from ctxfs.index.engines.embedders.vocabulary import Token, trust_in
from ctxfs.index.engines.model_files import weights_of
from ctxfs.model.errors import CommandError
from ctxfs.model.installation import require_extra

_DEFAULT_MAX_TOKENS = 256
_MAX_TOKENS = 512
# Of the time of 256 tokens, 56 take a third, and the refinement to 128 of the texts that are longer takes two thirds.
_BEGINNING_TOKENS = 56
_WINDOW_TOKENS = 128
# A window of fewer tokens behind another one is a part of that one: a run of its own costs as much as 20 tokens.
_MIN_TAIL_TOKENS = 32
_MAX_TAIL_WINDOWS = 16
_TAIL_WEIGHT = 0.25
_PADDING_NAMES = ("[PAD]", "<pad>")
_UNKNOWN_NAMES = ("[UNK]", "<unk>")
_KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_REMEDY = "export it again (tokenizer.json and model.onnx), or: ctxfs model install"


class SentenceModel:
    """A loaded model with its tokenizer. Texts are truncated to the maximum input length."""

    def __init__(self, folder: HostPath, threads: int, device: str = "cpu") -> None:
        weights, self._folder = weights_of(folder), folder
        if weights is None:
            raise CommandError(f"no embedding model in '{folder}'", "install it: ctxfs model install")
        require_extra("meaning", "search by meaning")
        import tokenizers

        try:
            self._session = OnnxSession(weights, device)
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # both libraries raise their own exception types
            raise CommandError(f"the embedding model in '{folder}' cannot be read: {error}", _REMEDY) from error
        self._executor = ThreadPoolExecutor(threads, "ctxfs-embed")
        self._input_names = _check_inputs(self._session.input_names, folder)
        self._output_name, shape = self._session.output
        self._dimensions = _check_output_shape(shape, folder)
        self._is_pooled = len(shape) == 2
        self._pools_first_token = bool(
            _read_settings(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token")
        )
        prompts = _read_settings(folder / "config_sentence_transformers.json").get("prompts")
        self._query_prompt = _read_prompt(prompts, "query")
        self._document_prompt = _read_prompt(prompts, "document") or _read_prompt(prompts, "passage")
        self._padding_id = next(
            (n for name in _PADDING_NAMES if (n := self._tokenizer.token_to_id(name)) is not None), 0
        )
        self._unknown_id = next(
            (n for name in _UNKNOWN_NAMES if (n := self._tokenizer.token_to_id(name)) is not None), None
        )
        limit = _read_settings(folder / "sentence_bert_config.json").get("max_seq_length")
        max_tokens = min(limit, _MAX_TOKENS) if isinstance(limit, int) and limit > 0 else _DEFAULT_MAX_TOKENS
        self._beginning, self._window = _copy_tokenizer(self._tokenizer), _copy_tokenizer(self._tokenizer)
        self._max_tokens, self._window_tokens = max_tokens, min(max_tokens, _WINDOW_TOKENS)
        for tokenizer, tokens in (
            (self._tokenizer, max_tokens),
            (self._beginning, min(max_tokens, _BEGINNING_TOKENS)),
            (self._window, self._window_tokens),
        ):
            tokenizer.no_padding()  # the published files contain padding, and truncation at 128 tokens
            tokenizer.enable_truncation(tokens)

    @property
    def dimensions(self) -> int:
        """The number of components of a vector."""
        return self._dimensions

    @property
    def device(self) -> str:
        """The device of the model, with the reason if it is not the wanted one."""
        return self._session.device

    def embed_query(self, text: str) -> Vectors:
        """Embed a query."""
        return self._run_model(self._tokenizer.encode(self._query_prompt + text).ids)

    def trust(self, text: str) -> float:
        """Return the share by which the vector of a query counts, from the tokens of its words."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return trust_in(
            [
                Token(text[start:end], word, token != self._unknown_id)
                for token, (start, end), word in zip(encoding.ids, encoding.offsets, encoding.word_ids, strict=True)
            ]
        )

    def has_word(self, word: str) -> bool | None:
        """Return True if the vocabulary contains a word as a whole."""
        tokens = self._tokenizer.encode(word, add_special_tokens=False).ids
        return len(tokens) == 1 and tokens[0] != self._unknown_id

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed the first window of texts."""
        return self.embed_stage(texts, Stage.WINDOW)[0]

    def embed_stage(
        self, texts: Sequence[str], stage: Stage, earlier: Vectors | None = None
    ) -> tuple[Vectors, Sequence[bool]]:
        """Embed the beginning of texts, their first window, or add the windows behind it to `earlier`."""
        tokenizer = self._beginning if stage is Stage.BEGINNING else self._window
        encoded = tokenizer.encode_batch([self._document_prompt + text for text in texts])
        windows = [_cut_windows(encoding, self._max_tokens) for encoding in encoded]
        if stage is Stage.WHOLE:
            assert earlier is not None
            return self._add_tails(earlier, [tails for _, *tails in windows]), [False] * len(texts)
        return self._embed_tokens([first for first, *_ in windows]), [len(cut) > 1 for cut in windows]

    def _add_tails(self, earlier: Vectors, windows: Sequence[Sequence[list[int]]]) -> Vectors:
        """Return the mean of each first window and the windows behind it, which weigh less for each token."""
        tails = [(row, ids) for row, cut in enumerate(windows) for ids in cut[:_MAX_TAIL_WINDOWS]]
        total = earlier * self._window_tokens
        for (row, ids), vector in zip(tails, self._embed_tokens([ids for _, ids in tails]), strict=True):
            total[row] += _TAIL_WEIGHT * len(ids) * vector
        return normalise(total)

    def _embed_tokens(self, encoded: Sequence[list[int]]) -> Vectors:
        """Embed token lists, one list a run and one thread a run.

        An int8 model scales its activations over all texts of a run.
        So in a batch a vector would depend on its neighbours: cosine .99 to itself, .96 at worst.
        Then two indexes of the same files would differ.

        Single texts cost nothing: on two processors 74 long texts a second, against 53 in batches.
        For short texts it is 800 a second either way.
        """
        out = np.empty((len(encoded), self._dimensions), dtype=np.float32)
        for row, vector in enumerate(self._executor.map(self._run_model, encoded)):
            out[row] = vector
        return out

    def _run_model(self, tokens: list[int]) -> Vectors:
        ids = np.array([tokens or [self._padding_id]], dtype=np.int64)
        values = (ids, np.ones_like(ids), np.zeros_like(ids))
        inputs = {name: value for name, value in zip(_KNOWN_INPUTS, values, strict=True) if name in self._input_names}
        try:
            output = self._session.run(self._output_name, inputs)
        except Exception as error:  # the library's own types; for example a token that the weights do not have
            reason = str(error).rpartition(": ")[2] or type(error).__name__
            raise CommandError(f"the model in '{self._folder}' cannot embed: {reason}", _REMEDY) from error
        row: Vectors = normalise(output if self._is_pooled else self._pool_tokens(output))[0]
        return row

    def _pool_tokens(self, hidden: Any) -> Any:
        return hidden[:, 0] if self._pools_first_token else hidden.mean(axis=1)


def _cut_windows(encoding: Any, max_tokens: int) -> list[list[int]]:
    """Return the windows of an encoded text. A short last one is a part of the one before it, if the model takes both."""
    parts = [encoding, *encoding.overflowing]
    windows: list[list[int]] = [part.ids for part in parts]
    if len(windows) > 1:
        before, mask = windows[-2], parts[-2].special_tokens_mask
        added = [
            token for token, special in zip(windows[-1], parts[-1].special_tokens_mask, strict=True) if not special
        ]
        if len(added) < _MIN_TAIL_TOKENS and len(before) + len(added) <= max_tokens:
            end = len(mask) - mask[::-1].index(0) if 0 in mask else len(mask)  # behind it are special tokens
            windows[-2:] = [[*before[:end], *added, *before[end:]]]
    return windows


def _copy_tokenizer(tokenizer: Any) -> Any:
    return type(tokenizer).from_str(tokenizer.to_str())


def _read_settings(file: HostPath) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise CommandError(f"'{file}' cannot be read: {error}", _REMEDY) from error
    return settings if isinstance(settings, dict) else {}


def _read_prompt(prompts: object, name: str) -> str:
    prompt = prompts.get(name) if isinstance(prompts, dict) else None
    return prompt if isinstance(prompt, str) else ""


def _check_inputs(names: Sequence[str], folder: HostPath) -> Sequence[str]:
    if unknown := sorted(set(names) - set(_KNOWN_INPUTS)):
        raise CommandError(f"the model in '{folder}' wants more than tokens: {', '.join(unknown)}", _REMEDY)
    return names


def _check_output_shape(shape: Sequence[object], folder: HostPath) -> int:
    if len(shape) not in (2, 3) or not isinstance(shape[-1], int):
        raise CommandError(f"the model in '{folder}' does not give sentence or token vectors: {shape}", _REMEDY)
    return shape[-1]
