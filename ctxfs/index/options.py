"""Options of the indexer: the folders to index, the embedder and the limits. Plain values, cheap to import."""

from dataclasses import dataclass
from pathlib import Path as HostPath


@dataclass(frozen=True, slots=True)
class IndexedRoot:
    """A host folder whose files appear in the tree below `prefix`.

    `exclude` and `include` are .gitignore patterns: of files that are not indexed, and of files that are no noise.
    `holds_records`: it is the folder of an event log, of whose files the records are indexed, each as a message.
    """

    prefix: str
    root: str
    exclude: tuple[str, ...] = ()
    gitignore: bool = True
    include: tuple[str, ...] = ()
    holds_records: bool = False


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """The source of vectors: a model in `folder`, or `model` of the server at `url`.

    `key_env` is the environment variable with the server's API key. `device` is where a model in a folder runs: "cpu",
    "cuda", or "auto" for CUDA where ONNX Runtime has it.
    """

    folder: str = ""
    url: str = ""
    model: str = ""
    key_env: str = ""
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class IndexerOptions:
    """The settings that the indexer uses. `embedder` is None when semantic search is switched off."""

    folder: HostPath
    embedder: EmbedderSpec | None
    threads: int
    max_file_bytes: int
    exact_below: int
