"""Evaluation of a response: restore its context's sources, compare the response with them, report the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ctxfs.context.build.manifest import Manifest, text_sha256
from ctxfs.context.build.passages import passages_of
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.rebuild import changed_since, restore
from ctxfs.context.build.render import Source, sources_of
from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.query import Query
from ctxfs.index.search.results import SearchResults
from ctxfs.model.errors import CommandError, invalid
from ctxfs.model.path import Path, printable
from ctxfs.threads import blocking

if TYPE_CHECKING:
    # The patterns of this module take a while to compile, and a daemon mounts first.
    from ctxfs.context.grounding.judge import Embed, Evaluation, Evidence, JudgedClaim

FORMAT = 1
MAX_BYTES = 16_000_000
_MEMORY = Path(("memory",))
_MAX_MEMORY_CLAIMS = 100  # claims
_MAX_MEMORY_CHUNKS = 20  # chunks of memory compared with a claim
_MAX_QUERY_WORDS = 12  # words of a claim in a search of memory


class Judge(Protocol):
    """A judge of claims by their evidence. Users configure it, and a model may implement it."""

    async def __call__(self, claims: Sequence[dict[str, object]]) -> list[dict[str, Any]]:
        """Return a {"verdict", "why"} for each claim; raise CommandError."""
        ...


class SourceAccess(Protocol):
    """The access of an evaluator to the tree, its versions and the index."""

    async def fetch(self, path: str, sha256: str, revision: str) -> bytes | None:
        """Return the old content of a file; None if it no longer exists."""
        ...

    def extract(self, name: str, data: bytes) -> list[Chunk]:
        """Return the chunks of a file's content. Blocks; raise UnreadableFile."""
        ...

    async def current(self, path: str) -> str:
        """Return the hexadecimal SHA-256 of a file's current content; empty if it is gone."""
        ...

    async def search(self, query: Query, below: Path, limit: int) -> SearchResults:
        """Return the best `limit` chunks below a directory."""
        ...

    def analyse(self, text: str) -> Sequence[str]:
        """Return the terms of a text as search indexes them."""
        ...

    def embedder(self) -> Embed | None:
        """Return the embedding function; None if no model is available. Blocks."""
        ...


def decode_response(data: bytes) -> str:
    """Return the text of a response; EINVAL gives the reason if it is not text."""
    if len(data) > MAX_BYTES:
        raise invalid("response.md", f"response.md has {len(data)} bytes: {MAX_BYTES} at most")
    if b"\0" in data:
        raise invalid("response.md", "response.md is binary: a text is needed")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid("response.md", f"response.md is not UTF-8: {error}") from error


class Evaluator:
    """An evaluator of responses against the contexts that they answer."""

    def __init__(self, sources: SourceAccess, judge: Judge | None) -> None:
        self._sources = sources
        self._judge = judge

    async def evaluate(self, manifest: Manifest, response: str, texts: Sequence[str] | None = None) -> Evaluation:
        """Judge every claim of the response; without `texts` of the manifest's items, their sources are restored."""
        if texts is not None and len(texts) == len(manifest.pieces):
            pieces = [replace(piece, text=text) for piece, text in zip(manifest.pieces, texts, strict=True)]
            missing: list[str] = []
        else:
            pieces, missing = await restore(manifest, self._sources.fetch, self._sources.extract)
        sources = sources_of(pieces, manifest.request.order)
        numbers = {source.path: source.number for source in sources}
        lines = {source.number: _cited_spans(source) for source in sources}
        memory = await self._memory_evidence(response)
        evaluation = await blocking(self._compare, response, pieces, numbers, lines, memory)
        evaluation.notes += [f"no longer to be had, and so no evidence: {span}" for span in missing]
        evaluation.stale = await changed_since(manifest, self._sources.current)
        if self._judge is not None:
            await self._apply_judge(evaluation)
        return evaluation

    def _compare(
        self,
        response: str,
        pieces: Sequence[Piece],
        numbers: Mapping[str, int],
        lines: Mapping[int, Sequence[tuple[int, int]]],
        memory: Sequence[Evidence],
    ) -> Evaluation:
        from ctxfs.context.grounding.judge import Sources, evaluate, split_evidence

        analyse = self._sources.analyse
        sources = Sources(split_evidence(pieces, numbers), analyse)
        facts = Sources(memory, analyse) if memory else None
        return evaluate(response, sources, analyse, self._sources.embedder(), lines, facts)

    async def _memory_evidence(self, response: str) -> list[Evidence]:
        """Return the lines of memory that share terms with the claims."""
        from ctxfs.context.grounding.claims import claims_of
        from ctxfs.context.grounding.judge import Evidence

        pieces: dict[tuple[str, int, int], Piece] = {}
        claims = [claim for claim in claims_of(response[:200_000]) if not claim.unchecked][:_MAX_MEMORY_CLAIMS]
        for claim in claims:
            words = tuple(dict.fromkeys(claim.text.split()))[:_MAX_QUERY_WORDS]
            answer = await self._sources.search(
                Query(text=claim.text, words=words, mode="words"), _MEMORY, _MAX_MEMORY_CHUNKS
            )
            for hit in answer.hits:
                chunk = hit.chunk
                pieces[(chunk.path, chunk.first, chunk.last)] = Piece(chunk.path, chunk.first, chunk.last, chunk.text)
        return [
            Evidence(line.strip(), piece.path, piece.first + offset, piece.first + offset)
            for _, piece in sorted(pieces.items())
            for offset, line in enumerate(piece.text.split("\n"))
            if line.strip()
        ]

    async def _apply_judge(self, evaluation: Evaluation) -> None:
        assert self._judge is not None
        claims = [claim for claim in evaluation.claims if claim.verdict != "unchecked"]
        try:
            judgements = await self._judge([_judge_request(claim) for claim in claims]) if claims else []
        except CommandError as error:
            evaluation.notes.append(f"the judge did not answer: {error.message}")
            return
        for claim, judgement in zip(claims, judgements, strict=True):
            claim.judge = judgement
            claim.verdict = judgement["verdict"]


