"""Anchors: the last records of the event log and of the audit, stored in each version and thereby on remotes.

A chain proves that its records belong together. A writer with access to the whole chain can compute it anew, or
truncate it together with its head; the record that an anchor names must still be in the chain then. With a key, which
lies outside of the store, each anchor has a seal (HMAC-SHA256) that cannot be computed without the key.

Format of an anchor: `<store id> events=<seq>:<hash> audit=<seq>:<hash>[ seal=<hex>]`.
"""

import hashlib
import hmac
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as HostPath

from ctxfs.eventlog.chain import Fault, Link
from ctxfs.eventlog.log import EventLog
from ctxfs.model.errors import CommandError

log = logging.getLogger(__name__)

MIN_KEY_BYTES = 16
MAX_FAULTS = 10  # a chain that was computed anew differs in every record
_ANCHOR = re.compile(
    r"([0-9a-f]{32}) events=(\d{1,18}):([0-9a-f]{64}) audit=(\d{1,18}):([0-9a-f]{64})(?: seal=([0-9a-f]{64}))?"
)
CHAINS = ("events", "audit")


@dataclass(frozen=True, slots=True)
class Anchor:
    """The last link of each chain of a store, and the version that contains the anchor."""

    store: str
    links: Mapping[str, Link]
    seal: str
    version: str
    when: str

    @property
    def text(self) -> str:
        """The sealed part of the anchor."""
        return _format_anchor(self.store, self.links)


@dataclass(slots=True)
class AnchorComparison:
    """The result of a comparison with anchors.

    It contains the number of versions with anchors and of sealed ones, the times of the oldest and newest, the last
    anchored record of each chain, the number of anchors of other stores, and all faults.
    """

    versions: int = 0
    since: str = ""
    newest: str = ""
    sealed: int = 0
    sealed_since: str = ""
    others: int = 0
    up_to: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


class Anchors:
    """The writer of anchors of two chains, which also compares them."""

    def __init__(self, events: EventLog, audit: EventLog, key: bytes | None) -> None:
        self._logs = {"events": events, "audit": audit}
        self.key = key

    def text(self, store: str) -> str:
        """Return an anchor for the current last records of the chains."""
        text = _format_anchor(store, {name: chain.head_nowait() or Link() for name, chain in self._logs.items()})
        return f"{text} seal={_compute_seal(self.key, text)}" if self.key else text

    def compare(
        self, store: str, anchors: Sequence[Anchor], chains: Mapping[str, Mapping[int, str]]
    ) -> AnchorComparison:
        """Compare anchors, oldest first, with the hashes of the current records (seq → hash) of each chain."""
        result = AnchorComparison(up_to=dict.fromkeys(CHAINS, 0))
        for anchor in anchors:
            if anchor.store != store:
                result.others += 1
                continue
            result.versions += 1
            result.since, result.newest = result.since or anchor.when, anchor.when
            if self.key and self._is_sealed(anchor, result):
                result.sealed += 1
                result.sealed_since = result.sealed_since or anchor.when
            for name in CHAINS:
                result.up_to[name] = max(result.up_to[name], anchor.links[name].seq)
        for name in CHAINS:
            own = (anchor for anchor in anchors if anchor.store == store)
            result.faults += list(_find_faults(name, own, chains[name]))
        return result

    def _is_sealed(self, anchor: Anchor, result: AnchorComparison) -> bool:
        assert self.key is not None
        if anchor.seal and not hmac.compare_digest(anchor.seal, _compute_seal(self.key, anchor.text)):
            result.faults.append(Fault(anchor.version, "the seal of its anchor was not made with this key"))
            return False
        return bool(anchor.seal)


def parse_anchor(text: str, version: str, when: str) -> Anchor | None:
    """Return the anchor in a version's trailer; None if the text is not an anchor."""
    match = _ANCHOR.fullmatch(text.strip())
    if match is None:
        return None
    store, events, events_hash, audit, audit_hash, seal = match.groups()
    links = {"events": Link(int(events), events_hash), "audit": Link(int(audit), audit_hash)}
    return Anchor(store, links, seal or "", version, when)


def read_key(file_name: str, root: HostPath) -> bytes | None:
    """Return the key from the file that the settings or $CTXFS_HISTORY_KEY_FILE name; None if neither names one.

    Raise `CommandError` for a file inside the store, and for a key of fewer than 16 bytes. A file that cannot be read
    is logged, and versions get no seals meanwhile.
    """
    file_name = file_name or os.environ.get("CTXFS_HISTORY_KEY_FILE", "")
    if not file_name:
        return None
    file = HostPath(os.path.realpath(os.path.expanduser(file_name)))
    if file.is_relative_to(os.path.realpath(root)):
        raise CommandError(
            f"the key '{file}' lies in the store", "keep it elsewhere: a copy of the store would contain it"
        )
    try:
        key = file.read_bytes().strip()
    except OSError as error:
        log.error("the key '%s' cannot be read; versions have no seals meanwhile: %s", file, error.strerror)
        return None
    if len(key) < MIN_KEY_BYTES:
        raise CommandError(f"the key '{file}' has fewer than {MIN_KEY_BYTES} bytes", f"openssl rand -hex 32 > {file}")
    return key


def _find_faults(name: str, anchors: Iterable[Anchor], hashes: Mapping[int, str]) -> Iterable[Fault]:
    last, count = max(hashes, default=0), 0
    for anchor in anchors:
        link = anchor.links[name]
        if not link.seq or hashes.get(link.seq) == link.hash:
            continue
        count += 1
        if count > MAX_FAULTS:
            continue
        position = f"{name}:{link.seq}"
        citation = f"version {anchor.version[:12]} of {anchor.when} names"
        if link.seq > last:
            yield Fault(position, f"the chain ends at record {last}; {citation} record {link.seq}: the end was cut")
        elif link.seq not in hashes:
            yield Fault(position, f"record {link.seq}, which {citation.removesuffix(' names')} names, is missing")
        else:
            yield Fault(position, f"record {link.seq} is not the one that {citation}: the chain was written again")
    if count > MAX_FAULTS:
        yield Fault(name, f"{count - MAX_FAULTS} more versions name records that are not there")


def _format_anchor(store: str, links: Mapping[str, Link]) -> str:
    return " ".join([store, *(f"{name}={links[name].seq}:{links[name].hash}" for name in CHAINS)])


def _compute_seal(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
