"""The built-in bound against real tokenizers: `python -m benchmarks.tokens A.json B.json …` (tokenizer.json files).

Blocks of 200 to 6,000 characters of this machine's documents, code and translations, and generated base64, hex and
numbers. Reports how often and how far the bound is below the largest of the tokenizers, and its excess.
"""

import argparse
import base64
import json
import random
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.corpus import real_files
from benchmarks.harness import report
from ctxfs.context.build.token_bound import upper_bound
from ctxfs.context.build.tokens import FileTokenizer


def blocks(count: int, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Yield (origin, text)."""
    files = [path for _, path in zip(range(20_000), (path for _, path in real_files()), strict=False)]
    chance.shuffle(files)
    file_count = 0
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if len(text) < 300 or "\0" in text:
            continue
        start, size = chance.randrange(max(1, len(text) - 1500)), chance.choice((200, 800, 1500, 6000))
        yield str(path), text[start : start + size]
        file_count += 1
        if file_count >= count:
            break
    for _ in range(30):
        yield "base64", base64.b64encode(chance.randbytes(900)).decode()
        yield "hex", chance.randbytes(500).hex()
        yield "numbers", json.dumps([chance.random() for _ in range(60)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizers", nargs="+", type=Path)
    parser.add_argument("--blocks", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    oracles = [FileTokenizer(file) for file in arguments.tokenizers]
    ratios = []
    for origin, text in blocks(arguments.blocks, random.Random(arguments.seed)):
        max_count = max(oracle.count(text) for oracle in oracles)
        ratios.append((upper_bound(text) / max_count, origin))
    ratios.sort()
    values = [ratio for ratio, _ in ratios]
    report(
        {
            "blocks": len(values),
            "under the largest count": f"{sum(value < 1 for value in values)}, at worst {values[0]:.2f} × ({ratios[0][1]})",
            "median": f"{statistics.median(values):.2f} ×",
            "90th percentile": f"{values[int(len(values) * 0.9)]:.2f} ×",
        }
    )


if __name__ == "__main__":
    main()
