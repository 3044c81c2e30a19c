"""The transfer of large contents to and from remotes: blobs named by sha256, in a commit under a ref of their own."""

import errno
import os
import tempfile
from collections.abc import Mapping

from ctxfs.model.errors import path_error
from ctxfs.versions.objects.commits import decode_commit
from ctxfs.versions.objects.git import Repository
from ctxfs.versions.objects.sidecar import is_sha256
from ctxfs.versions.objects.trees import MODE_FILE, TreeEntry
from ctxfs.versions.recording.ledger import Ledger

LARGE_REF = "refs/ctxfs/large"


def pack_large(ledger: Ledger) -> str:
    """Create a commit with every large content as a blob, and return its id; empty if there are none."""
    names = sorted(ledger.large.names())
    if not names:
        return ""
    repo, listing = ledger.repo, {}
    for name in names:
        file = str(ledger.large.path(name))
        oid = repo.run("hash-object", "-w", "--no-filters", "--", file).decode().strip()
        listing[name.encode()] = TreeEntry(MODE_FILE, oid)
    tree = ledger.trees.write(listing)
    commit = repo.run("commit-tree", "-m", "large contents", tree).decode().strip()
    repo.update_ref(LARGE_REF, commit, repo.read_ref(LARGE_REF))
    return commit


def unpack_large(ledger: Ledger, commit: str, sizes: Mapping[str, int]) -> None:
    """Store those contents of a fetched commit that side-cars name. `sizes` is sha256 → size in bytes.

    Raise OSError EIO for a content whose size or hash differs.
    """
    present = set(ledger.large.names())
    tree = decode_commit(commit, ledger.repo.read(commit)).tree
    for name, entry in ledger.trees.listing(tree).items():
        sha256 = name.decode("ascii", "replace")
        if not is_sha256(sha256) or sha256 in present or sha256 not in sizes or entry.mode != MODE_FILE:
            continue
        if ledger.repo.size(entry.oid) != sizes[sha256]:
            raise path_error(errno.EIO, sha256, "a large content has another length than its file")
        _store_blob(ledger, ledger.repo, entry.oid, sha256)


def _store_blob(ledger: Ledger, repo: Repository, oid: str, sha256: str) -> None:
    # Through a file, because it may be larger than the memory.
    with tempfile.TemporaryFile(dir=repo.folder) as file:
        repo.copy_blob(oid, file.fileno())
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        large = ledger.large.add(file.fileno())
    if large.sha256 != sha256:
        ledger.large.remove([large.sha256])
        raise path_error(errno.EIO, sha256, "a large content arrived damaged")
