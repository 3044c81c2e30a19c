"""The deletion of a branch with all objects that only it has.

Its cost is that of the objects that the branch was the first to write, if they are recorded (`own_objects`).
"""

import errno
from collections.abc import Collection

from ctxfs.model.errors import path_error
from ctxfs.versions.branches.line import Line, branch_changes
from ctxfs.versions.branches.own_objects import delete_own, drop_record, read_record, recorded_names
from ctxfs.versions.branches.refs import HEADS, STARTS, delete_refs, drop_checkpoint, list_heads
from ctxfs.versions.objects.git import Repository, argument_list
from ctxfs.versions.recording.ledger import Ledger
from ctxfs.versions.recording.maintenance import delete_commit_graph, used_large


def erase_branch(ledger: Ledger, name: str, line: Line) -> None:
    """Delete the refs of a branch, then every object that no other ref reaches.

    Raise OSError EIO if an object of the branch is left. Used while nothing packs the repository.
    """
    repo = ledger.repo
    own_large, record = _large_of(ledger, line), read_record(repo, name)
    if record is not None and all(map(repo.has, set(record.values()))):
        drop_checkpoint(repo)
        delete_refs(repo, name)
        delete_commit_graph(repo)
        own: Collection[str] = delete_own(repo, record, list_heads(repo))
    else:
        own = _delete_unreached(repo, name)
    ledger.marks.forget_texts_below(b"/".join((b".branches", name.encode())))
    ledger.clear_caches()
    if own_large:
        ledger.large.remove(own_large - used_large(ledger, [change.side for _, change in branch_changes(ledger)]))
    if left := repo.existing(own):
        raise path_error(errno.EIO, f".branches/{name}", f"{len(left)} of its objects could not be deleted")
    drop_record(repo, name)


def finish_deletions(ledger: Ledger) -> None:
    """Delete the objects of branches whose deletion, or creation, was interrupted after their refs were gone."""
    repo = ledger.repo
    for name in sorted(recorded_names(repo) - list_heads(repo).keys()):
        record = read_record(repo, name)
        if record and all(map(repo.has, set(record.values()))):
            delete_commit_graph(repo)
            delete_own(repo, record, list_heads(repo))
        drop_record(repo, name)


def _delete_unreached(repo: Repository, name: str) -> Collection[str]:
    """Delete the refs of a branch and all objects that no ref reaches. Return the ids of those that only it had."""
    candidates = _own_objects(repo, name)
    drop_checkpoint(repo)
    delete_refs(repo, name)
    # The negative revisions of `_own_objects` exclude only the trees at the border of both histories.
    own = candidates - _reachable_objects(repo)
    repo.close_readers()
    delete_commit_graph(repo)
    repo.run_maintenance("prune", "--expire=now")
    if repo.existing(own):  # in a pack, which is written again without them
        repo.close_readers()
        repo.run_maintenance("repack", "-a", "-d", "-l", "-q")
        repo.run_maintenance("prune", "--expire=now")
        repo.close_readers()
    return own


def _own_objects(repo: Repository, name: str) -> set[str]:
    """Return the ids of the objects that only a branch reaches, and of some others."""
    own = {f"{HEADS}{name}", f"{STARTS}{name}"}
    listed = repo.list_refs("refs/", peel=False)
    # `list_refs` removes the prefix from the names.
    wanted = [oid if f"refs/{ref}" in own else f"^{oid}" for ref, oid in listed.items()]
    found = repo.run("rev-list", "--objects", "--stdin", data=argument_list(wanted))
    return _ids_in(found)


def _reachable_objects(repo: Repository) -> set[str]:
    return _ids_in(repo.run("rev-list", "--objects", "--all"))


def _ids_in(listed: bytes) -> set[str]:
    return {row[:40].decode() for row in listed.splitlines()}


def _large_of(ledger: Ledger, line: Line) -> set[str]:
    """Return the SHA-256 of the large contents that the versions of a branch have added."""
    before, found = line.start, set[str]()
    for commit in line.commits:
        for change in ledger.compare_trees(before.tree, commit.tree):
            large = ledger.read_sidecar(change.side).large if change.side else None
            found |= {large.sha256} if large is not None else set()
        before = commit
    return found
