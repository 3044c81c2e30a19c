"""The built-in token bound: an upper bound of common tokenizers' counts, from a text's shape and a word list. Pure.

A text is cut into pieces much as byte-pair tokenizers cut it before they merge. Words that are one token in each of
cl100k, o200k, DeepSeek and the tokenizer published for Claude 2 are listed in vocabulary.txt and cost one. The cost of
other words is estimated from their shape. The weights are the smallest ones for which none of 7,200 training texts was
counted below the largest of the four, times a margin (`python -m benchmarks.bounding`). Of 16,800 other texts, in 150
languages, one was below (a calendar, by 5 %); the median is a third over.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

VOCABULARY_FILE = "vocabulary.txt"

_LINES = re.compile(r"([\r\n]+)")
# Keys, digests, base64: no tokenizer has words for them.
_OPAQUE = re.compile(r"(?=[A-Za-z+/]*[0-9])[A-Za-z0-9+/=]{20,}|[A-Za-z+/=]{32,}")
_MIN_OPAQUE_CHARS = 20
_PIECE = re.compile(
    r" ?[A-Z]?[a-z]+| ?[A-Z]+| ?[0-9]+|[ \t]+(?= [A-Za-z])| ?[!-/:-@\[-`{-~]+| ?[^\x00-\x7f]+|[ \t]+|[\r\n]+|[\x00-\x1f\x7f]"
)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_UNPRONOUNCEABLE = re.compile(r"[bcdfghjklmnpqrstvwxz]{4}", re.IGNORECASE)

# Kind of piece (or of character in one) → tokens for each. The module's docstring describes the fit.
WEIGHTS: Mapping[str, float] = {
    "capitals": 3.47,
    "capitals letter": 0.0,
    "cjk": 1.64,
    "control": 2.0,
    "digit": 0.33,
    "digits": 0.94,
    "foreign": 0.8,
    "four bytes": 4.0,
    "greek, cyrillic": 1.21,
    "half known": 0.51,
    "half known letter": 0.17,
    "hebrew, arabic": 1.31,
    "known": 1.04,
    "latin": 0.65,
    "line end": 0.35,
    "line ends": 0.79,
    "name": 1.92,
    "name letter": 0.22,
    "noise": 0.67,
    "opaque": 0.76,
    "punctuation": 1.0,
    "rule": 0.2,
    "rules": 0.9,
    "sign": 0.56,
    "signs": 0.9,
    "space": 0.05,
    "space before digits": 0.7,
    "space before signs": 0.0,
    "spaces": 0.51,
    "three bytes": 3.0,
    "two bytes": 2.0,
    "word": 0.58,
    "word letter": 0.41,
}
MARGIN = 1.1
_CONSTANT = 2

Kinds = Iterator[tuple[str, float]]


def upper_bound(text: str) -> int:
    """Return at least the tokens of `text` in each of the four; bounds of parts add up to more than the whole's."""
    return int(sum(map(_line_cost, _LINES.split(text))) * MARGIN) + _CONSTANT if text else 0


# A context is counted again after each change, and most of its lines are unchanged.
@lru_cache(maxsize=1 << 14)
def longest_prefix(text: str, tokens: int) -> str:
    """Return the longest prefix of a text that fits into a number of tokens, at least one character."""
    low, high = 1, min(len(text), 4 * tokens)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if upper_bound(text[:middle]) <= tokens else (low, middle - 1)
    return text[:low]


def _line_cost(line: str) -> float:
    return sum(map(_cost, _cut_line(line)))


def _cut_line(line: str) -> list[str]:
    if len(line) < _MIN_OPAQUE_CHARS or not (opaque := _OPAQUE.findall(line)):
        return _PIECE.findall(line)
    return [*("\0" + run for run in opaque), *_PIECE.findall(_OPAQUE.sub(" ", line))]


@lru_cache(maxsize=1 << 14)  # words repeat: most of a text is a cache hit
def _cost(piece: str) -> float:
    return sum(WEIGHTS[kind] * amount for kind, amount in _kinds(piece))


def kinds_of(text: str) -> dict[str, float]:
    """Return kind → amount, the factors of the weights."""
    out: dict[str, float] = {}
    for line in _LINES.split(text):
        for piece in _cut_line(line):
            for kind, amount in _kinds(piece):
                out[kind] = out.get(kind, 0.0) + amount
    return out


def _kinds(piece: str) -> Kinds:
    body = piece[1:] if piece[0] == " " and len(piece) > 1 else piece
    spaced = body is not piece
    first, length = body[0], len(body)
    if first == "\0" and length > 1:
        yield "opaque", length - 1
    elif not first.isascii():
        yield from _foreign(body)
    elif first.isalpha():
        yield from _word(body, spaced)
    elif first.isdigit():
        yield "digits", 1
        yield "digit", length
        yield "space before digits", spaced
    elif first in " \t":
        yield "spaces", 1
        yield "space", length
    elif first in "\r\n":
        yield "line ends", 1
        yield "line end", length - 1
    elif first < " " or first == "\x7f":
        yield "control", 1
    else:
        same = length > 2 and len(set(body)) == 1
        yield ("rules" if same else "signs"), 1
        yield ("rule" if same else "sign"), length - 1
        yield "space before signs", spaced


def _word(word: str, spaced: bool) -> Kinds:
    forms = _vocabulary().get(word.lower(), 0)
    shape = 2 if word.isupper() and len(word) > 1 else 1 if word[0].isupper() else 0
    if len(word) == 1 or forms >> (2 * shape + (not spaced)) & 1:
        yield "known", 1
    elif forms >> (2 * shape + spaced) & 1:
        yield "half known", 1
        yield "half known letter", len(word)
    elif _UNPRONOUNCEABLE.search(word) and shape != 2:
        yield "noise", len(word)
    else:
        name = ("word", "name", "capitals")[shape]
        yield name, 1
        yield f"{name} letter", len(word)


def _foreign(text: str) -> Kinds:
    yield "foreign", 1
    for character in text:
        code = ord(character)
        if _CJK.match(character):
            yield "cjk", 1
        elif code < 0x250:
            yield "latin", 1
        elif code < 0x530:
            yield "greek, cyrillic", 1
        elif 0x590 <= code < 0x700:
            yield "hebrew, arabic", 1
        elif 0x2000 <= code < 0x2100:
            yield "punctuation", 1
        else:
            yield ("two bytes" if code < 0x800 else "three bytes" if code < 0x10000 else "four bytes"), 1


@lru_cache(maxsize=1)
def _vocabulary() -> dict[str, int]:
    """Return lower-case word → bits of the forms that are one token everywhere.

    The bits are ` word`, `word`, ` Word`, `Word`, ` WORD`, `WORD`, from the lowest.
    """
    from importlib.resources import files

    lines = files("ctxfs.context.build").joinpath(VOCABULARY_FILE).read_text(encoding="ascii").split("\n")
    return {word: ord(bits) - 48 for word, _, bits in (line.partition(" ") for line in lines) if bits}
