"""Erasures that all nodes of a shared store carry out: the plan of the first node, and its execution on each."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ctxfs.versions.archive_core import ArchiveAccess, ArchiveCore
from ctxfs.versions.erase import ErasureResult, tombstone_text
from ctxfs.versions.erasure_commands import check_changeable, plan_with_derived
from ctxfs.versions.history_rewrite import ErasurePlan, HistoryRewrite, hashed_principal
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.phrases import Phrases
from ctxfs.versions.remotes.commit_graph import CommitGraph
from ctxfs.versions.remotes.shared_heads import SHARED_REF

# Shorter contents are equal by chance. They are erased at their paths only.
MIN_TOMBSTONE_BYTES = 32


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """An erasure for all nodes: its plan, the blobs that no version holds afterwards, and the person who ordered it."""

    plan: ErasurePlan
    gone: frozenset[str]
    by: str


class SharedErasure:
    """The erasures of an archive as a node of a shared store. Methods hold the archive's lock."""

    def __init__(self, archive: ArchiveAccess) -> None:
        self._archive = archive
        self._rewrite: HistoryRewrite | None = None

    def make_plan(self, path: str | None, principal: str, actor: Actor) -> tuple[SharedPlan, tuple[bytes, ...]]:
        """Return the plan, and the files of others that hold phrases of the contents. All versions are published.

        Raise CommandError for a frozen file.
        """
        with self._archive.locked() as core:
            self._archive.commit()
            plan, copies = plan_with_derived(core.eraser, path, principal)
            check_changeable(core, plan)
            hashed = hashed_principal(principal) if principal else ""
            plan = replace(plan, principal=hashed, note=tombstone_text(actor), is_shared=True)
            return SharedPlan(plan, _find_gone(core, plan), actor.principal), copies

    def bury(self, shared: SharedPlan, actor: Actor) -> tuple[bytes, ...]:
        """Put the tombstones into the work tree, as a version that other nodes follow; return their paths."""
        with self._archive.locked() as core:
            return core.eraser.bury(shared.plan, actor)

    def rewrite(self, shared: SharedPlan, head: str) -> str:
        """Return the id of a head without the contents. Its objects are stored, and no reference is moved."""
        with self._archive.locked() as core:
            if self._rewrite is None or self._rewrite.plan is not shared.plan:
                self._rewrite = HistoryRewrite(core.ledger, shared.plan)
            self._rewrite.add(CommitGraph.of(core.ledger.repo).list_new(head, ""))
            return self._rewrite.new[head]

    def list_objects(self, head: str, known: str = "") -> list[tuple[str, str]]:
        """Return the (kind, id) of all objects that a head reaches and `known` does not."""
        with self._archive.locked() as core:
            repo = core.ledger.repo
            listed = repo.run("rev-list", "--objects", "--no-object-names", head, *(["--not", known] if known else []))
            kinds = repo.run("cat-file", "--buffer", "--batch-check=%(objecttype) %(objectname)", data=listed)
        return [(kind, oid) for kind, oid in (line.split() for line in kinds.decode().splitlines())]

    def phrases(self, shared: SharedPlan) -> Phrases:
        """Return the phrases of the texts to erase, as far as this store has them."""
        with self._archive.locked() as core:
            repo = core.ledger.repo
            contents = {
                path: frozenset(oid for oid in oids if repo.has(oid)) for path, oids in shared.plan.contents.items()
            }
            return core.eraser.phrases(
                self._local_plan(core, replace(shared, plan=replace(shared.plan, contents=contents)))
            )

    def erase(self, shared: SharedPlan, seen: str, *, is_member: bool) -> tuple[ErasureResult, str]:
        """Carry a plan out here; return the result, and the new id of the head `seen` of the log (empty: none).

        Unpublished versions lose the contents as well, at any path. A store that has never had versions of the log
        (not `is_member`) loses the contents only, not its own files at the same paths.
        """
        actor = Actor(shared.by, "shared", "shared")
        with self._archive.maintenance_lock, self._archive.locked() as core:
            self._archive.commit()
            repo = core.ledger.repo
            reference = repo.read_ref(SHARED_REF)
            if seen and repo.has(seen) and reference != seen:
                repo.update_ref(SHARED_REF, seen, reference)
            if not is_member:
                shared = replace(shared, plan=replace(shared.plan, places=frozenset(), principal=""))
            plan = self._local_plan(core, shared)
            if not (is_member or core.ledger.index.occurrences_of(plan.blobs)):
                return ErasureResult(0, 0, (), ()), seen
            core.rollback.close()  # because swapped-out files may hold it
            self._rewrite = None
            result = core.eraser.erase(plan, actor)
            core.journal.delete_committed()
            new_seen = repo.read_ref(SHARED_REF) if seen else ""
        self._archive.checkpoint()
        return result, new_seen or ""

    def knows(self, commit: str) -> bool:
        """Return True if the store has a commit."""
        with self._archive.locked() as core:
            return core.ledger.repo.has(commit)

    def has_large(self, sha256: str) -> bool:
        """Return True if the store has a large content."""
        with self._archive.locked() as core:
            return core.ledger.large.path(sha256).exists()

    def erase_tombstones(self, gone: frozenset[str], oids: Iterable[str], by: str) -> tuple[bytes, ...]:
        """Erase those of the unpublished blobs `oids` that other nodes have erased; return their paths."""
        brought = frozenset(oids) & gone
        if not brought:
            return ()
        with self._archive.locked() as core:
            contents = _paths_of(core, brought)
        actor = Actor(by, "shared", "shared")
        plan = ErasurePlan(contents=contents, blobs=brought, note=tombstone_text(actor), is_shared=True)
        result, _ = self.erase(SharedPlan(plan, brought, by), "", is_member=True)
        return result.paths or tuple(contents)

    @staticmethod
    def _local_plan(core: ArchiveCore, shared: SharedPlan) -> ErasurePlan:
        """Return the plan with the contents that only this store has at its paths, and with copies of gone contents."""
        index, plan = core.ledger.index, shared.plan
        contents = {path: set(oids) for path, oids in plan.contents.items()}
        for place in plan.places:
            for row in index.changes_below(place):
                if row.oid and not _is_tombstone(core, row.oid, row.mode):
                    contents.setdefault(row.path, set()).add(row.oid)
        for path, oids in _paths_of(core, shared.gone).items():
            contents.setdefault(path, set()).update(oids)
        blobs = plan.blobs | {oid for oids in contents.values() for oid in oids}
        return replace(plan, contents={path: frozenset(oids) for path, oids in contents.items()}, blobs=blobs)


def _paths_of(core: ArchiveCore, oids: frozenset[str]) -> dict[bytes, frozenset[str]]:
    contents: dict[bytes, set[str]] = {}
    for path, oid, _ in core.ledger.index.occurrences_of(oids) if oids else ():
        contents.setdefault(path, set()).add(oid)
    return {path: frozenset(found) for path, found in contents.items()}


def _is_tombstone(core: ArchiveCore, oid: str, mode: int) -> bool:
    return mode == 0o120000 and core.ledger.repo.read(oid).startswith(b"(forgotten ")


def _find_gone(core: ArchiveCore, plan: ErasurePlan) -> frozenset[str]:
    """Return the planned contents that no other path of any version has."""
    index, repo = core.ledger.index, core.ledger.repo
    oids = {oid for found in plan.contents.values() for oid in found}
    kept = {
        oid
        for path, oid, _ in index.occurrences_of(oids)
        if oid not in plan.contents.get(path, ())
        and not any(path == place or path.startswith(place + b"/") for place in plan.places)
    }
    return frozenset(oid for oid, size in repo.sizes(oids - kept).items() if size >= MIN_TOMBSTONE_BYTES)
