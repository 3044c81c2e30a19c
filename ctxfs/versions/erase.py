"""Erasure: remove contents from every version, and verify that they are gone.

Every commit from the first with the content on is rewritten without it. The old commits and their objects are deleted,
and each erased blob is looked up by its id to verify that it is gone. The plan is written to an intent record first, so
that an interrupted erasure is finished at the next start.
"""

import errno
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path as HostPath

from ctxfs.model.errors import path_error
from ctxfs.store.atomic_replace import UnchangedReason, WriterTimeout
from ctxfs.store.durable_file import replace_text
from ctxfs.versions.branches.line import branch_changes
from ctxfs.versions.branches.own_objects import drop_records
from ctxfs.versions.branches.refs import drop_checkpoint
from ctxfs.versions.history_rewrite import ErasurePlan, HistoryRewrite
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.objects.fingerprint import MAX_TEXT_BYTES
from ctxfs.versions.objects.git import BRANCH
from ctxfs.versions.objects.name_encoding import path_bytes, path_text, split_path
from ctxfs.versions.objects.trees import MODE_DIR, Parts
from ctxfs.versions.phrases import Phrases
from ctxfs.versions.proposal_refs import drop_all
from ctxfs.versions.recording.capture import Capture
from ctxfs.versions.recording.committer import Committer
from ctxfs.versions.recording.ledger import Ledger, State
from ctxfs.versions.recording.maintenance import delete_commit_graph
from ctxfs.versions.recording.pathindex import PathChange

log = logging.getLogger(__name__)

_EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
_WAIT_SECONDS = 2.0  # for the writers of an erased file
_DERIVED_AREAS = (b"context", b"search", b"human")
_OWN_AREAS = (b"memory", b"pad")
_BATCH_BLOBS = 50
ERASED_IDS_FILE = "ctxfs-forgotten"


@dataclass(frozen=True, slots=True)
class ErasureResult:
    """The result of an erasure: rewritten versions, erased blobs, and the paths that still have the content."""

    versions: int
    blobs: int
    paths: tuple[bytes, ...]
    elsewhere: tuple[bytes, ...]
    copies: tuple[bytes, ...] = ()  # other principals' files that hold phrases of it; they stay


