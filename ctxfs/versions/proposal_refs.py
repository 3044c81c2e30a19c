"""The branches of proposals: their reading, and their deletion after a decision, a power cut or an erasure."""

import logging
import re

from ctxfs.model.errors import not_found
from ctxfs.versions.objects.commits import Commit
from ctxfs.versions.objects.git import Repository
from ctxfs.versions.objects.trees import EMPTY_TREE
from ctxfs.versions.recording.ledger import Ledger

log = logging.getLogger(__name__)

PROPOSALS = "refs/heads/proposal/"
_NAME = re.compile(r"[0-9a-z][0-9a-z-]{0,63}")


def is_proposal_name(name: str) -> bool:
    """Return True for a text that can name a proposal."""
    return bool(_NAME.fullmatch(name))


def read_proposal(ledger: Ledger, name: str) -> tuple[Commit, str]:
    """Return the commit of a proposal, and the tree that it is based on. Raise OSError ENOENT."""
    oid = ledger.repo.read_ref(f"{PROPOSALS}{name}") if is_proposal_name(name) else None
    if oid is None:
        raise not_found(f"human/review/{name}")
    commit = ledger.read_commit(oid)
    return commit, ledger.read_commit(commit.parents[0]).tree if commit.parents else EMPTY_TREE


def drop_damaged(ledger: Ledger) -> None:
    """Delete the branches whose objects a power cut has destroyed, and those that were merged before a kill."""
    repo = ledger.repo
    if not _may_have_proposals(repo):
        return
    for name, oid in repo.list_refs(PROPOSALS, peel=False).items():
        try:
            repo.run(
                "rev-list", "--quiet", "--verify-objects", oid, "--not", *([ledger.head.oid] if ledger.head else [])
            )
            if ledger.index.by_oid(oid) is None:
                continue
        except OSError:
            log.warning("the proposal %s is damaged and is dropped; ctxfs consolidate makes it again", name)
        delete(repo, name)


def drop_all(repo: Repository) -> None:
    """Delete the branches of all proposals, which may contain erased content."""
    if _may_have_proposals(repo):
        repo.delete_refs(PROPOSALS)


def _may_have_proposals(repo: Repository) -> bool:
    """Return False if there is none, without starting git."""
    if (repo.folder / PROPOSALS).is_dir():
        return True
    try:
        return f" {PROPOSALS}" in (repo.folder / "packed-refs").read_text(errors="replace")
    except OSError:
        return False


def delete(repo: Repository, name: str) -> None:
    """Delete the branch of a proposal, if there is one."""
    oid = repo.read_ref(f"{PROPOSALS}{name}") if is_proposal_name(name) else None
    if oid is not None:
        repo.delete_ref(f"{PROPOSALS}{name}", oid)
