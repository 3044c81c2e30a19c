"""Generations of vectors: their format, and hostile entries and packs."""

import hashlib
import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from ctxfs.shared.generation import Generation, decode_generation, encode_generation
from ctxfs.shared.vector_pack import MAX_PACK_BYTES, decode_pack, encode_packs

DIMENSIONS = 8
GENERATION = Generation("small 123 (r1)", DIMENSIONS, 3, ("a" * 64,))


def vector(seed: int) -> bytes:
    values = np.random.default_rng(seed).normal(size=DIMENSIONS)
    return (values / np.linalg.norm(values)).astype("<f2").tobytes()


def pairs(count: int) -> list[tuple[bytes, bytes]]:
    return [(hashlib.sha256(bytes([number])).digest(), vector(number)) for number in range(count)]


def test_generation_comes_back_as_it_was_encoded() -> None:
    assert decode_generation(encode_generation(GENERATION)) == GENERATION


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"model": ""},
        {"model": "x" * 501},
        {"model": "a\nb"},
        {"model": 1},
        {"dimensions": 0},
        {"dimensions": 10**6},
        {"dimensions": True},
        {"vectors": -1},
        {"vectors": 1.5},
        {"packs": ["../../etc/passwd"]},
        {"packs": ["a" * 64] * 201},
        {"packs": [1]},
        {"packs": 7},
    ],
)
def test_generation_that_no_node_has_written_is_refused(change: dict[str, object]) -> None:
    values = json.loads(encode_generation(GENERATION)) | change
    with pytest.raises(ValueError, match="not a generation"):
        decode_generation(json.dumps(values).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\x80\x04.", b"[" * 100_000, b"null"])
def test_other_bytes_are_no_generation(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a generation"):
        decode_generation(data)


def test_vectors_come_back_as_they_were_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = pairs(7)
    (pack,) = encode_packs(stored, DIMENSIONS)
    assert decode_pack(pack, DIMENSIONS) == dict(stored)
    monkeypatch.setattr("ctxfs.shared.vector_pack.MAX_PACK_BYTES", 200)
    packs = list(encode_packs(stored, DIMENSIONS))
    assert len(packs) > 1
    assert all(len(pack) <= 200 for pack in packs)
    assert {digest: row for pack in packs for digest, row in decode_pack(pack, DIMENSIONS).items()} == dict(stored)
    assert MAX_PACK_BYTES > 200


def test_damaged_and_false_packs_are_refused() -> None:
    stored = pairs(3)
    (pack,) = encode_packs(stored, DIMENSIONS)
    header = struct.calcsize("<8sHII")
    for data in (b"", pack[:-1], pack + b"x", b"x" + pack[1:], pack[:8] + b"\x02" + pack[9:], b"\x80\x04N." * 20):
        with pytest.raises(ValueError, match=r"truncated|format|size"):
            decode_pack(data, DIMENSIONS)
    with pytest.raises(ValueError, match="dimensions"):
        decode_pack(pack, DIMENSIONS + 1)
    many = pack[: header - 4] + struct.pack("<I", 2**32 - 1) + pack[header:]
    with pytest.raises(ValueError, match="size"):
        decode_pack(many, DIMENSIONS)
    for false in (np.nan, np.inf, 0.0, 3.0):
        values = np.full(DIMENSIONS, false, "<f2").tobytes()
        (bad,) = encode_packs([*stored, (b"d" * 32, values)], DIMENSIONS)
        with pytest.raises(ValueError, match="no model"):
            decode_pack(bad, DIMENSIONS)


def test_generation_of_other_vectors_has_other_bytes() -> None:
    assert encode_generation(GENERATION) != encode_generation(replace(GENERATION, packs=("b" * 64,)))
