"""Test the format of entries and packs, which come from other machines."""

import struct
import zlib
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxfs.shared import object_pack
from ctxfs.shared.chain import check_entries, check_head
from ctxfs.shared.entries import MAX_DATA_BYTES, MAX_ENTRY_BYTES, MAX_INLINE_BYTES, decode_entry, encode_entry
from ctxfs.shared.log import Entry, EntryKind, Head, LogDamaged, LogRefused
from ctxfs.shared.object_pack import PackError, decode_pack, encode_packs

A, B, C = ("a" * 40, "b" * 40, "c" * 40)
ENTRY = Entry(2, B, A, EntryKind.VERSIONS, "laptop", "0" * 32, b"pack", ("e" * 64,), "anchor", b"data")


def test_entry_survives_its_encoding() -> None:
    assert decode_entry(encode_entry(ENTRY), 2, 7) == replace(ENTRY, time_ns=7)


@pytest.mark.parametrize(
    "change",
    [
        {"number": 0},
        {"number": -1},
        {"number": 1},  # with a previous head
        {"number": 1 << 60},
        {"head": ""},
        {"head": "A" * 40},
        {"head": "../" + "a" * 37},
        {"previous": ""},
        {"node": ""},
        {"node": "../x"},
        {"node": "x" * 65},
        {"instance": "0"},
        {"objects": b"x" * (MAX_INLINE_BYTES + 1)},
        {"packs": ("../../etc/passwd",)},
        {"packs": ("e" * 64,) * 10_001},
        {"anchor": "a\nb"},
        {"anchor": "x" * 2001},
        {"data": b"x" * (MAX_DATA_BYTES + 1)},
    ],
)
def test_entry_that_no_node_writes_is_refused_by_both_ends(change: dict[str, object]) -> None:
    entry = replace(ENTRY, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        encode_entry(entry)
    fields = [2, entry.number, entry.head, entry.previous, "versions", entry.node, entry.instance]
    data = msgpack.packb([*fields, entry.objects, list(entry.packs), entry.anchor, entry.data])
    with pytest.raises(LogDamaged, match="entry 2"):
        decode_entry(data, 2, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb(None),
        msgpack.packb({}),
        msgpack.packb([3, *range(10)]),
        msgpack.packb([2]),
        msgpack.packb([2, 2, B, A, "other", "n", "0" * 32, b"", [], "", b""]),
        msgpack.packb([2, 2, B, A, ["versions"], "n", "0" * 32, b"", [], "", b""]),
        msgpack.packb([2, 2, B, A, "versions", "n", "0" * 32, "text", [], "", b""]),
        msgpack.packb([2, True, B, "", "versions", "n", "0" * 32, b"", [], "", b""]),
        msgpack.packb([2, 3, B, A, "versions", "n", "0" * 32, b"", [], "", b""]),
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"x" * (MAX_ENTRY_BYTES + 1),
        encode_entry(ENTRY) + b"x",
    ],
)
def test_bytes_that_are_no_entry_are_refused(data: bytes) -> None:
    with pytest.raises(LogDamaged):
        decode_entry(data, 2, 0)


@given(st.binary(max_size=300))
def test_random_bytes_are_an_entry_or_refused(data: bytes) -> None:
    for text in (data, encode_entry(ENTRY)[: len(data)] + data):
        try:
            decode_entry(text, 2, 0)
        except LogDamaged:
            continue


OBJECTS = st.lists(st.tuples(st.sampled_from(["blob", "tree", "commit"]), st.binary(max_size=2000)), max_size=20)


@given(OBJECTS)
def test_objects_survive_their_packs(objects: list[tuple[str, bytes]]) -> None:
    packs = list(encode_packs(objects))
    assert [item for pack in packs for item in decode_pack(pack)] == objects
    assert len(packs) <= 1


def test_large_objects_are_divided_into_packs() -> None:
    objects = [("blob", bytes([n]) * 3_000_000) for n in range(6)]
    packs = list(encode_packs(iter(objects)))
    assert len(packs) == 3
    assert [item for pack in packs for item in decode_pack(pack)] == objects


@given(OBJECTS, st.binary(max_size=200), st.integers(0, 200))
def test_damaged_pack_is_refused_or_holds_objects(objects: list[tuple[str, bytes]], noise: bytes, cut: int) -> None:
    for pack in encode_packs(objects):
        for damaged in (pack[:cut] + noise, pack + noise + b"x", pack[:-1], noise + pack):
            try:
                assert all(kind in ("blob", "tree", "commit") for kind, _ in decode_pack(damaged))
            except PackError:
                continue


@pytest.mark.parametrize(
    "records",
    [
        struct.pack(">cI", b"x", 0),
        struct.pack(">cI", b"b", 5) + b"four",
        struct.pack(">cI", b"b", (1 << 32) - 1),
        b"b",
    ],
)
def test_pack_with_an_invalid_object_is_refused(records: bytes) -> None:
    with pytest.raises(PackError):
        list(decode_pack(zlib.compress(records)))


def test_pack_that_expands_without_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_pack, "MAX_UNPACKED_BYTES", 5_000_000)
    with pytest.raises(PackError, match="more than"):
        for _ in decode_pack(zlib.compress(struct.pack(">cI", b"b", 100_000_000) + bytes(10_000_000))):
            pass


def test_rewound_and_split_logs_are_noticed() -> None:
    seen = Head(2, B)
    check_head(seen, seen)
    check_head(seen, Head(3, C))
    check_entries(seen, [])
    check_entries(seen, [replace(ENTRY, number=3, previous=B, head=C), replace(ENTRY, number=4, previous=C, head=A)])
    with pytest.raises(LogRefused, match="rewound"):
        check_head(seen, Head(1, A))
    with pytest.raises(LogRefused, match="split"):
        check_head(seen, Head(2, C))
    for entries in (
        [replace(ENTRY, number=3, previous=A)],
        [replace(ENTRY, number=4, previous=B)],
        [replace(ENTRY, number=3, previous=B, head=C), replace(ENTRY, number=4, previous=B)],
    ):
        with pytest.raises(LogRefused, match="split"):
            check_entries(seen, entries)
