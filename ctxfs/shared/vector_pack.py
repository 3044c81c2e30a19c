"""Packs of vectors, which nodes share by the digest of their text. Other machines make them: numbers, and nothing else.

A pack is a header (`magic, format, dimensions, count`), then `count` records: the SHA-256 of the text, and its vector in
little-endian float16.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

MAX_PACK_BYTES = 16_000_000
_FORMAT = 1
_LENGTH_TOLERANCE = 0.02  # in the length of a vector, which is rounded to float16
_MAGIC = b"ctxfsvec"
_HEADER = struct.Struct("<8sHII")
_DIGEST_BYTES = 32
_VALUE_BYTES = 2


def encode_packs(vectors: Iterable[tuple[bytes, bytes]], dimensions: int) -> Iterator[bytes]:
    """Yield packs of (digest, vector) pairs, in order, each at most `MAX_PACK_BYTES` long."""
    limit = (MAX_PACK_BYTES - _HEADER.size) // _record_bytes(dimensions)
    records: list[bytes] = []
    for digest, vector in vectors:
        records.append(digest + vector)
        if len(records) == limit:
            yield _join_records(records, dimensions)
            records = []
    if records:
        yield _join_records(records, dimensions)


def _join_records(records: list[bytes], dimensions: int) -> bytes:
    return b"".join((_HEADER.pack(_MAGIC, _FORMAT, dimensions, len(records)), *records))


def decode_pack(data: bytes, dimensions: int) -> Mapping[bytes, bytes]:
    """Return the vectors of a pack by digest. Raise ValueError for other bytes, and for a vector not of length one."""
    if len(data) < _HEADER.size:
        raise ValueError("it is truncated")
    magic, version, stated, count = _HEADER.unpack_from(data)
    size = _record_bytes(dimensions)
    if (magic, version) != (_MAGIC, _FORMAT):
        raise ValueError("it is not a pack of vectors of this format")
    if stated != dimensions or len(data) != _HEADER.size + count * size:
        raise ValueError("its size or its dimensions are wrong")
    rows = np.frombuffer(data, np.uint8, offset=_HEADER.size).reshape(count, size)
    values = np.ascontiguousarray(rows[:, _DIGEST_BYTES:]).view("<f2").astype(np.float32)
    lengths = np.linalg.norm(values, axis=1)
    if not (np.abs(lengths - 1) <= _LENGTH_TOLERANCE).all():  # also for values that are not finite
        raise ValueError("it holds a vector that no model has made")
    starts = range(_HEADER.size, len(data), size)
    return {data[start : start + _DIGEST_BYTES]: data[start + _DIGEST_BYTES : start + size] for start in starts}


def _record_bytes(dimensions: int) -> int:
    return _DIGEST_BYTES + _VALUE_BYTES * dimensions