class Eraser:
    """The erasure of contents of one store.

    Used under the archive's lock, while nothing packs the repository.
    """

    def __init__(self, ledger: Ledger, committer: Committer, intent: HostPath) -> None:
        self._ledger = ledger
        self._committer = committer
        self._intent = intent

    # plans
    def of_path(self, path: bytes) -> ErasurePlan:
        """Return the plan for all contents that were ever at a path or below it, also under its earlier names.

        Raise `OSError` ENOENT for a path without history.
        """
        index = self._ledger.index
        contents: dict[bytes, set[str]] = {}
        sides = set()
        rows = index.changes_below(path)
        for name in {row.path for row in rows}:
            for _, change in index.versions(name):
                if change.oid:
                    contents.setdefault(change.path, set()).add(change.oid)
                if change.side:
                    sides.add(change.side)
        in_branches = list(branch_changes(self._ledger))
        rows = [*rows, *(row for _, row in in_branches if _is_at(row.path, path))]
        for row in rows:
            if row.oid:
                contents.setdefault(row.path, set()).add(row.oid)
        _add_moved(contents, in_branches)
        sides |= {row.side for row in rows if row.side}
        if not rows:
            raise path_error(errno.ENOENT, path_text(path), "no version knows this path")
        return self._make_plan(frozenset((path,)), contents, sides, "")

    def of_principal(self, principal: str) -> ErasurePlan:
        """Return the plan for a principal's name and for all contents that it wrote, also after renames."""
        index = self._ledger.index
        contents: dict[bytes, set[str]] = {}
        sides = []
        in_branches = list(branch_changes(self._ledger))
        own = [row for commit, row in in_branches if commit.actor.principal == principal]
        for row in (*index.changes_by(principal), *own):
            if row.oid:
                contents.setdefault(row.path, set()).add(row.oid)
                sides.append(row.side)
        written = {oid for oids in contents.values() for oid in oids}
        for path, oid, seq in index.occurrences_of(written):
            if any(path == target or path.startswith(target + b"/") for _, target in index.moves_of(seq)):
                contents.setdefault(path, set()).add(oid)
        _add_moved(contents, in_branches)
        return self._make_plan(frozenset(), contents, [side for side in sides if side], principal)

    def phrases(self, plan: ErasurePlan) -> Phrases:
        """Return the phrases of the texts to erase."""
        oids = {oid for blobs in plan.contents.values() for oid in blobs}
        return Phrases(data for _, data in self._read_texts(oids))

    def with_derived(self, plan: ErasurePlan, phrases: Phrases) -> ErasurePlan:
        """Return the plan, extended by contents of the derived areas, in any version, with phrases of the texts."""
        index, paths_of = self._ledger.index, dict[str, set[bytes]]()
        for area in _DERIVED_AREAS:
            for row in index.changes_below(area):
                if row.oid:
                    paths_of.setdefault(row.oid, set()).add(row.path)
        contents = {path: set(oids) for path, oids in plan.contents.items()}
        for oid, data in self._read_texts(paths_of):
            for path in paths_of[oid] if phrases.is_in(data) else ():
                contents.setdefault(path, set()).add(oid)
        blobs = plan.blobs | {oid for oids in contents.values() for oid in oids}
        frozen = {path: frozenset(oids) for path, oids in contents.items()}
        return replace(plan, contents=frozen, blobs=frozenset(blobs - {_EMPTY_BLOB}))

    def copies(self, plan: ErasurePlan, phrases: Phrases) -> tuple[bytes, ...]:
        """Return the current files outside of the plan that hold phrases of the texts.

        They belong to principals, and stay.
        """
        ledger, paths_of = self._ledger, dict[str, list[bytes]]()
        for area in _OWN_AREAS:
            for parts, state in ledger.walk(ledger.tree, (area,)):
                path = b"/".join(parts)
                if state.entry is None or state.entry.mode == MODE_DIR or self._is_planned(plan, path, state.entry.oid):
                    continue
                paths_of.setdefault(state.entry.oid, []).append(path)
        copies = [path for oid, data in self._read_texts(paths_of) if phrases.is_in(data) for path in paths_of[oid]]
        scratch = [path for path, data in ledger.scratch.texts(ledger.work, MAX_TEXT_BYTES) if phrases.is_in(data)]
        return tuple(sorted((*copies, *scratch)))

    @staticmethod
    def _is_planned(plan: ErasurePlan, path: bytes, oid: str) -> bool:
        is_below = any(path == erased or path.startswith(erased + b"/") for erased in plan.places)
        return is_below or oid in plan.contents.get(path, ())

    def _read_texts(self, oids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (id, content) of the blobs of at most `MAX_TEXT_BYTES`, a batch in memory at a time."""
        repo = self._ledger.repo
        sizes = repo.sizes(oids)
        text_oids = [oid for oid, size in sizes.items() if size <= MAX_TEXT_BYTES]
        for start in range(0, len(text_oids), _BATCH_BLOBS):
            yield from repo.read_many(text_oids[start : start + _BATCH_BLOBS]).items()

    def _make_plan(
        self, places: frozenset[bytes], contents: Mapping[bytes, set[str]], sides: Iterable[str], principal: str
    ) -> ErasurePlan:
        large = {side.large.sha256 for oid in set(sides) if (side := self._ledger.read_sidecar(oid)).large is not None}
        blobs = {oid for oids in contents.values() for oid in oids} | set(sides)
        frozen = {path: frozenset(oids) for path, oids in contents.items()}
        return ErasurePlan(places, frozen, principal, frozenset(large), frozenset(blobs - {_EMPTY_BLOB}))

    # execution
    def erase(self, plan: ErasurePlan, actor: Actor) -> ErasureResult:
        """Carry out a plan. Raise `OSError` if a content is left; another call resumes."""
        self._write_intent(plan, actor)
        paths = self._bury_planned(plan, actor)
        versions = self._rewrite(plan)
        remaining, other_paths = self._sweep(plan)
        self._record_erased(plan)
        self._intent.unlink(missing_ok=True)
        if remaining:
            raise path_error(
                errno.EIO, remaining[0], f"{len(remaining)} erased objects are still in the repository: run it again"
            )
        return ErasureResult(versions, len(plan.blobs), paths, other_paths)

    def _record_erased(self, plan: ErasurePlan) -> None:
        """Record the ids of erased blobs, so that a pull does not bring them back."""
        file = self._ledger.repo.folder / ERASED_IDS_FILE
        oids = set(file.read_text().split()) if file.exists() else set()
        replace_text(file, "".join(f"{oid}\n" for oid in sorted(oids | plan.blobs)))

    def finish(self) -> ErasureResult | None:
        """Resume an interrupted erasure; return None if there is none."""
        try:
            value = json.loads(self._intent.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.error("the intent record of an interrupted erasure cannot be read; repeat the erasure: %s", error)
            self._intent.unlink(missing_ok=True)
            return None
        plan = ErasurePlan(
            frozenset(map(path_bytes, value["places"])),
            {path_bytes(path): frozenset(oids) for path, oids in value["contents"].items()},
            value["principal"],
            frozenset(value["large"]),
            frozenset(value["blobs"]),
            path_bytes(value.get("note", "")),
            value.get("is_shared", False),
        )
        return self.erase(plan, Actor(**value["actor"]))

    def bury(self, plan: ErasurePlan, actor: Actor) -> tuple[bytes, ...]:
        """Put tombstones into the work tree and commit them, before an erasure; return their paths."""
        return self._bury_planned(plan, actor)

    def _bury_planned(self, plan: ErasurePlan, actor: Actor) -> tuple[bytes, ...]:
        """Remove the contents from the work tree.

        A dangling symbolic link with the reason takes the place of each file.
        """
        ledger = self._ledger
        note = plan.note or tombstone_text(actor)
        paths = []
        for path in sorted(plan.places | plan.contents.keys()):
            parts = split_path(path)
            state = ledger.state(ledger.tree, parts)
            is_here = path in plan.places or (state.entry is not None and state.entry.oid in plan.contents[path])
            if not is_here or ledger.work.stat(parts) is None or ledger.work.stat(parts[:-1]) is None or len(parts) < 2:
                continue
            if path in plan.places:
                ledger.work.replace_with_link(parts, note)  # including concurrent writes to it
            elif not self._bury_content(parts, state, note):
                continue
            paths.append(path)
        if paths:
            self._committer.commit_paths(actor, "forget", dict.fromkeys(paths, True))
        return tuple(paths)

    def _bury_content(self, parts: Parts, state: State, note: bytes) -> bool:
        """Replace a file whose state is that of the newest version; return False for a file that differs.

        Raise `OSError` EBUSY while it is open for writing.
        """
        work, capture = self._ledger.work, Capture(self._ledger, keep=False)
        work.patience = WriterTimeout(_WAIT_SECONDS)
        swap = work.put_link(parts, note, lambda stat: capture.capture_path(parts, stat, state) == state)
        if swap.reason is UnchangedReason.OPEN:
            raise path_error(
                errno.EBUSY, path_text(b"/".join(parts)), "it is open for writing: close it, and run it again"
            )
        orphan = swap.orphan
        if orphan is None:
            return swap.reason is None
        try:
            if orphan.is_suspect and orphan.fd >= 0 and capture.capture_fd(b"/".join(parts), orphan.fd) != state:
                work.restore_orphan(parts, orphan)
                return False
            if orphan.name:
                work.unlink_orphan(parts, orphan)
            return True
        finally:
            if orphan.fd >= 0:
                os.close(orphan.fd)

    def _rewrite(self, plan: ErasurePlan) -> int:
        """Rewrite every commit that holds a content to erase, and its descendants; return their number."""
        ledger = self._ledger
        assert ledger.head is not None
        drop_all(ledger.repo)
        rewrite = HistoryRewrite(ledger, plan)
        oids = ledger.repo.run("rev-list", "--topo-order", "--reverse", "--all").decode().split()
        rewrite.add(oids)
        ledger.origins.replace(rewrite.new)
        changed = sum(1 for old, replacement in rewrite.new.items() if old != replacement)
        if changed:
            drop_checkpoint(ledger.repo)
            drop_records(ledger.repo)
            for prefix in ("refs/remotes/", "refs/ctxfs/fetched/"):
                ledger.repo.delete_refs(prefix)
            self._move_refs(rewrite.new, ledger.head.oid)
        return changed

    def _move_refs(self, new: Mapping[str, str], head: str) -> None:
        """Move all refs to the rewritten commits, the branch last."""
        for name, oid in self._ledger.repo.list_refs("refs/").items():
            current = self._ledger.repo.read_ref(f"refs/{name}")
            if f"refs/{name}" != BRANCH and current is not None and current != new.get(oid, oid):
                self._ledger.repo.update_ref(f"refs/{name}", new.get(oid, oid), current)
        self._ledger.repo.update_ref(BRANCH, new[head], head)

    def _sweep(self, plan: ErasurePlan) -> tuple[list[str], tuple[bytes, ...]]:
        """Delete unreachable objects and large contents.

        Return the erased blobs that are still stored though no version uses them, and the paths at which versions use
        others.
        """
        ledger = self._ledger
        repo = ledger.repo
        repo.close_readers()
        delete_commit_graph(repo)
        repo.run_maintenance("pack-refs", "--all")
        repo.run_maintenance("repack", "-a", "-d", "-l", "-q")
        repo.run_maintenance("prune", "--expire=now")
        repo.close_readers()
        ledger.trees.clear()
        ledger.clear_caches()
        with ledger.index.transaction():
            ledger.index.clear()
            ledger.index.delete_file_records(plan.places | plan.contents.keys())
        ledger.index.vacuum()
        ledger.open_head()
        other_paths = {path: oid for path, oid, _ in ledger.index.occurrences_of(plan.blobs)}
        in_branches = [row for _, row in branch_changes(ledger)]
        other_paths |= {row.path: row.oid for row in in_branches if row.oid in plan.blobs}
        used = {*other_paths.values(), *(row.oid for row in in_branches)}
        # Equal side-cars are one blob, which other files may refer to.
        sides = {*ledger.index.sides_of(0), *(row.side for row in in_branches if row.side)}
        used_large = {side.large.sha256 for oid in sides if (side := ledger.read_sidecar(oid)).large is not None}
        ledger.large.remove(plan.large - used_large)
        remaining = [oid for oid in plan.blobs - used - sides if repo.has(oid)]
        return remaining, tuple(sorted(other_paths))

    def _write_intent(self, plan: ErasurePlan, actor: Actor) -> None:
        value = {
            "places": sorted(map(path_text, plan.places)),
            "contents": {path_text(path): sorted(oids) for path, oids in plan.contents.items()},
            "principal": plan.principal,
            "large": sorted(plan.large),
            "blobs": sorted(plan.blobs),
            "note": path_text(plan.note),
            "is_shared": plan.is_shared,
            "actor": asdict(actor),
        }
        replace_text(self._intent, json.dumps(value))


def _add_moved(contents: dict[bytes, set[str]], in_branches: Iterable[tuple[Commit, PathChange]]) -> None:
    """Add the new names of contents that a branch has moved."""
    planned = {oid for oids in contents.values() for oid in oids}
    for commit, row in in_branches:
        if row.oid in planned and any(_is_at(row.path, target) for _, target in commit.moves):
            contents.setdefault(row.path, set()).add(row.oid)


def _is_at(path: bytes, above: bytes) -> bool:
    return path == above or path.startswith(above + b"/")


def tombstone_text(actor: Actor) -> bytes:
    """Return the target of the link that takes the place of an erased file."""
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"(forgotten {when} by {actor.principal})".encode()
