"""The conflict desk: it opens a review for each conflict file, and carries out the verdicts of people.

human/review/conflict-<id>/claim.md     the paths of both contents
                          evidence.md   how to compare them
                          verdict       write `this`, `other` or `both`
                          outcome.json  the decision

The files of a review have the same bytes at every node, so that nodes may open it at the same time.
"""

import errno
import hashlib
import json
from collections.abc import Mapping, Sequence

import trio

from ctxfs.context.grounding.review import REVIEWS, Decision, ReviewTree
from ctxfs.context.grounding.review_files import read_optional
from ctxfs.context.grounding.review_outcome import outcome_record
from ctxfs.model.change import Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.errors import invalid, not_permitted, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path, encode_name, one_line
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.services.conflict_files import CONFLICT_ATTRIBUTE, ConflictFile, ConflictFiles
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.recording.journal import new_session_name
from ctxfs.vfs.session import SessionTree

KIND = "conflict"
_TOOL = "review"
_PREFIX = "conflict-"
_ABOUT, _VERDICT, _OUTCOME = "about.json", "verdict", "outcome.json"
_MAX_OPEN = 200  # reviews; more are opened when these are decided
_DECISIONS: Mapping[Decision, Decision] = {
    "this": "this", "reject": "this", "other": "other", "accept": "other", "both": "both",
}  # fmt: skip


class ConflictDesk:
    """The reviews of conflict files."""

    def __init__(self, reviews: ReviewTree, tree: Mount, archive: Archive, files: ConflictFiles) -> None:
        """`reviews` writes below human/ without access control. `tree` has it: verdicts are changes by their principal."""
        self._reviews = reviews
        self._tree = tree
        self._archive = archive
        self._files = files
        self._lock = trio.Lock()

    async def refresh(self) -> None:
        """Open a review for each conflict file, and withdraw those of files that were removed or relabelled."""
        async with self._lock:
            files = {_review_id(file): file for file in await blocking(self._files.list)}
            try:
                names = {entry.name for entry in await self._reviews.list(REVIEWS) if entry.name.startswith(_PREFIX)}
            except FileNotFoundError:
                names = set()
            for name in sorted(names - files.keys()):
                if await read_optional(self._reviews, REVIEWS / name / _OUTCOME) is None:
                    outcome = {
                        **outcome_record("withdraw", "ctxfs", "withdraw"),
                        "why": "there is no conflict any more",
                    }
                    await self._reviews.apply([Put(REVIEWS / name / _OUTCOME, _dump(outcome))], f"withdraw: {name}")
            for name in sorted(files.keys() - names)[: max(0, _MAX_OPEN - len(names & files.keys()))]:
                await self._reviews.apply(_new_files(REVIEWS / name, files[name]), f"conflict: {files[name].of[:80]}")

    async def decide(self, name: str, decision: Decision, principal: str) -> Sequence[str]:
        """Keep this content, the other, or both; return the paths that have changed.

        Raise OSError: EINVAL for another decision, ESTALE without a conflict, and the errors of changes by the principal.
        """
        choice = _DECISIONS.get(decision)
        if choice is None:
            raise invalid(REVIEWS / name / _VERDICT, "write this, other or both")
        async with self._lock:
            if await read_optional(self._reviews, REVIEWS / name / _OUTCOME) is not None:
                raise not_permitted(REVIEWS / name / _VERDICT, "this is decided; ctxfs undo takes it back")
            file = await self._file(name)
            path, copy = Path.parse(file.of), Path.parse(file.path)
            changes: dict[Decision, list[Change]] = {
                "this": [Remove(copy)],
                "other": [Move(copy, path), SetMeta(path, CONFLICT_ATTRIBUTE, None)],
                "both": [SetMeta(copy, CONFLICT_ATTRIBUTE, None)],
            }
            await self._apply(changes[choice], name, parse_principal(principal), f"{choice}: {file.of[:80]}")
            outcome = outcome_record(choice, principal, "this")
            records: list[Change] = [
                Put(REVIEWS / name / _VERDICT, f"{choice}\n".encode()),
                Put(REVIEWS / name / _OUTCOME, _dump(outcome)),
            ]
            await self._reviews.apply(records, f"{choice}: review {name}")
            return [file.path, file.of] if choice == "other" else [file.path]

    async def undo(self, name: str, principal: str) -> Sequence[str]:
        """Undo the changes of a verdict, so that the review waits again; return the paths that have changed.

        Raise ESTALE if one of the files has changed since.
        """
        async with self._lock:
            about = json.loads(await self._reviews.read(REVIEWS / name / _ABOUT))
            decision = json.loads(await self._reviews.read(REVIEWS / name / _OUTCOME)).get("decision")
            changed = list[str]()
            if decision != "withdraw":
                await in_turn(self._archive.commit)
                paths = [about["copy"], *([about["of"]] if decision == "other" else [])]
                for path in paths:
                    last = await in_turn(self._archive.reader.last_change, path)
                    if last is None or last.actor.session != f"review-{name}":
                        raise path_error(errno.ESTALE, path, "it has changed since; ctxfs undo takes that back first")
                actor = Actor(principal, new_session_name("u"), _TOOL, f"undo: review {name}")
                for path in paths:
                    target = await in_turn(_version_before, self._archive, path)
                    await in_turn(self._archive.rollbacks.restore, path, target, actor)
                changed = paths
            records: list[Change] = [Remove(REVIEWS / name / _OUTCOME), Put(REVIEWS / name / _VERDICT, b"")]
            await self._reviews.apply(records, f"undo: review {name}")
            return changed

    async def _apply(self, changes: Sequence[Change], name: str, principal: Principal, reason: str) -> None:
        journal = self._archive.writer(Actor(str(principal), f"review-{name}", _TOOL, reason))
        try:
            tree = SessionTree(self._tree, principal, journal)
            for change in changes:
                await tree.apply(change)
        finally:
            journal.close()

    async def _file(self, name: str) -> ConflictFile:
        """Return the conflict file of a review. Raise OSError ESTALE if it is one no more."""
        await in_turn(self._archive.commit)
        for file in await blocking(self._files.list):
            if _review_id(file) == name:
                return file
        raise path_error(errno.ESTALE, REVIEWS / name, "the other content is gone: nothing is to be decided")


def _version_before(archive: Archive, path: str) -> str:
    """Return the version before the newest change of a path."""
    last = archive.reader.last_change(path)
    assert last is not None
    return last.parents[0]


def _review_id(file: ConflictFile) -> str:
    return _PREFIX + hashlib.sha256(encode_name(file.path)).hexdigest()[:12]


def _new_files(folder: Path, file: ConflictFile) -> list[Change]:
    """Return the changes that open a review; its verdict comes last, so that a visible one is complete."""
    title = f"two contents of {one_line(file.of)}"
    about = {
        "kind": KIND,
        "task": "",
        "title": title,
        "why": f"the other is {one_line(file.path)}",
        "suggested": "this",
        "of": file.of,
        "copy": file.path,
    }
    evidence = (
        f"# {title}\n\nThis: {one_line(file.of)}\nOther: {one_line(file.path)}\n\n"
        "Two machines changed the same lines. Write into `verdict`: `this` removes the other content, `other` puts it\n"
        "in place of this one, and `both` keeps both files.\n"
    )
    return [
        MakeDir(REVIEWS),
        MakeDir(folder),
        Put(folder / "claim.md", f"{title}\n".encode()),
        Put(folder / "evidence.md", evidence.encode()),
        Put(folder / _ABOUT, _dump(about)),
        Put(folder / _VERDICT, b""),
    ]


def _dump(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