def _cited_spans(source: Source) -> list[tuple[int, int]]:
    """Return the (first, last) lines of a source that a citation may name."""
    passages = [(passage.first, passage.last) for passage in passages_of(source.pieces)]
    return [*passages, *((piece.first, piece.last) for piece in source.pieces)]


def _judge_request(judged: JudgedClaim) -> dict[str, object]:
    evidence = [] if judged.source is None else [{"at": _format_span(judged.source), "text": judged.source.text}]
    return {"claim": judged.claim.text, "evidence": evidence, "rules": judged.verdict}


def _format_span(source: Evidence) -> str:
    return printable(
        f"{source.path}:{source.first}-{source.last}"
        if source.first != source.last
        else f"{source.path}:{source.first}"
    )


def render_evaluation(evaluation: Evaluation, manifest: Manifest, response: str) -> bytes:
    """Return the content of evaluation.json."""
    counts: dict[str, int] = {}
    for entry in evaluation.claims:
        counts[entry.verdict] = counts.get(entry.verdict, 0) + 1
    cited = [citation for entry in evaluation.claims for citation in entry.citations]
    body = {
        "format": FORMAT,
        "response_sha256": text_sha256(response),
        "context_sha256": manifest.sha256,
        "groundedness": None if evaluation.groundedness is None else round(evaluation.groundedness, 4),
        "claims": [_claim_record(entry) for entry in evaluation.claims],
        "counts": dict(sorted(counts.items())),
        "citations": {
            "all": len(cited),
            "resolve": sum(bool(entry["resolves"]) for entry in cited),
            "support": sum(bool(entry["supports"]) for entry in cited),
        },
        "stale": [printable(path) for path in evaluation.stale],
        "notes": evaluation.notes,
    }
    return (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _claim_record(judged: JudgedClaim) -> dict[str, object]:
    claim = judged.claim
    record: dict[str, object] = {
        "claim": printable(claim.text),
        "lines": [claim.first, claim.last],
        "verdict": judged.verdict,
    }
    if claim.unchecked:
        return {**record, "why": claim.unchecked, **({"citations": judged.citations} if judged.citations else {})}
    record |= {"support": round(judged.support, 3), "lexical": round(judged.lexical, 3)}
    record["meaning"] = None if judged.meaning is None else round(judged.meaning, 3)
    if judged.source is not None:
        record["source"] = {
            "at": _format_span(judged.source),
            "n": judged.source.number,
            "text": printable(judged.source.text),
        }
    if judged.doubt and judged.verdict == "unsupported":
        record["doubt"] = printable(judged.doubt)
    record["conflicts"] = [conflict.record() for conflict in judged.conflicts]
    record["citations"] = judged.citations
    if judged.judge is not None:
        record["judge"] = dict(judged.judge)
    return record


def claim_id(text: str) -> str:
    """Return the identifier of a claim, by its words."""
    return hashlib.sha256(" ".join(text.lower().split()).encode("utf-8", "replace")).hexdigest()[:12]
