"""The deletion of a branch with all objects that only it has."""

import errno

from ctxfs.model.errors import path_error
from ctxfs.versions.branches.line import Line, branch_changes
from ctxfs.versions.branches.refs import HEADS, STARTS, delete_refs, drop_checkpoint
from ctxfs.versions.objects.git import Repository, argument_list
from ctxfs.versions.recording.ledger import Ledger
from ctxfs.versions.recording.maintenance import delete_commit_graph, used_large


def erase_branch(ledger: Ledger, name: str, line: Line) -> None:
    """Delete the refs of a branch, then every object that no other ref reaches.

    Raise OSError EIO if an object of the branch is left. Used while nothing packs the repository.
    """
    repo = ledger.repo
    candidates, own_large = _own_objects(repo, name), _large_of(ledger, line)
    drop_checkpoint(repo)
    delete_refs(repo, name)
    # The negative revisions of `_own_objects` exclude only the trees at the border of both histories.
    own = candidates - _reachable_objects(repo)
    ledger.marks.forget_texts_below(b"/".join((b".branches", name.encode())))
    repo.close_readers()
    delete_commit_graph(repo)
    repo.run_maintenance("prune", "--expire=now")
    if any(map(repo.has, own)):  # in a pack, which is written again without them
        repo.close_readers()
        repo.run_maintenance("repack", "-a", "-d", "-l", "-q")
        repo.run_maintenance("prune", "--expire=now")
        repo.close_readers()
    ledger.clear_caches()
    if own_large:
        ledger.large.remove(own_large - used_large(ledger, [change.side for _, change in branch_changes(ledger)]))
    if left := [oid for oid in own if repo.has(oid)]:
        raise path_error(errno.EIO, f".branches/{name}", f"{len(left)} of its objects could not be deleted")


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
