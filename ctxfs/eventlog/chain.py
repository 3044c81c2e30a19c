"""The format of a record, and the chain that records make. Pure.

A record is one line of JSON. Four members make the chain: `seq` counts from 1 over the whole store, `body_sha256` is of the canonical
JSON of all other members, `prev` is the `hash` of the record before, `hash` the sha256 of `seq`, `prev` and `body_sha256`, a newline
after each. So an edit, a gap, a repetition and another order are found; and a body can be erased while the chain still holds, by a
tombstone that keeps the four (`forgotten` says when and by whom).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FIRST = "0" * 64
_LINKS = ("seq", "prev", "body_sha256", "hash")
FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True)
class Link:
    """Where a chain stands: the number and the hash of its last record."""

    seq: int = 0
    hash: str = FIRST


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a chain, and where: `file:line`, as far as there is one."""

    where: str
    what: str


@dataclass(slots=True)
class Verified:
    """How many records hold together, the hash of each by its number, and every fault."""

    records: int = 0
    forgotten: int = 0
    faults: list[Fault] = field(default_factory=list)
    hashes: dict[int, str] = field(default_factory=dict)


def body_sha256(body: Mapping[str, Any]) -> str:
    """Hexadecimal, of the canonical JSON: sorted keys, no blanks, UTF-8."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def chained(body: Mapping[str, Any], last: Link) -> tuple[bytes, Link]:
    """The line of a record that follows `last`, and where the chain then stands. ValueError for a body that names a link."""
    if taken := set(body) & {*_LINKS, FORGOTTEN}:
        raise ValueError(f"a record cannot set {', '.join(sorted(taken))}")
    digest = body_sha256(body)
    link = Link(last.seq + 1, _hash(last.seq + 1, last.hash, digest))
    line = {"seq": link.seq, **body, "prev": last.hash, "body_sha256": digest, "hash": link.hash}
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n", link


def tombstone(record: Mapping[str, Any], when: str, by: str) -> bytes:
    """The line that stays of a record whose body is erased."""
    kept = {name: record[name] for name in _LINKS}
    return json.dumps({**kept, FORGOTTEN: {"at": when, "by": by}}).encode() + b"\n"


def parse_record(line: bytes) -> dict[str, Any]:
    """A record; ValueError if the line is none."""
    record = json.loads(line)
    if not isinstance(record, dict) or not all(name in record for name in _LINKS) or not isinstance(record["seq"], int):
        raise ValueError("not a record")
    return record


def body_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says, without the chain."""
    return {name: value for name, value in record.items() if name not in _LINKS}


def verify(lines: Iterable[tuple[str, bytes]], end: Link | None) -> Verified:
    """Check (where, line) of all records, in any order; `end` is where the chain is known to stand at least."""
    found = Verified()
    records: list[tuple[int, str, dict[str, Any]]] = []
    for where, line in lines:
        try:
            record = parse_record(line)
        except ValueError:
            found.faults.append(Fault(where, "this line is not a record"))
            continue
        records.append((record["seq"], where, record))
    last_in: dict[str, int] = {}
    for seq, where, _ in records:
        file = where.rpartition(":")[0]
        if seq <= last_in.get(file, 0):
            found.faults.append(Fault(where, f"record {seq} stands behind record {last_in[file]}"))
        last_in[file] = max(seq, last_in.get(file, 0))
    last = Link()
    for seq, where, record in sorted(records, key=lambda item: item[:2]):
        if seq == last.seq:
            found.faults.append(Fault(where, f"record {seq} is there twice"))
            continue
        if seq > last.seq + 1:
            gap = f"record {last.seq + 1} is" if seq == last.seq + 2 else f"records {last.seq + 1} to {seq - 1} are"
            found.faults.append(Fault(where, f"{gap} missing before this one"))
        found.faults += [Fault(where, fault) for fault in _faults_of(record, last)]
        found.records += 1
        found.forgotten += FORGOTTEN in record
        last = Link(seq, str(record["hash"]))
        found.hashes[seq] = last.hash
        if end is not None and seq == end.seq and last.hash != end.hash:
            found.faults.append(Fault(where, f"record {seq} is not the one that was written"))
    if end is not None and last.seq < end.seq:
        found.faults.append(Fault("end", f"records {last.seq + 1} to {end.seq} are missing"))
    return found


def _faults_of(record: Mapping[str, Any], last: Link) -> Iterable[str]:
    seq = record["seq"]
    if FORGOTTEN not in record and body_sha256(body_of(record)) != record["body_sha256"]:
        yield f"record {seq} was changed"
    if seq == last.seq + 1 and record["prev"] != last.hash:
        yield f"record {seq} does not follow the one before it"
    if record["hash"] != _hash(seq, str(record["prev"]), str(record["body_sha256"])):
        yield f"the hash of record {seq} is wrong"


def _hash(seq: int, prev: str, digest: str) -> str:
    return hashlib.sha256(f"{seq}\n{prev}\n{digest}\n".encode()).hexdigest()
