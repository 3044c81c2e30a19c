"""Maintenance of the repository during use: pack loose objects, write the commit graph, delete unreachable objects.

It runs in separate processes at low priority; no operation waits for them. It is safe beside a writer: a loose object
is deleted only when a pack contains it.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path as HostPath

from ctxfs.store.config import MIN_LARGE_BYTES
from ctxfs.versions.objects.git import Repository
from ctxfs.versions.recording.ledger import Ledger

log = logging.getLogger(__name__)

MAX_LOOSE_OBJECTS = 5_000
MAX_PACKS = 50  # those of a shared store are small; git searches each
_SAMPLED_FOLDERS = 8
_FULL_PACK_INTERVAL_SECONDS = 7 * 86400.0


def loose_count(repo: Repository) -> int:
    """Return an estimate of the number of loose objects, from a sample of their folders: ids are evenly distributed."""
    count = 0
    for number in range(_SAMPLED_FOLDERS):
        try:
            count += len(os.listdir(repo.folder / "objects" / f"{number * 31:02x}"))
        except FileNotFoundError:
            continue
    return count * 256 // _SAMPLED_FOLDERS


def _pack_count(repo: Repository) -> int:
    return sum(1 for _ in (repo.folder / "objects" / "pack").glob("*.pack"))


def is_packing_needed(repo: Repository) -> bool:
    """Return True if there are enough loose objects or packs to pack."""
    return loose_count(repo) > MAX_LOOSE_OBJECTS or _pack_count(repo) > MAX_PACKS


def pack(repo: Repository) -> None:
    """Merge loose objects and small packs into larger ones. Each object is moved a logarithmic number of times."""
    repo.run_maintenance("repack", "--geometric=2", "-d", "-l", "-q", "--no-write-bitmap-index")
    repo.run_maintenance("commit-graph", "write", "--reachable", "--changed-paths", "--split")


def pack_fully(repo: Repository) -> None:
    """Write one pack with new deltas, and delete unreachable objects older than two weeks."""
    repo.run_maintenance("repack", "-a", "-d", "-l", "-q", "-f", "--depth=50", "--window=100")
    repo.run_maintenance("prune", "--expire=2.weeks.ago")
    repo.run_maintenance("commit-graph", "write", "--reachable", "--changed-paths")
    (repo.folder / _STAMP_FILE).write_text(f"{time.time()}\n")


def delete_commit_graph(repo: Repository) -> None:
    """Delete the commit graph, which names commits that are about to be deleted; the next packing writes it again."""
    info = repo.folder / "objects" / "info"
    (info / "commit-graph").unlink(missing_ok=True)
    shutil.rmtree(info / "commit-graphs", ignore_errors=True)


def delete_unused_large(ledger: Ledger, other_sides: Iterable[str]) -> None:
    """Delete the large contents that no version refers to. Called under the archive's lock.

    `other_sides` are the side-cars of versions that the path index lacks, such as those of branches.
    """
    ledger.large.remove(set(ledger.large.names()) - used_large(ledger, other_sides))


def used_large(ledger: Ledger, other_sides: Iterable[str]) -> set[str]:
    """Return the SHA-256 of the large contents to which versions refer."""
    sidecars = map(ledger.read_sidecar, {*ledger.index.sides_of(MIN_LARGE_BYTES), *other_sides})
    return {sidecar.large.sha256 for sidecar in sidecars if sidecar.large is not None}


def is_full_packing_due(folder: HostPath) -> bool:
    """Return True a week after the last full packing. Without a stamp, write one and return False."""
    try:
        last = float((folder / _STAMP_FILE).read_text())
    except (OSError, ValueError):
        (folder / _STAMP_FILE).write_text(f"{time.time()}\n")
        return False
    return time.time() - last > _FULL_PACK_INTERVAL_SECONDS


_STAMP_FILE = "ctxfs-packed"
