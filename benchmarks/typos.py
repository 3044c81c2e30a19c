"""Questions with one typo each: how many are refused, and how many find the right file first.

`python -m benchmarks.typos [--python QUESTIONS.tsv] [--data DIR] [--only NAME]… [--keep DIR] [--seed 7]`

The collections are those of `benchmarks.abstention`. One letter of one word with at least four letters is left out,
wrong, too many, or two are in the wrong order; a wrong or further letter is mostly from a neighbouring key.
Rows: the original questions, with the typo and without corrections, and with the typo and corrections.
`refused` are the questions that the collection does not answer, with a typo as well.
"""

import random
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from unittest.mock import patch

from benchmarks.abstention import (
    Collection,
    Measurement,
    make_parser,
    measure,
    open_collections,
    open_session,
)
from ctxfs.context.retrieval_metrics import LineRange
from ctxfs.index.search.question_embedding import QuestionEmbedder

_WORD = re.compile(r"[A-Za-z]{4,}")
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_KINDS = ("missing", "wrong", "further", "swapped")
_SHARES = (35, 25, 25, 15)
_NEIGHBOUR_SHARE = 0.8


def add_typo(question: str, chance: random.Random) -> str:
    """Return a question with a typo in one of its words; the same question if no word is long enough."""
    words = list(_WORD.finditer(question))
    if not words:
        return question
    match = chance.choices(words, [len(word[0]) for word in words])[0]
    word = match[0]
    for _ in range(20):
        changed = _change_letter(word, chance.choices(_KINDS, _SHARES)[0], chance)
        if changed != word:
            return f"{question[: match.start()]}{changed}{question[match.end() :]}"
    return question


def _change_letter(word: str, kind: str, chance: random.Random) -> str:
    position = chance.randrange(len(word)) if chance.random() < 0.3 else chance.randrange(1, len(word))
    head, letter, tail = word[:position], word[position], word[position + 1 :]
    if kind == "missing":
        return head + tail
    if kind == "swapped":
        return f"{head[:-1]}{letter}{head[-1]}{tail}" if head else word
    near = _neighbours(letter) if chance.random() < _NEIGHBOUR_SHARE else "abcdefghijklmnopqrstuvwxyz"
    other = chance.choice(near)
    return head + other + tail if kind == "wrong" else head + chance.choice((letter, other)) + letter + tail


def _neighbours(letter: str) -> str:
    for row, keys in enumerate(_KEYS):
        if (column := keys.find(letter.lower())) >= 0:
            rows = _KEYS[max(0, row - 1) : row + 2]
            return "".join(part[max(0, column - 1) : column + 2] for part in rows).replace(letter.lower(), "") or letter
    return letter


def show(name: str, rows: Sequence[Measurement]) -> None:
    """Print a row: how many are refused of those with an answer and those without, and how many are right first."""
    own = [row for row in rows if row.case.is_answered]
    others = [row for row in rows if row.case.is_answered is False]
    ranked = [row for row in own if row.case.relevant]
    right = f", first right {fmean(_is_right(row) for row in ranked):.3f}" if ranked else ""
    print(
        f"  {name:<22} false refusals {_share_unknown(own):.3f} of {len(own)}{right}, "
        f"refused {_share_unknown(others):.3f} of {len(others)}",
        flush=True,
    )


def _share_unknown(rows: Sequence[Measurement]) -> float:
    return fmean(row.answer.verdict == "unknown" for row in rows) if rows else float("nan")


def _is_right(row: Measurement) -> bool:
    if not row.hits:
        return False
    chunk = row.hits[0].chunk
    return any(item.touches(LineRange(chunk.path, chunk.first, chunk.last)) for item in row.case.relevant)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctxfs-typos-") as scratch:
        for name, collections in open_collections(arguments, arguments.keep or Path(scratch)):
            measure_collections(name, collections, arguments.seed)


def measure_collections(name: str, collections: Iterable[Collection], seed: int) -> None:
    """Search stores for their questions, each as it is and with a typo, and print a row for each way."""
    chance = random.Random(seed)
    original: list[Measurement] = []
    typed: list[Measurement] = []
    corrected: list[Measurement] = []
    for root, sources, cases in collections:
        session = open_session(root, sources)
        cases = [case for case in cases if case.is_answered is not None]
        typos = [replace(case, question=add_typo(case.question, chance)) for case in cases]
        original += measure(session, cases)
        with patch.object(QuestionEmbedder, "correct_typos", lambda self, view, hinted, exact: hinted):
            typed += measure(session, typos)
        corrected += measure(session, typos)
        session.close()
    print(name)
    for title, rows in (("original", original), ("typo", typed), ("typo, corrected", corrected)):
        show(title, rows)


if __name__ == "__main__":
    main()
