"""What the indexer is told: which folders to follow, with which limits. Plain values, cheap to import."""

from dataclasses import dataclass
from pathlib import Path as HostPath


@dataclass(frozen=True, slots=True)
class IndexedRoot:
    """A host folder whose files appear in the tree below `prefix`."""

    prefix: str
    root: str
    exclude: tuple[str, ...] = ()
    gitignore: bool = True


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """Who makes vectors: a model in a `folder`, or `model` of the server at `url`, with the key that the variable `key_env` holds."""

    folder: str = ""
    url: str = ""
    model: str = ""
    key_env: str = ""


@dataclass(frozen=True, slots=True)
class IndexerOptions:
    """What the indexer needs to know of the settings; `embedder` is None when meaning is switched off."""

    folder: HostPath
    embedder: EmbedderSpec | None
    threads: int
    max_file_bytes: int
    exact_below: int
