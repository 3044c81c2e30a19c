"""Token counting: by the built-in bound, or exactly by a tokenizer that the user provides."""

import hashlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path as HostPath
from typing import Any, Protocol

from ctxfs.context.build.token_bound import upper_bound
from ctxfs.model.errors import invalid
from ctxfs.model.installation import install_command, is_importable

_TIKTOKEN_FILES = "https://openaipublic.blob.core.windows.net/"
_TIKTOKEN = {
    "cl100k_base": ("encodings/cl100k_base.tiktoken",),
    "o200k_base": ("encodings/o200k_base.tiktoken",),
    "p50k_base": ("encodings/p50k_base.tiktoken",),
    "r50k_base": ("encodings/r50k_base.tiktoken",),
    "gpt2": ("gpt-2/encodings/main/vocab.bpe", "gpt-2/encodings/main/encoder.json"),
}
_MAX_CACHED_CHARS = 4000


class Tokenizer(Protocol):
    """A counter of the tokens of a text for one model family."""

    name: str

    def count(self, text: str) -> int:
        """Return the tokens in `text`; the built-in bound returns at least each fitted tokenizer's count."""
        ...


class BoundTokenizer:
    """An upper bound for common byte-pair tokenizers, from the shape of the text alone."""

    name = "bound"

    def count(self, text: str) -> int:
        """Return `upper_bound` of the text."""
        return upper_bound(text)


class FileTokenizer:
    """Exact counts by a `tokenizer.json` that the user names."""

    def __init__(self, file: HostPath) -> None:
        if not is_importable("tokenizers"):
            raise invalid("tokenizer", f"'{file}' needs tokenizers: {install_command('meaning')}")
        import tokenizers

        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception for every kind of bad file
            raise invalid("tokenizer", f"cannot read the tokenizer '{file}': {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.name = str(file)
        # The same candidates are counted again for every query that matches them.
        self._cached_count = lru_cache(maxsize=16384)(self._count)

    def count(self, text: str) -> int:
        """Return the tokens, without the special ones that a model adds around a text."""
        return self._cached_count(text) if len(text) <= _MAX_CACHED_CHARS else self._count(text)

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


class TiktokenTokenizer:
    """Exact counts by an encoding of tiktoken, whose files must be in its cache: nothing is downloaded."""

    def __init__(self, name: str) -> None:
        try:
            import tiktoken
        except ImportError as error:
            raise invalid("tokenizer", f"'{name}' needs tiktoken: pip install tiktoken") from error
        if not _is_cached(name):
            raise invalid(
                "tokenizer",
                f"the files of '{name}' are not in tiktoken's cache and nothing is fetched from here: run"
                f" python -c 'import tiktoken; tiktoken.get_encoding(\"{name}\")' once, with $TIKTOKEN_CACHE_DIR set as for ctxfs",
            )
        self._encoding: Any = tiktoken.get_encoding(name)
        self.name = name
        self._cached_count = lru_cache(maxsize=16384)(self._count)

    def count(self, text: str) -> int:
        """Return the tokens of ordinary text: the spelling of a special token counts as text."""
        return self._cached_count(text) if len(text) <= _MAX_CACHED_CHARS else self._count(text)

    def _count(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text))


def _is_cached(name: str) -> bool:
    """Return True if tiktoken will not access the network: it caches each file under the SHA-1 of its URL."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    folder = folder or os.path.join(tempfile.gettempdir(), "data-gym-cache")
    return all(
        os.path.exists(
            os.path.join(folder, hashlib.sha1(f"{_TIKTOKEN_FILES}{file}".encode(), usedforsecurity=False).hexdigest())
        )
        for file in _TIKTOKEN[name]
    )


@lru_cache(maxsize=8)
def open_tokenizer(name: str) -> Tokenizer:
    """Open `bound`, a tokenizer.json by its path, or an encoding of tiktoken; raise EINVAL for other names."""
    if name == "bound":
        return BoundTokenizer()
    if name in _TIKTOKEN:
        return TiktokenTokenizer(name)
    file = HostPath(name).expanduser()
    if file.suffix == ".json" and file.is_file():
        return FileTokenizer(file)
    names = ", ".join(_TIKTOKEN)
    raise invalid("tokenizer", f"unknown tokenizer '{name}': write \"bound\", the path of a tokenizer.json, or {names}")
