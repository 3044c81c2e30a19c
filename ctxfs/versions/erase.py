"""Erasure: remove contents from every version, and verify that they are gone.

Every commit from the first with the content on is rewritten without it. The old commits and their objects are deleted,
and each erased blob is looked up by its id to verify that it is gone. The plan is written to an intent record first, so
that an interrupted erasure is finished at the next start.
"""

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path as HostPath

from ctxfs.model.errors import path_error
from ctxfs.store.atomic_replace import KeptReason, Patience
from ctxfs.store.config import replace_text
from ctxfs.versions.objects.commits import Actor, Commit, decode_commit, encode_commit
from ctxfs.versions.objects.fingerprint import MAX_TEXT_BYTES
from ctxfs.versions.objects.git import BRANCH
from ctxfs.versions.objects.name_encoding import path_bytes, path_text, real_name, side_name, split_path
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, Parts, TreeEntry
from ctxfs.versions.phrases import Phrases
from ctxfs.versions.recording.capture import Capture
from ctxfs.versions.recording.committer import Committer
from ctxfs.versions.recording.ledger import Ledger, State

log = logging.getLogger(__name__)

_EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
_FORGOTTEN = "forgotten"
_WAIT_SECONDS = 2.0  # for the writers of an erased file
_DERIVED_AREAS = (b"context", b"search", b"human")
_OWN_AREAS = (b"memory", b"pad")
_BATCH = 50
FORGOTTEN = "ctxfs-forgotten"


