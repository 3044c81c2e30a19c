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
_MEANING = 0.6  # share of the embedding similarity in the score; the rest is BM25
_LEAST_MEANING = 0.2  # a lower cosine similarity counts as none
_KEPT_VECTORS = 5000

Embed = Callable[[Sequence[str]], Any]  # texts → float32 [texts, dimensions], each of length one


class ToolSearch:
    """A ranking of tools, with an LRU cache of vectors by text."""

    def __init__(self) -> None:
        self._vectors: OrderedDict[str, Any] = OrderedDict()

    def ranked(self, question: str, tools: Sequence[Tool], embed: Embed | None) -> list[tuple[Tool, float, float]]:
        """Return (tool, BM25 score, similarity) of the matching tools, best first; both scores are from 0 to 1.

        Blocks.
        """
        words = _best_is_one(by_words(question, tools))
        meaning = self._by_meaning(question, tools, embed) if embed is not None else [0.0] * len(tools)
        share = _MEANING if embed is not None else 0.0
        found = [(tool, words[at], meaning[at]) for at, tool in enumerate(tools) if words[at] or meaning[at]]
        return sorted(found, key=lambda each: (-((1 - share) * each[1] + share * each[2]), each[0].name))

    def _by_meaning(self, question: str, tools: Sequence[Tool], embed: Embed) -> list[float]:
        texts = [f"{tool.name.replace('/', ' ')}: {tool.description[:500]}" for tool in tools]
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, embed(new), strict=True))
        asked = embed([question])[0]
        near = [float(asked @ self._vectors[text]) for text in texts]
        for text in texts:
            self._vectors.move_to_end(text)
        while len(self._vectors) > _KEPT_VECTORS:
            self._vectors.popitem(last=False)
        return [each if each >= _LEAST_MEANING else 0.0 for each in near]


def by_words(question: str, tools: Sequence[Tool]) -> list[float]:
    """Return the BM25 score of each tool (Robertson and Zaragoza 2009)."""
    bags = [_bag(tool) for tool in tools]
    spread = Counter(word for bag in bags for word in bag)
    mean = sum(map(Counter.total, bags)) / max(len(bags), 1) or 1.0
    asked = set(stems(question))
    scores = []
    for bag in bags:
        score, size = 0.0, _K1 * (1 - _B + _B * bag.total() / mean)
        for word in asked & bag.keys():
            rarity = math.log(1 + (len(bags) - spread[word] + 0.5) / (spread[word] + 0.5))
            score += rarity * bag[word] * (_K1 + 1) / (bag[word] + size)
        scores.append(score)
    return scores


def _bag(tool: Tool) -> Counter[str]:
    bag: Counter[str] = Counter()
    properties = tool.schema.get("properties", {})
    arguments = " ".join(
        f"{name} {each.get('description', '')}" for name, each in properties.items() if isinstance(each, dict)
    )
    for text, times in ((tool.name, _NAME), (tool.description, _DESCRIPTION), (arguments, _ARGUMENT)):
        for word in stems(text):
            bag[word] += times
    return bag


def stems(text: str) -> list[str]:
    """Return the words of a text without stop words and English endings; `getFileInfo` is three words."""
    found = []
    for each in _WORD.findall(text):
        word = each.lower()
        if word in _STOP:
            continue
        for ending in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                word = word[: -len(ending)] + ("y" if ending == "ies" else "")
                break
        found.append(word.rstrip("e") if len(word) > 3 else word)
    return found


def _best_is_one(scores: list[float]) -> list[float]:
    best = max(scores, default=0.0)
    return [score / best if best else 0.0 for score in scores]
