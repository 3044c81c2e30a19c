"""The transfer of large contents to and from remotes: a blob and a ref for each, named by its sha256.

A ref of its own makes each content travel once: both sides compare the names that they have.
"""

import errno
import os
import tempfile
from collections.abc import Iterable, Mapping

from ctxfs.model.errors import path_error
from ctxfs.versions.objects.commits import decode_commit
from ctxfs.versions.objects.git import Repository
from ctxfs.versions.objects.sidecar import is_sha256
from ctxfs.versions.objects.trees import MODE_FILE
from ctxfs.versions.recording.ledger import Ledger

CONTENT_PREFIX = "refs/ctxfs/content/"
# Stores of before had all contents in one commit under this ref. It is read, and removed by the next push.
OLD_REF = "refs/ctxfs/large"
MAX_CONTENTS = 100_000  # of a remote; git sends about 110 bytes for each


def content_of(ref: str) -> str:
    """Return the sha256 of the content that a ref of a remote names; empty for other refs."""
    name = ref.removeprefix(CONTENT_PREFIX)
    return name if name != ref and is_sha256(name) else ""


def write_blobs(ledger: Ledger, names: Iterable[str]) -> dict[str, str]:
    """Write large contents as blobs; return sha256 → id of the blob. Contents that were erased meanwhile are left out."""
    blobs = {}
    for name in names:
        file = ledger.large.path(name)
        if file.exists():
            blobs[name] = ledger.repo.run("hash-object", "-w", "--no-filters", "--", str(file)).decode().strip()
    return blobs


def blobs_in_commit(ledger: Ledger, commit: str) -> dict[str, str]:
    """Return sha256 → id of the blob of the contents in a commit of `OLD_REF`."""
    tree = decode_commit(commit, ledger.repo.read(commit)).tree
    listing = ledger.trees.listing(tree)
    return {name.decode("ascii", "replace"): entry.oid for name, entry in listing.items() if entry.mode == MODE_FILE}


def store_blobs(ledger: Ledger, blobs: Mapping[str, str], sizes: Mapping[str, int]) -> None:
    """Store those fetched contents that side-cars name. `blobs` is sha256 → id, `sizes` sha256 → size in bytes.

    Raise OSError EIO for a content whose size or hash differs.
    """
    present = set(ledger.large.names())
    for sha256, oid in blobs.items():
        if not is_sha256(sha256) or sha256 in present or sha256 not in sizes:
            continue
        if ledger.repo.size(oid) != sizes[sha256]:
            raise path_error(errno.EIO, sha256, "a large content has another length than its file")
        _store_blob(ledger, ledger.repo, oid, sha256)


def _store_blob(ledger: Ledger, repo: Repository, oid: str, sha256: str) -> None:
    # Through a file, because it may be larger than the memory.
    with tempfile.TemporaryFile(dir=repo.folder) as file:
        repo.copy_blob(oid, file.fileno())
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        large = ledger.large.add(file.fileno())
    if large.sha256 != sha256:
        ledger.large.remove([large.sha256])
        raise path_error(errno.EIO, sha256, "a large content arrived damaged")
