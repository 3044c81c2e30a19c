"""Results of judged claims: facts stored in memory, and doubts that a person decides on under human/review/.

A review of another kind, such as a proposal, is decided by the decider of its kind.

human/review/<id>/claim.md      the claim
                  evidence.md   the task, the nearest source and the reason for doubt
                  verdict       write `accept`, `reject`, or `edit` and the claim as it should read
                  outcome.json  the decision and its result
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol, get_args
from urllib.parse import quote

import trio

from ctxfs.context.build.manifest import Manifest
from ctxfs.context.grounding.evaluator import claim_id
from ctxfs.context.grounding.review_outcome import is_override, outcome_record
from ctxfs.model.change import Change, MakeDir, Put, Remove, SetMeta
from ctxfs.model.entry import Entry
from ctxfs.model.errors import invalid, not_permitted
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path, encode_name, lines_of, one_line
from ctxfs.policy.scope import SharingScope

if TYPE_CHECKING:
    from ctxfs.context.grounding.judge import Evaluation, JudgedClaim

Decision = Literal["accept", "reject", "edit", "this", "other", "both"]  # the last three: of two contents of a file

_ABOUT_NAME, _OUTCOME_NAME = "about.json", "outcome.json"
REVIEWS = Path(("human", "review"))
FACTS = Path(("memory", "shared", "fact"))
# Files are replaced by a rename, which changes the time of their folder. Changes within one tick of the clock are equal.
_SETTLED_NS = 1_000_000_000
_MIN_KEPT_SUPPORT = 0.75
_MIN_DOUBTFUL_SUPPORT = 0.45
_DECISIONS: Mapping[str, Decision] = {name: name for name in get_args(Decision)}
_OF_CLAIMS = ("accept", "reject", "edit")


class ReviewTree(Protocol):
    """Access to the tree with the permissions of the evaluator."""

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the entries of a directory."""
        ...

    async def read(self, path: Path) -> bytes:
        """Return the content of a file."""
        ...

    async def apply(self, changes: Sequence[Change], reason: str) -> None:
        """Apply changes one after another; an existing directory is left unchanged."""
        ...


class Decider(Protocol):
    """Carries out the verdicts about reviews of one kind."""

    async def decide(self, name: str, decision: Decision, principal: str) -> Sequence[str]:
        """Carry out a verdict, and store it with the review; return the paths that have changed. Raise OSError."""
        ...

    async def undo(self, name: str, principal: str) -> Sequence[str]:
        """Take a verdict back, so that the review waits again; return the paths that have changed. Raise OSError."""
        ...


