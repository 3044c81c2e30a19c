"""Erasure with derived texts: commit the current changes, plan, erase from every version, make the result durable."""

import errno
from dataclasses import replace

from ctxfs.model.errors import CommandError, not_found, path_error
from ctxfs.versions.archive_core import ArchiveAccess, ArchiveCore
from ctxfs.versions.erase import Eraser, ErasureResult
from ctxfs.versions.history_rewrite import ErasurePlan
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.objects.name_encoding import display_path, path_bytes, split_path
from ctxfs.versions.objects.trees import MODE_DIR
from ctxfs.versions.phrases import Phrases


class ErasureCommands:
    """The erasures of an archive."""

    def __init__(self, archive: ArchiveAccess) -> None:
        self._archive = archive

    def erase(self, path: str | None, principal: str, actor: Actor, *, dry_run: bool = False) -> ErasureResult:
        """Erase a path, or all contents that a principal wrote, with derived texts, from every version."""
        with self._archive.maintenance_lock, self._archive.locked() as core:
            self._archive.commit()
            plan, copies = plan_with_derived(core.eraser, path, principal)
            if not dry_run and self._archive.commit(plan.contents.keys()):
                # The commit contained unjournalled changes at these paths. They may hold none of it, so plan anew.
                plan, copies = plan_with_derived(core.eraser, path, principal)
            check_changeable(core, plan)
            if dry_run:
                paths = sorted(plan.places | plan.contents.keys())
                return ErasureResult(0, len(plan.blobs), tuple(paths), (), copies)
            core.rollback.close()  # because swapped-out files may hold it
            result = core.eraser.erase(plan, actor)
            core.journal.delete_committed()
        self._archive.checkpoint()
        return replace(result, copies=tuple(path for path in copies if path not in result.elsewhere))

    def erase_version(self, path: str, at: str, actor: Actor) -> ErasureResult:
        """Erase the content of a file in a version, from every version of this file. Texts derived from it stay.

        Raise `OSError` ENOENT if the version has no such file, EISDIR for a directory, EBUSY for the current content.
        """
        with self._archive.maintenance_lock, self._archive.locked() as core:
            self._archive.commit()
            step = core.history.resolve(at)
            plan = _plan_version(core, core.history.name_at(path_bytes(path), step.seq), step.commit)
            check_changeable(core, plan)
            core.rollback.close()  # because swapped-out files may hold it
            result = core.eraser.erase(plan, actor)
            core.journal.delete_committed()
        self._archive.checkpoint()
        return result

    def phrases_of(self, path: str | None, principal: str) -> Phrases:
        """Return the phrases of the contents that `erase` would erase. Call it before the erasure."""
        with self._archive.locked() as core:
            plan = _plan_erasure(core.eraser, path, principal)
            check_changeable(core, plan)
            return core.eraser.phrases(plan)


def check_changeable(core: ArchiveCore, plan: ErasurePlan) -> None:
    """Raise CommandError if the plan erases a content of a frozen file."""
    ledger = core.ledger
    for path in sorted(plan.places | plan.contents.keys()):
        for parts, state in ledger.walk(ledger.tree, split_path(path)):
            if ledger.is_frozen(state):
                name = display_path(b"/".join(parts))
                raise CommandError(f"'{name}' is frozen: nothing was erased", f"lift that: ctxfs state '{name}' active")


def plan_with_derived(eraser: Eraser, path: str | None, principal: str) -> tuple[ErasurePlan, tuple[bytes, ...]]:
    """Return the plan with derived texts, and the files of other principals that hold phrases of them."""
    plan = _plan_erasure(eraser, path, principal)
    phrases = eraser.phrases(plan)
    return eraser.with_derived(plan, phrases), eraser.copies(plan, phrases)


def _plan_version(core: ArchiveCore, path: bytes, commit: Commit) -> ErasurePlan:
    """Return the plan for the content of a file in a commit, under all names that the file had with it."""
    name, ledger = display_path(path), core.ledger
    entry = core.history.state(commit, split_path(path)).entry
    if entry is None:
        raise not_found(name)
    if entry.mode == MODE_DIR:
        raise path_error(errno.EISDIR, name)
    paths = {path, *(change.path for _, change in ledger.index.versions(path) if change.oid == entry.oid)}
    for current in paths:
        present = ledger.state(ledger.tree, split_path(current)).entry
        if present is not None and present.oid == entry.oid:
            raise path_error(errno.EBUSY, name, "this is the current content: change or delete the file before")
    contents = dict.fromkeys(paths, frozenset((entry.oid,)))
    return ErasurePlan(contents=contents, blobs=frozenset((entry.oid,)))


def _plan_erasure(eraser: Eraser, path: str | None, principal: str) -> ErasurePlan:
    return eraser.of_path(path_bytes(path)) if path is not None else eraser.of_principal(principal)
