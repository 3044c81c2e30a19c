"""An extractive summary: sentences whose words the text uses most, each unlike those before it. JSON on stdin; lines on stdout.

Sentences are weighed by the tf-idf of their words within the text and chosen by maximal marginal relevance (Carbonell and Goldstein,
1998).
"""

import json
import math
import re
import sys
from collections import Counter
from pathlib import Path

_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+(?=\s|$)|\n|$)")
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_STOP = frozenset(
    "a about after all also am an and any are as at be because been before being but by can could did do does for from had has have he "
    "her here him his how i if in into is it its just like me more most my no not now of on only or other our out over she should so "
    "some such than that the their them then there these they this those through to too under up us very was we were what when where "
    "which while who why will with would you your".split()
)
_SENTENCES = 5
_LEAST_WORDS, _MOST_WORDS = 4, 60
_NEW = 0.7  # what a sentence says against what it repeats
_FIRST = 1.15  # of a paragraph: it often says what it is about
_ABOUT = 3.0


def main() -> int:
    """Exit code 1 with the reason on stderr where there is nothing to look at."""
    asked = json.loads(sys.stdin.buffer.read() or b"{}")
    try:
        text = Path(asked["file"]).read_text(encoding="utf-8", errors="replace") if "file" in asked else asked["text"]
    except (OSError, KeyError):
        print("summarise: give a file or a text", file=sys.stderr)
        return 1
    for line, sentence in summary(text, int(asked.get("sentences", _SENTENCES)), str(asked.get("about", ""))):
        print(f"{line}\t{sentence}")
    return 0


def summary(text: str, count: int, about: str = "") -> list[tuple[int, str]]:
    """(line, sentence) of at most `count`, in the order of the text."""
    found = sentences(text)
    bags = [Counter(words(sentence)) for _, sentence, _ in found]
    spread = Counter(word for bag in bags for word in bag)
    weight = {word: math.log(1 + len(bags) / number) for word, number in spread.items()}
    total: Counter[str] = sum(bags, Counter())
    asked = set(words(about))
    vectors = [{word: weight[word] * (1 + math.log(number)) for word, number in bag.items()} for bag in bags]
    centre = {
        word: weight[word] * (1 + math.log(number)) * (_ABOUT if word in asked else 1) for word, number in total.items()
    }
    worth = [
        cosine(vector, centre) * (_FIRST if first else 1) for vector, (_, _, first) in zip(vectors, found, strict=True)
    ]
    chosen: list[int] = []
    left = set(range(len(found)))
    while left and len(chosen) < count:
        best = max(sorted(left), key=lambda each: _value(each, worth, vectors, chosen))
        chosen.append(best)
        left.discard(best)
    return [(found[each][0], found[each][1]) for each in sorted(chosen)]


def _value(each: int, worth: list[float], vectors: list[dict[str, float]], chosen: list[int]) -> float:
    repeated = max((cosine(vectors[each], vectors[other]) for other in chosen), default=0.0)
    return _NEW * worth[each] - (1 - _NEW) * repeated


def sentences(text: str) -> list[tuple[int, str, bool]]:
    """(line, sentence, whether it begins a paragraph), without headings, code and what is too short or long to say something."""
    found, code, begins = [], False, True
    offset = 1
    for number, line in enumerate(text.split("\n"), offset):
        stripped = line.strip()
        if stripped.startswith(("```", "~~~")):
            code = not code
        if code or not stripped or stripped.startswith(("#", "|", "```", "~~~", "---")):
            begins = True
            continue
        for match in _SENTENCE.finditer(stripped.lstrip("-*> ")):
            sentence = " ".join(match[0].split())
            if _LEAST_WORDS <= len(_WORD.findall(sentence)) <= _MOST_WORDS:
                found.append((number, sentence, begins))
            begins = False
    return found


def words(text: str) -> list[str]:
    """Words that say something, small."""
    return [word for word in (each.lower() for each in _WORD.findall(text)) if word not in _STOP]


def cosine(one: dict[str, float], other: dict[str, float]) -> float:
    """Of two bags of weighed words; 0 if one is empty."""
    shared = sum(value * other.get(word, 0.0) for word, value in one.items())
    size = math.sqrt(sum(value * value for value in one.values()) * sum(value * value for value in other.values()))
    return shared / size if size else 0.0


if __name__ == "__main__":
    sys.exit(main())
