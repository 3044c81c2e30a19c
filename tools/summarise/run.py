"""Extractive summary: the sentences with the most frequent words of the text, each different from those before it.

Input: JSON on stdin. Output: lines on stdout. Sentences are weighted by the tf-idf of their words within the text and
selected by maximal marginal relevance (Carbonell and Goldstein, 1998).
"""

import json
import math
import re
import sys
from collections import Counter

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_STOP = frozenset(
    "a about after all also am an and any are as at be because been before being but by can could did do does for from had has have he "
    "her here him his how i if in into is it its just like me more most my no not now of on only or other our out over she should so "
    "some such than that the their them then there these they this those through to too under up us very was we were what when where "
    "which while who why will with would you your".split()
)
_DEFAULT_SENTENCES = 5
_MIN_WORDS, _MAX_WORDS = 4, 60
_RELEVANCE_WEIGHT = 0.7  # weight of relevance against redundancy
_FIRST_FACTOR = 1.15  # factor of a paragraph's first sentence, often its topic sentence
_TOPIC_FACTOR = 3.0
MAX_FILE_BYTES = 20_000_000
MAX_SENTENCES = 5000  # of a longer text only the first are considered


def main() -> int:
    """Print the summary; return exit code 1, with the reason on stderr, for a missing or unreadable text."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a TextIOWrapper
    try:
        arguments = json.loads(sys.stdin.buffer.read() or b"{}")
        if "file" not in arguments and "text" not in arguments:
            raise ValueError("give a file or a text")
        text = read_text(arguments["file"]) if "file" in arguments else str(arguments["text"])
        for line, sentence in summary(
            text, int(arguments.get("sentences", _DEFAULT_SENTENCES)), str(arguments.get("about", ""))
        ):
            print(f"{line}\t{sentence}")
    except (OSError, ValueError, MemoryError) as error:
        print(f"summarise: {error or 'the text needs more memory than a tool has'}", file=sys.stderr)
        return 1
    return 0


def read_text(path: str) -> str:
    """Return the text of a file. Raises ValueError if it is too large."""
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"the file has more than {MAX_FILE_BYTES} bytes")
    return data.decode("utf-8", "replace")


def summary(text: str, count: int, about: str = "") -> list[tuple[int, str]]:
    """Return (line, sentence) of at most `count` sentences, in the order of the text."""
    candidates = sentences(text)
    bags = [Counter(words(sentence)) for _, sentence, _ in candidates]
    frequency = Counter(word for bag in bags for word in bag)
    weight = {word: math.log(1 + len(bags) / number) for word, number in frequency.items()}
    total: Counter[str] = Counter()
    for bag in bags:
        total.update(bag)
    topic_words = set(words(about))
    vectors = [{word: weight[word] * (1 + math.log(number)) for word, number in bag.items()} for bag in bags]
    centre = {
        word: weight[word] * (1 + math.log(number)) * (_TOPIC_FACTOR if word in topic_words else 1)
        for word, number in total.items()
    }
    relevance = [
        cosine(vector, centre) * (_FIRST_FACTOR if is_first else 1)
        for vector, (_, _, is_first) in zip(vectors, candidates, strict=True)
    ]
    selected: list[int] = []
    redundancy = [0.0] * len(candidates)  # similarity of each to the selected ones
    remaining = dict.fromkeys(range(len(candidates)))
    while remaining and len(selected) < count:
        best = max(
            remaining,
            key=lambda index: _RELEVANCE_WEIGHT * relevance[index] - (1 - _RELEVANCE_WEIGHT) * redundancy[index],
        )
        selected.append(best)
        del remaining[best]
        for index in remaining:
            redundancy[index] = max(redundancy[index], cosine(vectors[index], vectors[best]))
    return [(candidates[index][0], candidates[index][1]) for index in sorted(selected)]


def sentences(text: str) -> list[tuple[int, str, bool]]:
    """Return (line, sentence, is first of its paragraph), without headings, code, and sentences of unusual length."""
    rows, is_code, is_first = [], False, True
    offset = 1
    for number, line in enumerate(text.split("\n"), offset):
        stripped = line.strip()
        if stripped.startswith(("```", "~~~")):
            is_code = not is_code
        if is_code or not stripped or stripped.startswith(("#", "|", "```", "~~~", "---")):
            is_first = True
            continue
        for part in _SENTENCE_END.split(stripped.lstrip("-*> ")):
            sentence = " ".join(part.split())
            if _MIN_WORDS <= len(_WORD.findall(sentence)) <= _MAX_WORDS:
                rows.append((number, sentence, is_first))
                if len(rows) == MAX_SENTENCES:
                    return rows
            is_first = False
    return rows


def words(text: str) -> list[str]:
    """Return the lower-case words without stop words."""
    return [word for word in (match.lower() for match in _WORD.findall(text)) if word not in _STOP]


def cosine(one: dict[str, float], other: dict[str, float]) -> float:
    """Return the cosine of two bags of weighted words; 0 if one is empty."""
    shared = sum(value * other.get(word, 0.0) for word, value in one.items())
    size = math.sqrt(sum(value * value for value in one.values()) * sum(value * value for value in other.values()))
    return shared / size if size else 0.0


if __name__ == "__main__":
    sys.exit(main())
