"""The check of the anchors in a log: the heads of each node's event log and audit chains, as its entries hold them.

Any node can check that the anchors of another one only advance: a chain that was cut, restored from a backup or written
again shows as soon as its node appends an entry. Only the node itself has the records, and checks that they are those
that its anchors name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ctxfs.eventlog.anchor import CHAINS, MAX_FAULTS, parse_anchor
from ctxfs.eventlog.chain import Link
from ctxfs.shared.chain import check_entries, check_head
from ctxfs.shared.log import EMPTY, Entry, Head, SharedLog, all_entries


class ChainsState(StrEnum):
    """The result for the chains of one node. `NOT_CHECKED`: their records are elsewhere, and the anchors agree."""

    VERIFIED = "verified"
    FAILED = "failed"
    NOT_CHECKED = "not checked here"


@dataclass(slots=True)
class NodeChains:
    """The anchors of one store in a log, under the last name of its node; `links` are those of this node's own store."""

    store: str
    node: str
    state: ChainsState = ChainsState.NOT_CHECKED
    anchors: int = 0
    last: dict[str, Link] = field(default_factory=lambda: dict.fromkeys(CHAINS, Link()))
    faults: list[str] = field(default_factory=list)
    links: dict[str, list[tuple[int, Link]]] = field(default_factory=lambda: {name: [] for name in CHAINS})

    def add_fault(self, text: str) -> None:
        """Add a fault, unless there are many: a chain that was written again differs in each anchor."""
        self.state = ChainsState.FAILED
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(text)


def read_chains(log: SharedLog, seen: Head, own_store: str) -> list[NodeChains]:
    """Return the checked anchors of all nodes, in the order of their first entries.

    Raise `LogRefused` for a log that does not continue the entry `seen`, and errors of the engine.
    """
    chains, last = dict[str, NodeChains](), EMPTY
    for entry in all_entries(log, 0):
        check_entries(last, [entry])
        last = Head(entry.number, entry.head)
        if last.number == seen.number:
            check_head(seen, last)
        node = chains.setdefault(entry.instance, NodeChains(entry.instance, entry.node))
        node.node = entry.node
        _add(node, entry, keeps_links=entry.instance == own_store)
    if last.number < seen.number:
        check_head(seen, last)
    return list(chains.values())


def compare_records(chains: NodeChains, hashes: Mapping[str, Mapping[int, str]]) -> None:
    """Compare the anchors of this node's own store with the hashes of its records (seq → hash) by chain."""
    if chains.state is ChainsState.NOT_CHECKED:
        chains.state = ChainsState.VERIFIED
    for name in CHAINS:
        end = max(hashes[name], default=0)
        for number, link in chains.links[name]:
            if hashes[name].get(link.seq) == link.hash:
                continue
            if link.seq > end:
                problem = f"the chain ends at record {end}: its end was cut, or an older state was restored"
            elif link.seq not in hashes[name]:
                problem = "it is missing"
            else:
                problem = "it is another one now: the chain was written again"
            chains.add_fault(f"{name}:{link.seq}: entry {number} of the log names this record, and {problem}")


def _add(node: NodeChains, entry: Entry, *, keeps_links: bool) -> None:
    if not entry.anchor:
        return
    anchor = parse_anchor(entry.anchor, entry.head, "")
    if anchor is None:
        node.add_fault(f"entry {entry.number} has no valid anchor")
        return
    if anchor.store != node.store:
        return  # an older ctxfs passes on the anchor of the version before, which may be of another node
    node.anchors += 1
    for name in CHAINS:
        link, last = anchor.links[name], node.last[name]
        if not link.seq:
            continue  # nothing was recorded, or the head was in use
        if link.seq < last.seq:
            node.add_fault(
                f"{name}:{link.seq}: entry {entry.number} names this record as the last, and an earlier entry record"
                f" {last.seq}: the chain was cut, or an older state was restored"
            )
        elif link.seq == last.seq and link.hash != last.hash:
            node.add_fault(
                f"{name}:{link.seq}: entry {entry.number} names another record than an earlier entry: the chain was"
                " written again, or there are two copies of this store"
            )
        node.last[name] = link
        if keeps_links and link != last:
            node.links[name].append((entry.number, link))
