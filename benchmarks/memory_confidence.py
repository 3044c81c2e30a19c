"""Effect of `confidence` on the ranking: `python -m benchmarks.memory confidence [--files 400] [--seed 1]`.

Paragraphs of real documents become memories. A question has five words of one of them, which is the right answer. Each
memory gets a random confidence, which is independent of the answer: the worst case for a ranking that weighs it. Then
pairs of equal memories that differ in their confidence are queried: the surer one should come first.
"""

import argparse
import os
import random
import re
import tempfile
from collections import Counter
from pathlib import Path

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.fulltext import FullText
from ctxfs.index.ingest.ingester import Ingester
from ctxfs.index.options import IndexedRoot
from ctxfs.index.query import parse_query
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.path import ROOT

DOCUMENTS = Path("/usr/share/doc")
_WORD = re.compile(r"[a-z]{4,}")
_MIN_WORDS = 30
_QUESTION_WORDS = 5


def paragraphs(count: int, rng: random.Random) -> list[str]:
    """Return different paragraphs of the text files of the machine."""
    files = sorted(
        path for path in DOCUMENTS.glob("*/*") if path.is_file() and path.suffix in ("", ".txt", ".md", ".rst")
    )
    rng.shuffle(files)
    texts: dict[str, None] = {}
    for file in files:
        parts = file.read_text(errors="replace").split("\n\n")
        chosen = [part for part in parts if len(set(_WORD.findall(part.lower()))) >= _MIN_WORDS]
        texts.update(dict.fromkeys(rng.sample(chosen, min(5, len(chosen)))))
    return list(texts)[:count]


def questions(texts: list[str], rng: random.Random) -> list[tuple[str, int]]:
    """Return (question, number of the text with the answer): words that few other texts have."""
    frequencies = Counter(word for text in texts for word in set(_WORD.findall(text.lower())))
    asked = []
    for number, text in enumerate(texts):
        words = sorted(set(_WORD.findall(text.lower())), key=lambda word: (frequencies[word], word))
        middle = words[len(words) // 4 : len(words) // 4 + 4 * _QUESTION_WORDS]
        asked.append((" ".join(rng.sample(middle, _QUESTION_WORDS)), number))
    return asked


def index(folder: Path, texts: list[str], confidences: list[float] | None) -> Searcher:
    """Return a searcher over these texts, with or without the attribute."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for number, text in enumerate(texts):
        file = corpus / f"{number}.md"
        file.write_text(text)
        if confidences is not None:
            os.setxattr(file, "user.ctx.confidence", f"{confidences[number]:.2f}".encode())
    ingester = Ingester(
        Catalog(folder / "index"), FullText(folder / "index" / "words", make=True), 1_000_000, lambda _: None
    )
    ingester.recover()
    ingester.set_roots([IndexedRoot("memory/shared", str(corpus))])
    ingester.scan_all()
    ingester.close()
    return Searcher(folder / "index", None)


def recall(searcher: Searcher, asked: list[tuple[str, int]]) -> tuple[float, float]:
    """Return recall at 1 and at 10."""
    first = tenth = 0
    for question, number in asked:
        hits = searcher.search(parse_query(f"mode:words {question}"), ROOT, 10).hits
        numbers = list(dict.fromkeys(int(Path(hit.path).stem) for hit in hits))
        first += numbers[:1] == [number]
        tenth += number in numbers
    return first / len(asked), tenth / len(asked)


def main() -> None:
    """Print recall with and without the attribute, and the share of pairs in the right order."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    texts = paragraphs(options.files, rng)
    asked, confidences = questions(texts, rng), [rng.random() for _ in texts]
    print(f"{len(texts)} memories, seed {options.seed}\n\n| | recall@1 | recall@10 |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="ctxfs-bench-") as scratch:
        for label, values in (("without confidence", None), ("random confidence", confidences)):
            searcher = index(Path(scratch, label), texts, values)
            print("| {} | {:.3f} | {:.3f} |".format(label, *recall(searcher, asked)))
            searcher.close()
        twins = [text for text in texts for _ in range(2)]
        surer = index(Path(scratch, "twins"), twins, [0.9 if number % 2 else 0.4 for number in range(len(twins))])
        right = found = 0
        for question, number in asked:
            hits = surer.search(parse_query(f"mode:words {question}"), ROOT, 10).hits
            order = [int(Path(hit.path).stem) for hit in hits]
            twins_found = [position for position in order if position // 2 == number]
            found += bool(twins_found)
            right += twins_found[:1] == [2 * number + 1]
        surer.close()
    print(f"\nof equal memories, the one with .9 before the one with .4: {right / max(1, found):.3f}")


if __name__ == "__main__":
    main()
