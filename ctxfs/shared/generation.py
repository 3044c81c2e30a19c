"""A generation of vectors: the data of an entry that names an embedding model, and packs of its vectors in the engine."""

import json
from dataclasses import asdict, dataclass

from ctxfs.shared.log import Entry, EntryKind
from ctxfs.versions.objects.sidecar import is_sha256

FORMAT = 1
MAX_PACKS = 200
MAX_DIMENSIONS = 4096
_MAX_VECTORS = MAX_PACKS * 100_000
_MAX_MODEL_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Generation:
    """The name of a model, the dimensions and number of its vectors, and the hashes of the packs."""

    model: str
    dimensions: int
    vectors: int
    packs: tuple[str, ...]


def encode_generation(generation: Generation) -> bytes:
    """Return the data of an entry."""
    return json.dumps({"format": FORMAT, **asdict(generation)}, ensure_ascii=False).encode()


def decode_generation(data: bytes) -> Generation:
    """Return the generation in the data of an entry. Raise ValueError for other bytes."""
    try:
        values = json.loads(data)
        version = values["format"]
        generation = Generation(values["model"], values["dimensions"], values["vectors"], tuple(values["packs"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError("it is not a generation of vectors") from error
    is_valid = (
        version == FORMAT
        and isinstance(generation.model, str)
        and 0 < len(generation.model) <= _MAX_MODEL_CHARACTERS
        and generation.model.isprintable()
        and _is_number(generation.dimensions, MAX_DIMENSIONS)
        and _is_number(generation.vectors, _MAX_VECTORS)
        and len(generation.packs) <= MAX_PACKS
        and all(isinstance(name, str) and is_sha256(name) for name in generation.packs)
    )
    if not is_valid:
        raise ValueError(f"it is not a generation of vectors of format {FORMAT}")
    return generation


def published_packs(entry: Entry) -> tuple[str, ...]:
    """Return the packs of vectors that an entry names; none for entries of other kinds, and for refused ones."""
    if entry.kind is not EntryKind.INDEX:
        return ()
    try:
        return decode_generation(entry.data).packs
    except ValueError:
        return ()


def _is_number(value: object, maximum: int) -> bool:
    return type(value) is int and 0 < value <= maximum