@dataclass(frozen=True, slots=True)
class ErasurePlan:
    """The contents to erase: whole paths, blob ids by path, the name of a principal, and large contents."""

    places: frozenset[bytes] = frozenset()
    contents: Mapping[bytes, frozenset[str]] = field(default_factory=dict)
    principal: str = ""
    large: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """True if no version holds any of the contents."""
        return not (self.places or self.contents or self.principal)


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
        rows = index.rows_below(path)
        for name in {row.path for row in rows}:
            for _, change in index.versions(name):
                if change.oid:
                    contents.setdefault(change.path, set()).add(change.oid)
                if change.side:
                    sides.add(change.side)
        sides |= {row.side for row in rows if row.side}
        if not rows:
            raise path_error(errno.ENOENT, path_text(path), "no version knows this path")
        return self._doomed(frozenset((path,)), contents, sides, "")

    def of_principal(self, principal: str) -> ErasurePlan:
        """Return the plan for a principal's name and for all contents that it wrote, also after renames."""
        index = self._ledger.index
        contents: dict[bytes, set[str]] = {}
        sides = []
        for row in index.rows_by(principal):
            if row.oid:
                contents.setdefault(row.path, set()).add(row.oid)
                sides.append(row.side)
        written = {oid for found in contents.values() for oid in found}
        for path, oid, seq in index.places_of(written):
            if any(path == target or path.startswith(target + b"/") for _, target in index.moves_of(seq)):
                contents.setdefault(path, set()).add(oid)
        return self._doomed(frozenset(), contents, [side for side in sides if side], principal)

    def phrases(self, doomed: ErasurePlan) -> Phrases:
        """Return the phrases of the texts to erase."""
        oids = {oid for found in doomed.contents.values() for oid in found}
        return Phrases(data for _, data in self._read(oids))

    def with_derived(self, doomed: ErasurePlan, phrases: Phrases) -> ErasurePlan:
        """Return the plan, extended by contents of the derived areas, in any version, with phrases of the texts."""
        index, places = self._ledger.index, dict[str, set[bytes]]()
        for area in _DERIVED_AREAS:
            for row in index.rows_below(area):
                if row.oid:
                    places.setdefault(row.oid, set()).add(row.path)
        contents = {path: set(oids) for path, oids in doomed.contents.items()}
        for oid, data in self._read(places):
            for path in places[oid] if phrases.is_in(data) else ():
                contents.setdefault(path, set()).add(oid)
        blobs = doomed.blobs | {oid for oids in contents.values() for oid in oids}
        kept = {path: frozenset(oids) for path, oids in contents.items()}
        return replace(doomed, contents=kept, blobs=frozenset(blobs - {_EMPTY_BLOB}))

    def copies(self, doomed: ErasurePlan, phrases: Phrases) -> tuple[bytes, ...]:
        """Return the current files outside of the plan that hold phrases of the texts.

        They belong to principals, and stay.
        """
        ledger, places = self._ledger, dict[str, list[bytes]]()
        for area in _OWN_AREAS:
            for parts, state in ledger.walk(ledger.tree, (area,)):
                path = b"/".join(parts)
                if (
                    state.entry is None
                    or state.entry.mode == MODE_DIR
                    or self._is_doomed(doomed, path, state.entry.oid)
                ):
                    continue
                places.setdefault(state.entry.oid, []).append(path)
        found = [path for oid, data in self._read(places) if phrases.is_in(data) for path in places[oid]]
        return tuple(sorted(found))

    @staticmethod
    def _is_doomed(doomed: ErasurePlan, path: bytes, oid: str) -> bool:
        below = any(path == place or path.startswith(place + b"/") for place in doomed.places)
        return below or oid in doomed.contents.get(path, ())

    def _read(self, oids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (id, content) of the blobs of at most `MAX_TEXT_BYTES`, a batch in memory at a time."""
        repo = self._ledger.repo
        sizes = repo.sizes(oids)
        wanted = [oid for oid, size in sizes.items() if size <= MAX_TEXT_BYTES]
        for start in range(0, len(wanted), _BATCH):
            yield from repo.read_many(wanted[start : start + _BATCH]).items()

    def _doomed(
        self, places: frozenset[bytes], contents: Mapping[bytes, set[str]], sides: Iterable[str], principal: str
    ) -> ErasurePlan:
        large = {side.large.sha256 for oid in set(sides) if (side := self._ledger.side(oid)).large is not None}
        blobs = {oid for found in contents.values() for oid in found} | set(sides)
        kept = {path: frozenset(found) for path, found in contents.items()}
        return ErasurePlan(places, kept, principal, frozenset(large), frozenset(blobs - {_EMPTY_BLOB}))

    # execution
    def erase(self, doomed: ErasurePlan, actor: Actor) -> ErasureResult:
        """Carry out a plan. Raise `OSError` if a content is left; another call resumes."""
        self._write_intent(doomed, actor)
        paths = self._bury(doomed, actor)
        versions = self._rewrite(doomed)
        left, elsewhere = self._sweep(doomed)
        self._remember(doomed)
        self._intent.unlink(missing_ok=True)
        if left:
            raise path_error(
                errno.EIO, left[0], f"{len(left)} erased objects are still in the repository: run it again"
            )
        return ErasureResult(versions, len(doomed.blobs), paths, elsewhere)

    def _remember(self, doomed: ErasurePlan) -> None:
        """Record the ids of erased blobs, so that a pull does not bring them back."""
        file = self._ledger.repo.folder / FORGOTTEN
        known = set(file.read_text().split()) if file.exists() else set()
        replace_text(file, "".join(f"{oid}\n" for oid in sorted(known | doomed.blobs)))

    def finish(self) -> ErasureResult | None:
        """Resume an interrupted erasure; return None if there is none."""
        try:
            found = json.loads(self._intent.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.error("an interrupted erasure cannot be read: repeat it (%s)", error)
            self._intent.unlink(missing_ok=True)
            return None
        doomed = ErasurePlan(
            frozenset(map(path_bytes, found["places"])),
            {path_bytes(path): frozenset(oids) for path, oids in found["contents"].items()},
            found["principal"],
            frozenset(found["large"]),
            frozenset(found["blobs"]),
        )
        return self.erase(doomed, Actor(**found["actor"]))

    def _bury(self, doomed: ErasurePlan, actor: Actor) -> tuple[bytes, ...]:
        """Remove the contents from the work tree.

        A dangling symbolic link with the reason takes the place of each file.
        """
        ledger = self._ledger
        when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        note = f"(forgotten {when} by {actor.principal})".encode()
        paths = []
        for path in sorted(doomed.places | doomed.contents.keys()):
            parts = split_path(path)
            state = ledger.state(ledger.tree, parts)
            here = path in doomed.places or (state.entry is not None and state.entry.oid in doomed.contents[path])
            if not here or ledger.work.look(parts) is None or ledger.work.look(parts[:-1]) is None or len(parts) < 2:
                continue
            if path in doomed.places:
                ledger.work.bury(parts, note)  # including concurrent writes to it
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
        work.patience = Patience(_WAIT_SECONDS)
        swap = work.put_link(parts, note, lambda found: capture.state(parts, found, state) == state)
        if swap.left is KeptReason.OPEN:
            raise path_error(
                errno.EBUSY, path_text(b"/".join(parts)), "it is open for writing: close it, and run it again"
            )
        orphan = swap.orphan
        if orphan is None:
            return swap.left is None
        try:
            if orphan.is_suspect and orphan.fd >= 0 and capture.opened_state(b"/".join(parts), orphan.fd) != state:
                work.put_back(parts, orphan)
                return False
            if orphan.name:
                work.release(parts, orphan)
            return True
        finally:
            if orphan.fd >= 0:
                os.close(orphan.fd)

    def _rewrite(self, doomed: ErasurePlan) -> int:
        """Rewrite every commit that holds a content to erase, and its descendants; return their number."""
        ledger = self._ledger
        assert ledger.head is not None
        old_head = ledger.head.oid
        new: dict[str, str] = {}
        telling = ledger.index.commits_of(doomed.places, doomed.contents.keys())
        filtered = _Filter(ledger, doomed)
        listed = ledger.repo.run("rev-list", "--topo-order", "--reverse", "--all").decode().split()
        for oid in listed:
            commit = decode_commit(oid, ledger.repo.read(oid))
            named = doomed.principal != "" and ledger.origins.qualify(commit).actor.principal == doomed.principal
            new[oid] = self._again(commit, filtered, new, named=named, telling=oid in telling)
        ledger.origins.replace(new)
        changed = sum(1 for old, replacement in new.items() if old != replacement)
        if changed:
            for name, oid in ledger.repo.refs("refs/tags/").items():
                self._point(f"refs/tags/{name}", new.get(oid, oid))
            for below in ("refs/remotes/", "refs/ctxfs/fetched/"):
                for name, oid in ledger.repo.refs(below, peel=False).items():
                    ledger.repo.delete(f"{below}{name}", oid)
            ledger.repo.update(BRANCH, new[old_head], old_head)
        return changed

    def _point(self, name: str, oid: str) -> None:
        now = self._ledger.repo.ref(name)
        if now is not None and now != oid:
            self._ledger.repo.update(name, oid, now)

    def _again(self, commit: Commit, filtered: "_Filter", new: Mapping[str, str], *, named: bool, telling: bool) -> str:
        """Return the id of the commit without the contents; the old id if nothing of it changes.

        `named` means that the commit's principal is erased, `telling` that the commit changed a path of the plan.
        """
        tree = filtered.tree(commit.tree)
        parents = tuple(dict.fromkeys(new[parent] for parent in commit.parents))
        if len(parents) == 1 and tree != commit.tree and self._tree_of(parents[0]) == tree:
            return parents[0]  # the commit had no other changes
        moves = tuple(move for move in commit.moves if not any(map(filtered.is_place, move)))
        actor = replace(commit.actor, principal=_FORGOTTEN, session="", reason="", tool="") if named else commit.actor
        told = replace(
            commit,
            tree=tree,
            parents=parents,
            moves=moves,
            actor=actor,
            subject=f"{commit.op} (something was forgotten)" if named or telling else commit.subject,
            scope=None if commit.scope is not None and filtered.is_place(commit.scope) else commit.scope,
            undoes=new.get(commit.undoes, commit.undoes),
        )
        if told == commit:
            return commit.oid
        return self._ledger.repo.write("commit", encode_commit(told))

    def _tree_of(self, oid: str) -> str:
        return decode_commit(oid, self._ledger.repo.read(oid)).tree

    def _sweep(self, doomed: ErasurePlan) -> tuple[list[str], tuple[bytes, ...]]:
        """Delete unreachable objects and large contents.

        Return the erased blobs that are still stored though no version uses them, and the paths at which versions use
        others.
        """
        ledger = self._ledger
        repo = ledger.repo
        repo.forget_helpers()
        info = repo.folder / "objects" / "info"
        (info / "commit-graph").unlink(missing_ok=True)
        shutil.rmtree(info / "commit-graphs", ignore_errors=True)
        repo.run_upkeep("pack-refs", "--all")
        repo.run_upkeep("repack", "-a", "-d", "-l", "-q")
        repo.run_upkeep("prune", "--expire=now")
        repo.forget_helpers()
        ledger.trees.clear()
        ledger.forget_memory()
        with ledger.index.transaction():
            ledger.index.clear()
            ledger.index.forget_seen(doomed.places | doomed.contents.keys())
        ledger.index.compact()
        ledger.open_head()
        elsewhere = {path: oid for path, oid, _ in ledger.index.places_of(doomed.blobs)}
        kept = set(elsewhere.values())
        sides = set(ledger.index.sides_of(0))  # equal side-cars are one blob, which other files may refer to
        named = {side.large.sha256 for oid in sides if (side := ledger.side(oid)).large is not None}
        ledger.large.remove(doomed.large - named)
        left = [oid for oid in doomed.blobs - kept - sides if repo.has(oid)]
        return left, tuple(sorted(elsewhere))

    def _write_intent(self, doomed: ErasurePlan, actor: Actor) -> None:
        value = {
            "places": sorted(map(path_text, doomed.places)),
            "contents": {path_text(path): sorted(oids) for path, oids in doomed.contents.items()},
            "principal": doomed.principal,
            "large": sorted(doomed.large),
            "blobs": sorted(doomed.blobs),
            "actor": asdict(actor),
        }
        replace_text(self._intent, json.dumps(value))


class _Filter:
    """The trees without the contents of a plan. Each tree at each path is filtered once."""

    def __init__(self, ledger: Ledger, doomed: ErasurePlan) -> None:
        self._ledger = ledger
        self._doomed = doomed
        self._above = {
            split_path(path)[:depth]
            for path in doomed.places | doomed.contents.keys()
            for depth in range(path.count(b"/") + 1)
        }
        self._done: dict[tuple[str, Parts], str] = {}

    def is_place(self, path: bytes) -> bool:
        """Return True for a path that is erased whole, or lies below one."""
        return any(path == place or path.startswith(place + b"/") for place in self._doomed.places)

    def tree(self, oid: str) -> str:
        """Return the id of the filtered tree."""
        pending: list[tuple[str, Parts]] = [(oid, ())]
        while pending:
            key = pending[-1]
            inner = [] if key in self._done else self._inside(*key)
            missing = [each for each in inner if each not in self._done]
            if missing:
                pending += missing
                continue
            if key not in self._done:
                self._done[key] = self._filter(*key)
            pending.pop()
        return self._done[oid, ()]

    def _inside(self, oid: str, at: Parts) -> list[tuple[str, Parts]]:
        """Return (id, path) of the directories in a tree that contain paths of the plan."""
        found = []
        for stored, entry in self._ledger.trees.listing(oid).items():
            name = real_name(stored)
            if name is not None and entry.mode == MODE_DIR and (*at, name) in self._above:
                found.append((entry.oid, (*at, name)))
        return found

    def _filter(self, oid: str, at: Parts) -> str:
        listing = dict(self._ledger.trees.listing(oid))
        changed = False
        for stored, entry in list(listing.items()):
            name = real_name(stored)
            if name is None or stored not in listing:
                continue
            parts = (*at, name)
            path = b"/".join(parts)
            if self._goes(path, entry):
                del listing[stored]
                listing.pop(side_name(name), None)
                changed = True
            elif entry.mode == MODE_DIR and parts in self._above:
                inner = self._done[entry.oid, parts]
                if inner != entry.oid:
                    listing[stored] = TreeEntry(MODE_DIR, inner)
                    changed = True
        if not changed:
            return oid
        return self._ledger.trees.write(listing) if listing else EMPTY_TREE

    def _goes(self, path: bytes, entry: TreeEntry) -> bool:
        """Return True if an entry is to be erased and is not its new tombstone."""
        if path in self._doomed.places:
            return not self._is_tombstone(entry)
        return entry.oid in self._doomed.contents.get(path, ())

    def _is_tombstone(self, entry: TreeEntry) -> bool:
        return entry.mode == 0o120000 and self._ledger.repo.read(entry.oid).startswith(b"(forgotten ")
