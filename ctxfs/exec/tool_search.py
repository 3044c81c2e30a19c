"""Search for tools by a query: BM25 over name, description and arguments and, with an embedder, cosine similarity.

Pure, except for the embedder that is passed in.
"""

import math
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from ctxfs.exec.definition import Tool

_WORD = re.compile(r"[A-Za-z][a-z]+|[A-Z]+(?![a-z])|[^\W_]+")
_STOP = frozenset(
    "a an and are as at be by can do does for from has have how i if in into is it its me my of on or so that the their them then "
    "there these this to use used uses was what when where which who why will with you your".split()
)
_ENDINGS = ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s")
_K1, _B = 1.2, 0.6
_NAME, _DESCRIPTION, _ARGUMENT = 3, 2, 1  # weights of a word in each field
_SIMILARITY_SHARE = 0.6  # share of the embedding similarity in the score; the rest is BM25
_MIN_SIMILARITY = 0.2  # a lower cosine similarity counts as none
_MAX_VECTORS = 5000

Embed = Callable[[Sequence[str]], Any]  # texts → float32 [texts, dimensions], each of length one


class ToolSearch:
    """A ranking of tools, with an LRU cache of vectors by text."""

    def __init__(self) -> None:
        self._vectors: OrderedDict[str, Any] = OrderedDict()

    def rank(self, query: str, tools: Sequence[Tool], embed: Embed | None) -> list[tuple[Tool, float, float]]:
        """Return (tool, BM25 score, similarity) of the matching tools, best first; both scores are from 0 to 1.

        Blocks.
        """
        word_scores = _best_is_one(bm25_scores(query, tools))
        similarities = self._similarities(query, tools, embed) if embed is not None else [0.0] * len(tools)
        share = _SIMILARITY_SHARE if embed is not None else 0.0
        matches = [
            (tool, word_scores[index], similarities[index])
            for index, tool in enumerate(tools)
            if word_scores[index] or similarities[index]
        ]
        return sorted(matches, key=lambda match: (-((1 - share) * match[1] + share * match[2]), match[0].name))

    def _similarities(self, query: str, tools: Sequence[Tool], embed: Embed) -> list[float]:
        texts = [f"{tool.name.replace('/', ' ')}: {tool.description[:500]}" for tool in tools]
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, embed(new), strict=True))
        query_vector = embed([query])[0]
        scores = [float(query_vector @ self._vectors[text]) for text in texts]
        for text in texts:
            self._vectors.move_to_end(text)
        while len(self._vectors) > _MAX_VECTORS:
            self._vectors.popitem(last=False)
        return [score if score >= _MIN_SIMILARITY else 0.0 for score in scores]


def bm25_scores(query: str, tools: Sequence[Tool]) -> list[float]:
    """Return the BM25 score of each tool (Robertson and Zaragoza 2009)."""
    counts = [_count_words(tool) for tool in tools]
    spread = Counter(word for count in counts for word in count)
    mean = sum(map(Counter.total, counts)) / max(len(counts), 1) or 1.0
    query_stems = set(stems(query))
    scores = []
    for count in counts:
        score, size = 0.0, _K1 * (1 - _B + _B * count.total() / mean)
        for word in query_stems & count.keys():
            rarity = math.log(1 + (len(counts) - spread[word] + 0.5) / (spread[word] + 0.5))
            score += rarity * count[word] * (_K1 + 1) / (count[word] + size)
        scores.append(score)
    return scores


def _count_words(tool: Tool) -> Counter[str]:
    counts: Counter[str] = Counter()
    properties = tool.schema.get("properties", {})
    arguments = " ".join(
        f"{name} {subschema.get('description', '')}"
        for name, subschema in properties.items()
        if isinstance(subschema, dict)
    )
    for text, times in ((tool.name, _NAME), (tool.description, _DESCRIPTION), (arguments, _ARGUMENT)):
        for word in stems(text):
            counts[word] += times
    return counts


def stems(text: str) -> list[str]:
    """Return the words of a text without stop words and English endings; `getFileInfo` is three words."""
    results = []
    for token in _WORD.findall(text):
        word = token.lower()
        if word in _STOP:
            continue
        for ending in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                word = word[: -len(ending)] + ("y" if ending == "ies" else "")
                break
        results.append(word.rstrip("e") if len(word) > 3 else word)
    return results


def _best_is_one(scores: list[float]) -> list[float]:
    best = max(scores, default=0.0)
    return [score / best if best else 0.0 for score in scores]