class Citer(Protocol):
    """Citations of sources as a context had them."""

    async def cite(self, path: str, lines: tuple[int, int], sha256: str, revision: str) -> bytes:
        """Return the value of `user.ctx.cites` for lines of a content; empty if no version has it any more."""
        ...


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines of a source, with the digest and the version of its content as a context had it; empty if not known."""

    path: str = ""
    first: int = 0
    last: int = 0
    sha256: str = ""
    revision: str = ""

    @property
    def span(self) -> str:
        """Return `path:first-last`; empty without a source."""
        return f"{self.path}:{self.first}-{self.last}" if self.path else ""


@dataclass(frozen=True, slots=True)
class Review:
    """A review; `decision` is empty while it waits, `suggested` is the evaluator's decision.

    `kind` is empty for a claim.
    """

    id: str
    claim: str
    task: str
    why: str
    suggested: Decision
    decision: str = ""
    kind: str = ""


class Curator:
    """A curator that stores facts, opens reviews and applies verdicts."""

    def __init__(
        self, book: ReviewTree, deciders: Mapping[str, Decider] | None = None, citer: Citer | None = None
    ) -> None:
        """`deciders`: by the kind of a review; without one, a decision is only stored."""
        self._tree = book
        self._deciders = deciders or {}
        self._citer = citer
        self._lock = trio.Lock()  # of two verdicts at once, the second is refused
        self._known: dict[str, tuple[Entry, Review]] = {}  # by name, with the entry of the folder when it was read

    async def curate(
        self,
        task: str,
        manifest: Manifest,
        evaluation: Evaluation,
        facts: Path | None,
        scope: SharingScope,
    ) -> tuple[list[str], list[str]]:
        """Store facts in the directory `facts` (None: nowhere) and open reviews for doubtful claims.

        Return the paths of the facts and the ids of the reviews that wait; existing ones are included and left unchanged.
        FACTS receives only claims whose source file every agent may read.
        """
        paths = []
        if manifest.request.keep and facts is not None:
            for claim in evaluation.claims:
                if claim.verdict == "supported" and claim.support >= _MIN_KEPT_SUPPORT and claim.source is not None:
                    if facts == FACTS and not scope.is_for_all_agents(Path.parse(claim.source.path)):
                        continue
                    paths.append(
                        await self._write_fact(claim.claim.text, claim.support, _lines_of(claim, manifest), task, facts)
                    )
        doubts = [claim for claim in evaluation.claims if _is_doubtful(claim)]
        reviews = [await self._open_review(task, claim, _lines_of(claim, manifest)) for claim in doubts]
        return paths, [name for name in reviews if name]

    async def _write_fact(self, text: str, confidence: float, source: _Lines, task: str, facts: Path = FACTS) -> str:
        """Write a fact with its source unless it exists; return its path."""
        path = _fact_path(facts, text)
        if await self._exists(path):
            return str(path)
        lines = f"{source.first}-{source.last}"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        body = f"{text}\n\nSource: {_link(source.path)} lines {lines}\nKept: {now}, from context/{task}\n"
        body += f"Revision: {source.revision}\n" if source.revision else ""
        attributes = {"kind": "fact", "source": source.span, "confidence": f"{max(0.0, min(confidence, 1.0)):.2f}"}
        changes: list[Change] = [
            MakeDir(Path(facts.parts[:2])),
            MakeDir(facts),
            Put(path, body.encode("utf-8", "replace")),
        ]
        changes += [
            SetMeta(path, f"{PREFIX}{name}", value.encode("utf-8", "replace")) for name, value in attributes.items()
        ]
        if cites := await self._cite(source):
            changes.append(SetMeta(path, f"{PREFIX}cites", cites))
        # The same values under the paper's names, for readers that search for those.
        aliases = {"createdAt": now, "sourceId": source.span, "revisionId": source.revision}
        changes += [
            SetMeta(path, f"user.{name}", value.encode("utf-8", "replace")) for name, value in aliases.items() if value
        ]
        await self._tree.apply(changes, f"kept from context/{task}")
        return str(path)

    async def _cite(self, source: _Lines) -> bytes:
        if self._citer is None or not source.sha256:
            return b""
        return await self._citer.cite(source.path, (source.first, source.last), source.sha256, source.revision)

    async def _open_review(self, task: str, claim: JudgedClaim, source: _Lines) -> str:
        """Open a review unless it exists; return its id, empty if it is decided."""
        name = claim_id(f"{task} {claim.claim.text}")
        folder = REVIEWS / name
        if await self._exists(folder / "claim.md"):
            return "" if await self._exists(folder / _OUTCOME_NAME) else name
        suggested: Decision = (
            "reject" if claim.conflicts or claim.doubt or claim.verdict == "contradicted" else "accept"
        )
        about: dict[str, object] = {
            "task": task,
            "why": _doubt_reason(claim),
            "suggested": suggested,
            "support": round(claim.support, 3),
        }
        about |= {"source": source.span, "sha256": source.sha256, "revision": source.revision}
        about["conflicts"] = [conflict.record() for conflict in claim.conflicts]
        evidence = Put(folder / "evidence.md", _render_evidence(task, claim).encode("utf-8", "replace"))
        changes = _new_review(folder, claim.claim.text, about, evidence)
        await self._tree.apply(changes, f"doubt about context/{task}")
        return name

    async def request_permission(self, question: str, about: Mapping[str, object]) -> str:
        """Return a person's decision on a one-time permission.

        Return `accept` for the first call after the acceptance, `reject`, or the id of the waiting review. `about` is
        stored beside the question, identifies it, and has a `kind`.
        """
        key = json.dumps(about, sort_keys=True, ensure_ascii=False)
        for turn in itertools.count():
            name = claim_id(f"{key} {turn}")
            folder = REVIEWS / name
            if not await self._exists(folder / _ABOUT_NAME):
                record = {"task": "", "suggested": "reject", **about}
                changes = _new_review(folder, question, record)
                await self._tree.apply(changes, f"asked: {question[:80]}")
                return name
            if not await self._exists(folder / _OUTCOME_NAME):
                return name
            outcome = json.loads(await self._tree.read(folder / _OUTCOME_NAME))
            if outcome["decision"] == "reject":
                return "reject"
            if not outcome.get("used"):
                outcome["used"] = datetime.now(UTC).isoformat(timespec="seconds")
                await self._tree.apply(
                    [Put(folder / _OUTCOME_NAME, _dump_json(outcome))], f"done as allowed: review {name}"
                )
                return "accept"
        raise AssertionError("counting does not end")

    async def verdict_text(self, name: str) -> str | None:
        """Return the text of a review's verdict; None while it waits."""
        folder = REVIEWS / name
        if not await self._exists(folder / _OUTCOME_NAME):
            return None
        return (await self._tree.read(folder / "verdict")).decode("utf-8", "replace").strip()

    async def decide(self, name: str, verdict: bytes, principal: str) -> Sequence[str]:
        """Apply a person's verdict; return the paths that a proposal has changed.

        Raise EINVAL for an invalid verdict, EPERM for agents and for a decided review, and the errors of the decider.
        """
        async with self._lock:
            return await self._decide(name, verdict, principal)

    async def _decide(self, name: str, verdict: bytes, principal: str) -> Sequence[str]:
        decision, text = parse_verdict(verdict)
        folder = REVIEWS / name
        if not principal.startswith("human:"):
            raise not_permitted(folder / "verdict", "only people decide")
        if await self._exists(folder / _OUTCOME_NAME):
            raise not_permitted(folder / "verdict", "this is decided; ctxfs undo takes it back")
        about = json.loads(await self._tree.read(folder / _ABOUT_NAME))
        if (decider := self._deciders.get(str(about.get("kind")))) is not None:
            return await decider.decide(name, decision, principal)
        if decision not in _OF_CLAIMS:
            raise invalid(folder / "verdict", "write accept, reject, or edit and the claim as it should read")
        claim = await self._read_claim(folder)
        fact_path = made = ""
        if decision != "reject" and "kind" not in about:
            wording = text if decision == "edit" else claim
            is_known = await self._exists(_fact_path(FACTS, wording))
            fact_path = await self._write_fact(
                wording, 1.0, _lines_of_record(about) or _Lines(f"human/review/{name}", 1, 1), str(about["task"])
            )
            made = "" if is_known else hashlib.sha256(await self._tree.read(Path.parse(fact_path))).hexdigest()
        outcome = {**outcome_record(decision, principal, str(about["suggested"]), fact_path), "made": made}
        written = f"{decision} {text}".strip() + "\n"
        await self._tree.apply(
            [Put(folder / "verdict", written.encode()), Put(folder / _OUTCOME_NAME, _dump_json(outcome))],
            f"{decision}: review {name}",
        )
        return [fact_path] if fact_path else []

    async def undo(self, name: str, principal: str) -> Sequence[str]:
        """Take a verdict back, so that the review waits again; return the paths that have changed.

        A fact that the verdict has made is removed, unless it has changed since. Raise EPERM for agents, and for a
        permission that was used; ENOENT for a review that is not decided.
        """
        folder = REVIEWS / name
        if not principal.startswith("human:"):
            raise not_permitted(folder / "verdict", "only people decide")
        async with self._lock:
            outcome = json.loads(await self._tree.read(folder / _OUTCOME_NAME))
            about = json.loads(await self._tree.read(folder / _ABOUT_NAME))
            if (decider := self._deciders.get(str(about.get("kind")))) is not None:
                return await decider.undo(name, principal)
            if outcome.get("used"):
                raise not_permitted(folder / "verdict", "the permission was used")
            changes: list[Change] = [Remove(folder / _OUTCOME_NAME), Put(folder / "verdict", b"")]
            fact = str(outcome.get("kept", ""))
            is_unchanged = bool(fact) and await self._digest(Path.parse(fact)) == outcome.get("made")
            if is_unchanged:
                changes.insert(0, Remove(Path.parse(fact)))
            await self._tree.apply(changes, f"undo: review {name}")
            return [fact] if is_unchanged else []

    async def _digest(self, path: Path) -> str:
        """Return the sha256 of a file; empty if it is not there."""
        return hashlib.sha256(await self._tree.read(path)).hexdigest() if await self._exists(path) else ""

    async def reviews(self) -> list[Review]:
        """Return all reviews, the waiting ones first."""
        try:
            entries = await self._tree.list(REVIEWS)
        except FileNotFoundError:
            return []
        settled_ns = time.time_ns() - _SETTLED_NS
        known, reviews = dict[str, tuple[Entry, Review]](), list[Review]()
        for entry in entries:
            cached = self._known.get(entry.name)
            review = cached[1] if cached is not None and cached[0] == entry else await self._read_review(entry.name)
            if review is not None:
                reviews.append(review)
                if entry.mtime_ns < settled_ns:
                    known[entry.name] = entry, review
        self._known = known
        return sorted(reviews, key=lambda review: (bool(review.decision), review.id))

    async def _read_review(self, name: str) -> Review | None:
        """Return the review in a folder; None for a folder of another form."""
        folder = REVIEWS / name
        try:
            about = json.loads(await self._tree.read(folder / _ABOUT_NAME))
            kind = str(about.get("kind", ""))
            is_titled = kind in self._deciders
            claim = str(about["title"]) if is_titled else await self._read_claim(folder)
            decision = ""
            if await self._exists(folder / _OUTCOME_NAME):
                decision = str(json.loads(await self._tree.read(folder / _OUTCOME_NAME))["decision"])
            why = str(about.get("why", kind))
            return Review(name, claim, str(about["task"]), why, about["suggested"], decision, kind)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    async def _read_claim(self, folder: Path) -> str:
        return (await self._tree.read(folder / "claim.md")).decode("utf-8", "replace").strip()

    async def status(self) -> dict[str, object]:
        """Return the counts of waiting and decided reviews, and the share decided against the suggestion."""
        reviews = await self.reviews()
        decided = [review for review in reviews if review.decision]
        overridden = sum(is_override(review.decision, review.suggested) for review in decided)
        rate = round(overridden / len(decided), 3) if decided else None
        return {"waiting": len(reviews) - len(decided), "decided": len(decided), "override_rate": rate}

    async def _exists(self, path: Path) -> bool:
        try:
            await self._tree.read(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return False
            raise
        return True


def parse_verdict(data: bytes) -> tuple[Decision, str]:
    """Return the decision and the rest of a verdict; EINVAL names the accepted forms."""
    word, _, rest = data.decode("utf-8", "replace").strip().partition(" ")
    decision = _DECISIONS.get(word.rstrip(":").lower())
    rest = " ".join(rest.split())
    if decision is None or (decision == "edit" and not rest):
        raise invalid("verdict", "write accept, reject, or edit and the claim as it should read")
    return decision, rest


def _lines_of(judged: JudgedClaim, manifest: Manifest) -> _Lines:
    """Return the lines that a claim was compared with."""
    if judged.source is None:
        return _Lines()
    path = judged.source.path
    sha256 = next((piece.sha256 for piece in manifest.pieces if piece.path == path), "")
    return _Lines(path, judged.source.first, judged.source.last, sha256, manifest.revisions.get(path, ""))


def _lines_of_record(about: Mapping[str, object]) -> _Lines | None:
    """Return the lines in the record of a review; None without any."""
    path, _, lines = str(about["source"]).rpartition(":")
    first, _, last = lines.partition("-")
    if not path or not (first.isdigit() and last.isdigit()):
        return None
    return _Lines(path, int(first), int(last), str(about.get("sha256", "")))


def _is_doubtful(judged: JudgedClaim) -> bool:
    """Return True for a contradicted claim, and for one with weak support."""
    if judged.verdict == "contradicted":
        return True
    return judged.verdict == "unsupported" and judged.support >= _MIN_DOUBTFUL_SUPPORT


def _doubt_reason(judged: JudgedClaim) -> str:
    if judged.conflicts:
        return "; ".join(f"{c.kind}: '{c.claimed}' against '{c.known}' at {c.at}" for c in judged.conflicts)
    return judged.doubt or f"support {judged.support:.2f}"


def _render_evidence(task: str, judged: JudgedClaim) -> str:
    lines = [f"# From context/{task}", "", f"Doubt: {_doubt_reason(judged)}", ""]
    if judged.source is not None:
        lines += [
            f"Nearest, at {one_line(judged.source.path)}:{judged.source.first}-{judged.source.last}:",
            "",
            *(f"> {line}" for line in lines_of(judged.source.text).splitlines()),
        ]
    lines += ["", "Write `accept`, `reject`, or `edit` and the claim as it should read, into `verdict`."]
    return "\n".join(lines) + "\n"


def _link(path: str) -> str:
    """Return a Markdown link to a path of the tree; blanks and other special characters are percent-encoded."""
    label = re.sub(r"([\\\[\]])", r"\\\1", one_line(path))
    return f"[{label}](/{quote(encode_name(path), safe='/')})"


def _fact_path(facts: Path, text: str) -> Path:
    return facts / f"{_slug(text)}-{claim_id(text)}.md"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].rstrip("-") or "fact"


def _new_review(folder: Path, claim: str, about: Mapping[str, object], *extra: Change) -> list[Change]:
    """Return the changes that open a review; its verdict comes last, so that a visible one is complete."""
    return [
        MakeDir(REVIEWS),
        MakeDir(folder),
        Put(folder / "claim.md", f"{claim}\n".encode("utf-8", "replace")),
        *extra,
        Put(folder / _ABOUT_NAME, _dump_json(about)),
        Put(folder / "verdict", b""),
    ]


def _dump_json(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
