"""Fit the built-in token bound: `python -m benchmarks.bounding A B … [--check]`. Needs scipy.

A, B … are tokenizer.json files, or encodings of tiktoken. A text is split into pieces of several kinds. A linear
programme finds the weights of the kinds with the lowest mean bound, such that no training text is counted below the
largest of the tokenizers. Texts are this machine's documents and code, translations (gettext catalogues of every language here),
and generated data: base64, hex, numbers, enciphered text, names. Prints the weights and their result on the held-out
half.
"""

import argparse
import base64
import codecs
import contextlib
import gettext
import json
import random
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.tokens import blocks
from ctxfs.context.build.token_bound import MARGIN, kinds_of, upper_bound
from ctxfs.context.build.tokens import open_tokenizer

Count = Callable[[str], int]

_CANDIDATES = ("cl100k_base", "o200k_base")
_WORD = re.compile(rb" ?[A-Za-z]{2,20}")
_MIN_RATIO = 1.0  # ratio of the bound to the largest count, in training
# Kinds too rare in the training texts to be fitted: no byte-level tokenizer needs more tokens.
_MIN_WEIGHTS = {
    "known": 1.0, "control": 2.0, "two bytes": 2.0, "three bytes": 3.0, "four bytes": 4.0, "punctuation": 1.0, "line end": 0.2,
    "rules": 0.9, "rule": 0.2, "space before digits": 0.7, "space": 0.05, "signs": 0.9, "sign": 0.55,
}  # fmt: skip


def translations(chance: random.Random, per_language: int) -> Iterator[tuple[str, str]]:
    """Yield (language, text): runs of translated messages, at most `each` catalogues for each language."""
    languages: dict[str, list[Path]] = {}
    for file in sorted(Path("/usr/share/locale").glob("*/LC_MESSAGES/*.mo")):
        languages.setdefault(file.parts[4], []).append(file)
    for language, files in sorted(languages.items()):
        for file in chance.sample(files, min(per_language, len(files))):
            with contextlib.suppress(OSError, UnicodeDecodeError, ValueError), open(file, "rb") as source:
                catalogue = gettext.GNUTranslations(source)._catalog  # type: ignore[attr-defined]
                messages = [text for text in catalogue.values() if isinstance(text, str) and text]
                chance.shuffle(messages)
                yield f"{language}", "\n".join(messages[:40])[: chance.choice((200, 800, 3000))]


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Return (origin, text) pairs, shuffled."""
    chance = random.Random(seed)
    samples = [*blocks(count, chance), *translations(chance, 6)]
    plain = [text for origin, text in samples if origin.endswith((".txt", ".rst", ".md")) and len(text) > 700][:150]
    samples += [("enciphered", codecs.encode(text[:600], "rot13")) for text in plain[:50]]
    samples += [("upper case", text[:600].upper()) for text in plain[50:80]]
    samples += [("titles", text[:600].title()) for text in plain[80:110]]
    samples += [("one line", " ".join(text.split())[:400]) for text in plain[110:]]
    for _ in range(20):
        samples.append(("base64", base64.b64encode(chance.randbytes(chance.choice((60, 900)))).decode()))
        samples.append(("hex", chance.randbytes(chance.choice((20, 500))).hex()))
        samples.append(("numbers", json.dumps([chance.random() for _ in range(chance.choice((3, 60)))])))
        samples.append(("integers", " ".join(str(chance.randrange(10**9)) for _ in range(40))))
    # Short texts as well, because a context may have a budget of fifty tokens.
    samples += [
        (f"{origin} (short)", text[offset : offset + 120])
        for origin, text in samples[:1200]
        if (offset := text.find("\n") + 1) and len(text) > offset + 120
    ]
    chance.shuffle(samples)
    return [(origin, text) for origin, text in samples if text.strip()]


def vocabulary(counts: list[Count]) -> str:
    """Return the content of vocabulary.txt: words that are one token everywhere, with a bit for each such form."""
    import tiktoken

    shared = set.intersection(*(set(tiktoken.get_encoding(name).token_byte_values()) for name in _CANDIDATES))
    words = {token.decode().strip() for token in shared if _WORD.fullmatch(token)}
    lines = []
    for word in sorted({word.lower() for word in words if word.islower() or word.istitle() or word.isupper()}):
        forms = (f" {word}", word, f" {word.title()}", word.title(), f" {word.upper()}", word.upper())
        bits = sum(1 << index for index, form in enumerate(forms) if all(count(form) == 1 for count in counts))
        if bits:
            lines.append(f"{word} {chr(48 + bits)}\n")
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizers", nargs="+")
    parser.add_argument("--blocks", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument(
        "--words", type=Path, help="write the list of words that are one token everywhere, and nothing else"
    )
    parser.add_argument("--check", action="store_true", help="only say how the weights in use do on all texts")
    arguments = parser.parse_args()
    oracles: list[Count] = [open_tokenizer(name).count for name in arguments.tokenizers]
    if arguments.words:
        arguments.words.write_text(vocabulary(oracles), encoding="ascii")
        return
    from scipy.optimize import linprog

    samples = texts(arguments.blocks, arguments.seed)
    counted = [(origin, kinds_of(text), max(oracle(text) for oracle in oracles)) for origin, text in samples]
    if arguments.check:
        ratios = [upper_bound(text) / max_count for (_, text), (_, _, max_count) in zip(samples, counted, strict=True)]
        print_ratios("the weights in use", ratios, [origin for origin, _ in samples])
        return
    kinds = sorted({kind for _, piece_counts, _ in counted for kind in piece_counts})
    occurrences = Counter(kind for _, piece_counts, _ in counted for kind in piece_counts)
    columns = {kind: index for index, kind in enumerate(kinds)}
    matrix = np.zeros((len(counted), len(kinds)))
    targets = np.array([max(1.0, max_count - 2.0) for _, _, max_count in counted])  # the bound adds 2 to every text
    for row, (_, piece_counts, _) in enumerate(counted):
        for kind, amount in piece_counts.items():
            matrix[row, columns[kind]] = amount
    half = len(counted) // 2
    share = matrix / targets[:, None]
    result = linprog(
        share[:half].mean(axis=0),
        A_ub=-share[:half],
        b_ub=-_MIN_RATIO * np.ones(half),
        bounds=[(_MIN_WEIGHTS.get(kind, 0.0), 8.0) for kind in kinds],
    )
    weights = result.x
    for kind in kinds:
        print(f'    "{kind}": {weights[columns[kind]]:.3f},  # in {occurrences[kind]}')
    origins = [origin for origin, _ in samples]
    ratios = (share @ weights * MARGIN).tolist()
    print_ratios("training", ratios[:half], origins[:half])
    print_ratios("held out", ratios[half:], origins[half:])


def print_ratios(name: str, ratios: list[float], origins: list[str]) -> None:
    """Print how often and how far the bound is below the counts, and its median excess."""
    worst = sorted(zip(ratios, origins, strict=True))[:8]
    print(
        f"{name}: under {sum(ratio < 1 for ratio in ratios)} of {len(ratios)}, median {statistics.median(ratios):.3f}"
    )
    print("   ", ", ".join(f"{ratio:.3f} {origin}" for ratio, origin in worst))


if __name__ == "__main__":
    main()
