"""The format of log entries: a msgpack array of the fields below, in this order. Entries come from other machines.

`[2, number, head, previous, kind, node, instance, objects, packs, anchor, data]`. `decode_entry` refuses every value that
`encode_entry` does not make. The time is not part of it: the engine sets it.
"""

import re
from typing import Any

import msgpack

from ctxfs.shared.log import Entry, EntryKind, damaged
from ctxfs.versions.objects.git import is_oid
from ctxfs.versions.objects.sidecar import is_sha256

FORMAT = 2
MAX_INLINE_BYTES = 1_000_000  # of objects in the entry itself; larger packs are contents
MAX_PACKS = 10_000
MAX_DATA_BYTES = 1_000_000  # of a topic
MAX_ENTRY_BYTES = MAX_INLINE_BYTES + MAX_PACKS * 70 + MAX_DATA_BYTES + 10_000
_MAX_ANCHOR_CHARACTERS = 2000
_MAX_NUMBER = 1 << 53
_FIELDS = 11
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_INSTANCE = re.compile(r"[0-9a-f]{32}")


def is_node_name(text: str) -> bool:
    """Return True for a valid name of a node or of a shared store."""
    return bool(_NODE.fullmatch(text))


def encode_entry(entry: Entry) -> bytes:
    """Return the bytes of an entry. Raise ValueError for one that `decode_entry` refuses."""
    fields = [
        FORMAT,
        entry.number,
        entry.head,
        entry.previous,
        entry.kind.value,
        entry.node,
        entry.instance,
        entry.objects,
        list(entry.packs),
        entry.anchor,
        entry.data,
    ]
    fault = _fault(fields)
    if fault:
        raise ValueError(fault)
    data: bytes = msgpack.packb(fields)
    return data


def decode_entry(data: bytes, number: int, time_ns: int) -> Entry:
    """Return the entry in bytes that the engine stores under `number`. Raise `LogDamaged` for all other bytes."""
    if len(data) > MAX_ENTRY_BYTES:
        raise damaged(number, f"{len(data)} bytes are too many")
    try:
        fields = msgpack.unpackb(data, max_array_len=MAX_PACKS, max_map_len=0, max_ext_len=0)
    except (ValueError, TypeError, RecursionError) as error:  # msgpack's own errors are ValueErrors, too
        raise damaged(number, "its bytes are not an entry") from error
    fault = _fault(fields)
    if fault:
        raise damaged(number, fault)
    _, stored, head, previous, kind, node, instance, objects, packs, anchor, payload = fields
    if stored != number:
        raise damaged(number, f"it is entry {stored}")
    return Entry(
        number, head, previous, EntryKind(kind), node, instance, objects, tuple(packs), anchor, payload, time_ns
    )


def _fault(fields: Any) -> str:
    """Return the first fault of an entry's fields; empty if they are valid."""
    if not isinstance(fields, list) or len(fields) != _FIELDS or fields[0] != FORMAT:
        return f"it is not of format {FORMAT}; a newer ctxfs may read it"
    _, number, head, previous, kind, node, instance, objects, packs, anchor, data = fields
    is_valid = {
        "number": type(number) is int and 0 < number < _MAX_NUMBER,
        "head": isinstance(head, str) and is_oid(head),
        "previous": isinstance(previous, str) and (is_oid(previous) if number != 1 else previous == ""),
        "kind": isinstance(kind, str) and kind in set(EntryKind),
        "node": isinstance(node, str) and is_node_name(node),
        "instance": isinstance(instance, str) and bool(_INSTANCE.fullmatch(instance)),
        "objects": isinstance(objects, bytes) and len(objects) <= MAX_INLINE_BYTES,
        "packs": isinstance(packs, list)
        and len(packs) <= MAX_PACKS
        and all(isinstance(name, str) and is_sha256(name) for name in packs),
        "anchor": isinstance(anchor, str) and anchor.isprintable() and len(anchor) <= _MAX_ANCHOR_CHARACTERS,
        "data": isinstance(data, bytes) and len(data) <= MAX_DATA_BYTES,
    }
    return next((f"its field '{name}' is invalid" for name, valid in is_valid.items() if not valid), "")
