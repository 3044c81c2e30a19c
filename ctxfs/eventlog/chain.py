"""The hash chain: the format of a record, and the verification of a chain of records. Pure.

A record is one line of JSON. Four members make the chain: `seq` counts from 1 over the whole store, `body_sha256` is of
the canonical JSON of all other members, `prev` is the `hash` of the preceding record, `hash` is the SHA-256 of `seq`,
`prev` and `body_sha256`, each followed by a newline.

So an edit, a gap, a repetition and a different order are detected. A body can be erased without breaking the chain: a
tombstone keeps the four members, and `forgotten` records the time and the principal of the erasure.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FIRST = "0" * 64
_LINK_MEMBERS = ("seq", "prev", "body_sha256", "hash")
FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True)
class Link:
    """The position of a chain: the number and the hash of its last record."""

    seq: int = 0
    hash: str = FIRST


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in a chain, and its position as `file:line` if it has one."""

    where: str
    what: str


@dataclass(slots=True)
class Verified:
    """The result of a verification: the number of valid records, their hashes by number, and all faults."""

    records: int = 0
    forgotten: int = 0
    faults: list[Fault] = field(default_factory=list)
    hashes: dict[int, str] = field(default_factory=dict)


def body_sha256(body: Mapping[str, Any]) -> str:
    """Return the hexadecimal SHA-256 of the canonical JSON of a body: sorted keys, no blanks, UTF-8."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def chain_record(body: Mapping[str, Any], last: Link) -> tuple[bytes, Link]:
    """Return the line of the record that follows `last`, and the new last link of the chain.

    Raise `ValueError` for a body with a member of the chain.
    """
    if reserved := set(body) & {*_LINK_MEMBERS, FORGOTTEN}:
        raise ValueError(f"a record cannot set {', '.join(sorted(reserved))}")
    digest = body_sha256(body)
    link = Link(last.seq + 1, _compute_hash(last.seq + 1, last.hash, digest))
    line = {"seq": link.seq, **body, "prev": last.hash, "body_sha256": digest, "hash": link.hash}
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n", link


def make_tombstone(record: Mapping[str, Any], when: str, by: str) -> bytes:
    """Return the line that replaces a record whose body is erased."""
    links = {name: record[name] for name in _LINK_MEMBERS}
    return json.dumps({**links, FORGOTTEN: {"at": when, "by": by}}).encode() + b"\n"


def parse_record(line: bytes) -> dict[str, Any]:
    """Return the record of a line. Raise `ValueError` if the line is not one."""
    record = json.loads(line)
    if (
        not isinstance(record, dict)
        or not all(name in record for name in _LINK_MEMBERS)
        or not isinstance(record["seq"], int)
    ):
        raise ValueError("not a record")
    return record


def body_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a record that are not part of the chain."""
    return {name: value for name, value in record.items() if name not in _LINK_MEMBERS}


def verify(lines: Iterable[tuple[str, bytes]], end: Link | None) -> Verified:
    """Verify the (position, line) of all records, in any order. `end` is a link that the chain must reach."""
    result = Verified()
    records: list[tuple[int, str, dict[str, Any]]] = []
    for position, line in lines:
        try:
            record = parse_record(line)
        except ValueError:
            result.faults.append(Fault(position, "this line is not a record"))
            continue
        records.append((record["seq"], position, record))
    last_in: dict[str, int] = {}
    for seq, position, _ in records:
        file = position.rpartition(":")[0]
        if seq <= last_in.get(file, 0):
            result.faults.append(Fault(position, f"record {seq} stands behind record {last_in[file]}"))
        last_in[file] = max(seq, last_in.get(file, 0))
    last = Link()
    for seq, position, record in sorted(records, key=lambda item: item[:2]):
        if seq == last.seq:
            result.faults.append(Fault(position, f"record {seq} is there twice"))
            continue
        if seq > last.seq + 1:
            gap = f"record {last.seq + 1} is" if seq == last.seq + 2 else f"records {last.seq + 1} to {seq - 1} are"
            result.faults.append(Fault(position, f"{gap} missing before this one"))
        result.faults += [Fault(position, fault) for fault in _find_faults(record, last)]
        result.records += 1
        result.forgotten += FORGOTTEN in record
        last = Link(seq, str(record["hash"]))
        result.hashes[seq] = last.hash
        if end is not None and seq == end.seq and last.hash != end.hash:
            result.faults.append(Fault(position, f"record {seq} is not the one that was written"))
    if end is not None and last.seq < end.seq:
        result.faults.append(Fault("end", f"records {last.seq + 1} to {end.seq} are missing"))
    return result


def _find_faults(record: Mapping[str, Any], last: Link) -> Iterable[str]:
    seq = record["seq"]
    if FORGOTTEN not in record and body_sha256(body_of(record)) != record["body_sha256"]:
        yield f"record {seq} was changed"
    if seq == last.seq + 1 and record["prev"] != last.hash:
        yield f"record {seq} does not follow the one before it"
    if record["hash"] != _compute_hash(seq, str(record["prev"]), str(record["body_sha256"])):
        yield f"the hash of record {seq} is wrong"


def _compute_hash(seq: int, prev: str, digest: str) -> str:
    return hashlib.sha256(f"{seq}\n{prev}\n{digest}\n".encode()).hexdigest()
