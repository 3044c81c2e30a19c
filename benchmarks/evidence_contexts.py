"""Contexts that systems build for the questions of `benchmarks.evidence`.

`ctxfs` builds them as `ctxfs context` does. The others rank the passages of the index of ctxfs and fill the budget with
the best, skipping those that do not fit; passages of one file stand below one heading with its path:

- `bm25`: Okapi BM25 (k1 1.2, b .75) over the words of the index: stems, parts of identifiers, no function words.
- `dense`: cosine of the question and the passage, both embedded as they are by the model of the index.
- `grep`: passages with the most different words of the question first, in any case and within words, as an agent
  greps for them; passages with equally many in the order of their paths.
"""

import hashlib
import json
import math
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.evidence_sets import Question
from benchmarks.peers import chunks_of
from ctxfs.context.build.tokens import Tokenizer
from ctxfs.context.retrieval_metrics import LineRange
from ctxfs.daemon.session import LocalSession
from ctxfs.index.engines.analyzers import analyse_split
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.embedders import Embedder, Vectors, open_embedder
from ctxfs.index.engines.word_split import content_words, split_words
from ctxfs.index.normal_form import fold
from ctxfs.store.layout import find_store

Ranking = Callable[[str], Iterable[int]]
_K1, _B = 1.2, 0.75
_MAX_MISFITS = 200
_EMBEDDER_THREADS = 2
_BATCH = 64
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of the index: its lines, and its text with the heading above it."""

    lines: LineRange
    text: str


@dataclass(frozen=True, slots=True)
class BuiltContext:
    """A context with its tokens and the lines in it; `lines` is None for contexts of which only the text is known."""

    text: str
    tokens: int
    lines: Sequence[LineRange] | None


class System(Protocol):
    """A builder of contexts over one store."""

    def build(self, question: Question, budget: int) -> BuiltContext:
        """Return a context of at most `budget` tokens."""
        ...


class ContextConstructor:
    """ctxfs itself; with `fill` it uses the whole budget, also for passages that do not seem to answer."""

    def __init__(self, store: Path, tokenizer: str, *, fill: bool) -> None:
        self._session = LocalSession(find_store(str(store)))
        self._session.catch_up_once()
        self._options = {"tokenizer": tokenizer, **({"fill": True} if fill else {})}

    def build(self, question: Question, budget: int) -> BuiltContext:
        """Return the context of the constructor."""
        directory = question.gold.below
        request = {
            "query": question.gold.question,
            "budget": budget,
            "paths": [directory] if directory else [],
            **self._options,
        }
        built = self._session.call("context", request=request)
        items = json.loads(built["manifest"])["items"]
        lines = [LineRange(item["path"], item["first"], item["last"]) for item in items]
        return BuiltContext(built["text"], built["tokens"], lines)

    def close(self) -> None:
        """Close the store."""
        self._session.close()


class RankedPassages:
    """A baseline: passages in the order of a ranking, packed into the budget."""

    def __init__(self, passages: Sequence[Passage], ranking: Ranking, tokenizer: Tokenizer) -> None:
        self._passages, self._rank, self._tokenizer = passages, ranking, tokenizer
        self._last_ranking: tuple[str, list[int]] = ("", [])

    def build(self, question: Question, budget: int) -> BuiltContext:
        """Return the best passages that fit, below the paths of their files."""
        chosen = self._choose(self._ranked(question.gold.question), budget)
        text = self._render(chosen)
        while chosen and self._tokenizer.count(text) > budget:  # sums of tokens are not exact for every tokenizer
            chosen.pop()
            text = self._render(chosen)
        return BuiltContext(text, self._tokenizer.count(text), [self._passages[number].lines for number in chosen])

    def _ranked(self, question: str) -> list[int]:
        if self._last_ranking[0] != question:
            self._last_ranking = (question, list(self._rank(question)))
        return self._last_ranking[1]

    def _choose(self, ranked: Sequence[int], budget: int) -> list[int]:
        chosen, paths, used, misfits = [], set[str](), 0, 0
        for number in ranked:
            passage = self._passages[number]
            tokens = self._tokenizer.count(passage.text)
            if passage.lines.path not in paths:
                tokens += self._tokenizer.count(_heading_of(passage.lines.path))
            if used + tokens > budget:
                misfits += 1
                if misfits > _MAX_MISFITS:
                    break
                continue
            used += tokens
            chosen.append(number)
            paths.add(passage.lines.path)
        return chosen

    def _render(self, chosen: Sequence[int]) -> str:
        by_path: dict[str, list[Passage]] = {}
        for number in chosen:
            by_path.setdefault(self._passages[number].lines.path, []).append(self._passages[number])
        parts = []
        for path, passages in by_path.items():
            passages.sort(key=lambda passage: passage.lines.first)
            parts.append("\n".join([_heading_of(path), *(passage.text for passage in passages)]))
        return "\n\n".join(parts)


def rank_by_bm25(passages: Sequence[Passage]) -> Ranking:
    """Return a ranking by Okapi BM25; passages without a word of the question are left out."""
    postings: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    lengths = np.zeros(len(passages))
    for number, passage in enumerate(passages):
        terms = analyse_split(split_words(passage.text))
        lengths[number] = len(terms)
        for term, count in Counter(terms).items():
            numbers, counts = postings[term]
            numbers.append(number)
            counts.append(count)
    norms = _K1 * (1 - _B + _B * lengths / max(lengths.mean(), 1.0))

    def rank(question: str) -> list[int]:
        scores = np.zeros(len(passages))
        for term in set(analyse_split(split_words(" ".join(content_words(split_words(question).split()))))):
            if term in postings:
                numbers, counts = (np.array(column) for column in postings[term])
                idf = math.log(1 + (len(passages) - len(numbers) + 0.5) / (len(numbers) + 0.5))
                scores[numbers] += idf * counts * (_K1 + 1) / (counts + norms[numbers])
        return _best_first(scores)

    return rank


def rank_by_cosine(store: Path, passages: Sequence[Passage]) -> Ranking:
    """Return a ranking by the cosine of the question and the texts of passages, by the embedding model of the store."""
    catalog = Catalog(store / "index", read_only=True)
    model = catalog.embeddings.serving
    catalog.close()
    if model is None:
        raise SystemExit(f"'{store}' has no vectors")
    embedder = open_embedder(model.spec, _EMBEDDER_THREADS)
    matrix = _embed_passages(embedder, [passage.text for passage in passages], store.parent, model.name)

    def rank(question: str) -> list[int]:
        order: list[int] = np.argsort(-(matrix @ embedder.embed_query(question)), kind="stable").tolist()
        return order

    return rank


def _embed_passages(embedder: Embedder, texts: Sequence[str], folder: Path, model: str) -> Vectors:
    """Return a row a text, from the file of an earlier run if its texts and its model were the same."""
    digest = hashlib.sha256("\0".join([model, *texts]).encode()).hexdigest()[:16]
    file = folder / f"passages-{digest}.npy"
    if not file.exists():
        batches = [embedder.embed(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        np.save(file, np.concatenate(batches))
    vectors: Vectors = np.load(file)
    return vectors


def rank_by_matches(passages: Sequence[Passage]) -> Ranking:
    """Return a ranking by the number of different words of the question in a passage; those without any are left out."""
    texts = [fold(passage.text) for passage in passages]

    def rank(question: str) -> list[int]:
        words = set(content_words(split_words(question).split()))
        return _best_first(np.array([sum(word in text for word in words) for text in texts], dtype=np.float64))

    return rank


def open_system(name: str, store: Path, tokenizer: Tokenizer) -> System:
    """Return a system over a store: ctxfs, ctxfs-fill, bm25, dense or grep."""
    if name in ("ctxfs", "ctxfs-fill"):
        return ContextConstructor(store, tokenizer.name, fill=name == "ctxfs-fill")
    passages = [Passage(lines, text.strip("\n")) for lines, text, _ in chunks_of(store)]
    match name:
        case "bm25":
            ranking = rank_by_bm25(passages)
        case "dense":
            ranking = rank_by_cosine(store, passages)
        case "grep":
            ranking = rank_by_matches(passages)
        case _:
            raise SystemExit(f"no system '{name}'")
    return RankedPassages(passages, ranking, tokenizer)


def cut_to_budget(text: str, budget: int, tokenizer: Tokenizer) -> str:
    """Return the longest beginning of whole words of a text that has at most `budget` tokens."""
    if tokenizer.count(text) <= budget:
        return text
    ends = [match.start() for match in _SPACE.finditer(text)]
    number = bisect_right(ends, budget, key=lambda end: tokenizer.count(text[:end]))
    return text[: ends[number - 1]] if number else ""


def _heading_of(path: str) -> str:
    return f"## {path.partition('/')[2]}"


def _best_first(scores: npt.NDArray[np.float64]) -> list[int]:
    order = np.argsort(-scores, kind="stable")
    best: list[int] = order[scores[order] > 0].tolist()
    return best
