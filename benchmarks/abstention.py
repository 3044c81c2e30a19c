"""The verdict on questions: which are refused as unknown, and the length of contexts.

`python -m benchmarks.abstention [--data DIR] [--python QUESTIONS.tsv] [--pages 150] [--modules 150] [--keep DIR]
[--only NAME]… [--fit] [--contexts]`

Collections: `dialogue` (LoCoMo, DIR with locomo10.json), `python` (Python's own library, with the questions of
`questions/` and of QUESTIONS.tsv), `functions` and `manuals` (see `benchmarks.quality`), `docs` (the documentation of
ctxfs). Each gets questions that it answers, and others: those of other conversations, of other topics and nonsense.
`adversarial` are LoCoMo's questions about the wrong person (category 5).

The weights are fitted on questions and conversations with an even number; figures are for the odd ones, which are
unseen. --fit prints weights of all collections together, and figures with each collection left out.
--contexts prints tokens of contexts of 8,000 tokens, and the share that contains an answer, trimmed and filled.
"""

import argparse
import json
import os
import random
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
import numpy.typing as npt

from benchmarks.abstention_fit import fit_logistic, logistic, measure_auc
from benchmarks.harness import make_store
from benchmarks.locomo import CATEGORIES, questions_of, write_conversation
from benchmarks.quality import COLLECTIONS
from ctxfs.context.retrieval_metrics import Gold, LineRange
from ctxfs.daemon.session import LocalSession
from ctxfs.index.query import parse_query
from ctxfs.index.search.results import Answer, Evidence, Hit
from ctxfs.index.search.verdict import UNKNOWN_BELOW
from ctxfs.model.path import ROOT
from ctxfs.store.layout import find_store

_QUESTIONS = Path(__file__).parent / "questions"
_EXCLUDED = ("test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3")
_BUDGET = 8000
_NAMES = ("dialogue", "python", "functions", "manuals", "docs")
_OTHER_QUESTIONS = 80
_ADVERSARIAL_CATEGORY = 5
# Kinds of questions that a collection may answer after all.
_ANSWERED_KINDS = {"manuals": {"software"}, "docs": {"software", "organisation"}}


@dataclass(frozen=True, slots=True)
class Case:
    """A question, whether the collection answers it (None: adversarial), and the answering ranges."""

    question: str
    is_answered: bool | None
    is_even: bool
    relevant: tuple[LineRange, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A case with its evidence, verdict and best hits."""

    case: Case
    evidence: Evidence
    answer: Answer
    hits: Sequence[Hit]


# The folder of a store, its sources, and the questions.
Collection = tuple[Path, dict[str, Path], Sequence[Case]]


def read_table(file: Path) -> list[list[str]]:
    """Return the rows of a table of tabs, without comments."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]


def unanswerable(name: str, chats: Sequence[str]) -> list[Case]:
    """Return questions that a collection without dialogues does not answer."""
    rows = read_table(_QUESTIONS / "python_unanswerable.tsv")
    own = [(kind, question) for kind, question in rows if kind not in _ANSWERED_KINDS.get(name, ())]
    own += [("chat", question) for question in random.Random(3).sample(chats, min(_OTHER_QUESTIONS, len(chats)))]
    return [Case(question, False, number % 2 == 0, kind=kind) for number, (kind, question) in enumerate(own)]


def measure(session: LocalSession, cases: Iterable[Case]) -> list[Measurement]:
    """Ask each question; return its evidence, verdict and hits."""
    out = []
    for case in cases:
        results = session.app.searcher.search(parse_query(case.question), ROOT, 400)
        out.append(Measurement(case, results.answer.evidence or Evidence(None, 0.0), results.answer, results.hits))
    return out


def open_session(root: Path, sources: dict[str, Path]) -> LocalSession:
    """Return a session of a store of these sources, indexed by words and by meaning."""
    session = LocalSession(find_store(str(make_store(root, sources, excludes=_EXCLUDED))))
    session.catch_up_once()
    return session


def dialogue_collections(data: Path, root: Path) -> Iterator[Collection]:
    """Yield each conversation with its own questions, those about the wrong person, and those of the others."""
    samples = json.loads((data / "locomo10.json").read_text())
    for index, sample in enumerate(samples):
        name = sample["sample_id"]
        places = write_conversation(sample, root / "corpus" / name)
        own = questions_of(sample, index, places, f"knowledge/{name}", {})
        others = [
            question["question"]
            for other in samples
            if other is not sample
            for question in other["qa"]
            if question["category"] in CATEGORIES
        ]
        topics = [question for _, question in read_table(_QUESTIONS / "python_unanswerable.tsv")[index::10]]
        questions: list[tuple[str, bool | None, tuple[LineRange, ...]]] = [(g.question, True, g.relevant) for g in own]
        questions += [(q["question"], None, ()) for q in sample["qa"] if q["category"] == _ADVERSARIAL_CATEGORY]
        questions += [(q, False, ()) for q in (*random.Random(index).sample(others, _OTHER_QUESTIONS), *topics)]
        cases = [Case(question, is_answered, index % 2 == 0, rel) for question, is_answered, rel in questions]
        yield root / name, {name: root / "corpus" / name}, cases


def text_collection(name: str, root: Path, arguments: argparse.Namespace, chats: Sequence[str]) -> Collection:
    """Return a collection of texts with its own questions, and others."""
    root.mkdir(parents=True, exist_ok=True)
    gold: list[Gold] = []
    source, source_name = root / "library", name if name in ("python", "docs") else "library"
    if name == "python":
        source = Path(os.path.realpath(sysconfig.get_path("stdlib")))
        rows = [(row[1], row[2]) for row in read_table(_QUESTIONS / "python_answerable.tsv")]
        rows += [(row[0], row[1]) for row in read_table(arguments.python)] if arguments.python else []
        gold = [
            Gold(question, tuple(LineRange(f"knowledge/python/{file}") for file in files.split(",")))
            for question, files in rows
        ]
    elif name == "docs":
        source = Path(__file__).parent.parent / "docs"
        gold = [Gold(row[0], ()) for row in read_table(_QUESTIONS / "docs_answerable.tsv")]
    else:
        source.mkdir(exist_ok=True)
        gold = COLLECTIONS[name](source, arguments.modules if name == "functions" else arguments.pages)
        gold = random.Random(1).sample(gold, min(len(gold), 400))
    cases = [Case(item.question, True, number % 2 == 0, item.relevant) for number, item in enumerate(gold)]
    return root, {source_name: source}, [*cases, *unanswerable(name, chats)]


def probabilities(rows: Sequence[Measurement], is_answered: bool | None) -> npt.NDArray[np.float64]:
    """Return p of the unseen questions that are answered, that are not, or that are adversarial."""
    return np.array([m.answer.p or 0.0 for m in rows if m.case.is_answered is is_answered and not m.case.is_even])


def share_refused(rows: Sequence[Measurement], is_answered: bool | None) -> float:
    """Return the share of the unseen questions with the verdict `unknown`."""
    verdicts = [m.answer.verdict == "unknown" for m in rows if m.case.is_answered is is_answered and not m.case.is_even]
    return fmean(verdicts) if verdicts else float("nan")


def show_verdicts(name: str, rows: Sequence[Measurement]) -> None:
    """Print the figures of a collection on its unseen questions."""
    own, others, adversarial = (probabilities(rows, is_answered) for is_answered in (True, False, None))
    parts = [
        f"{name:<10} AUC {measure_auc(own, others):.3f}",
        f"false refusals {share_refused(rows, True):.3f} of {len(own)}",
        f"refused {share_refused(rows, False):.3f} of {len(others)}",
    ]
    if len(adversarial):
        parts.append(f"adversarial AUC {measure_auc(own, adversarial):.3f}")
    print(", ".join(parts))


def show_contexts(name: str, rows: Sequence[Measurement]) -> None:
    """Print the tokens of contexts of the unseen questions, about four characters each, trimmed and filled."""
    trimmed, filled, kept, whole = [], [], [], []
    for row in rows:
        if not row.case.is_answered or row.case.is_even:
            continue
        fitting, used = [], 0
        for hit in row.hits:
            used += len(hit.chunk.text) // 4 + 12
            if used > _BUDGET:
                break
            fitting.append(hit)
        relevant = [hit for hit in fitting if hit.is_relevant and row.answer.verdict != "unknown"]
        trimmed.append(sum(len(hit.chunk.text) // 4 + 12 for hit in relevant))
        filled.append(sum(len(hit.chunk.text) // 4 + 12 for hit in fitting))
        if row.case.relevant:
            kept.append(_share_found(row.case.relevant, relevant))
            whole.append(_share_found(row.case.relevant, fitting))
    found = f", evidence {fmean(kept):.3f} (filled {fmean(whole):.3f})" if kept else ""
    print(
        f"{name:<10} tokens: median {median(trimmed):.0f}, mean {fmean(trimmed):.0f} (filled {median(filled):.0f}){found}"
    )


def _share_found(relevant: Sequence[LineRange], hits: Sequence[Hit]) -> float:
    ranges = [LineRange(hit.path, hit.chunk.first, hit.chunk.last) for hit in hits]
    found = [any(item.touches(other) for other in ranges) for item in relevant]
    # Of several files one is an answer; of several turns each is a part of it.
    return float(any(found)) if relevant[0].last > 10**8 else fmean(found)


def show_fit(measured: dict[str, list[Measurement]]) -> None:
    """Print the weights fitted on all collections, and the figures of each with weights of the others."""

    def columns(rows: Sequence[Measurement]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        signals = [[m.evidence.cosine or 0.0, m.evidence.coverage, m.evidence.missing] for m in rows]
        return np.array(signals), np.array([float(bool(m.case.is_answered)) for m in rows])

    def fit(names: Iterable[str]) -> npt.NDArray[np.float64]:
        signals, labels, weights = [], [], []
        for name in names:
            rows = [m for m in measured[name] if m.case.is_answered is not None and m.case.is_even]
            x, y = columns(rows)
            signals.append(x)
            labels.append(y)
            weights.append(np.where(y > 0, 1 / max(y.sum(), 1), 1 / max((1 - y).sum(), 1)))
        return fit_logistic(np.concatenate(signals), np.concatenate(labels), np.concatenate(weights))

    cosine, coverage, missing, bias = fit(measured)
    print(f"all: cosine {cosine:.1f}, coverage {coverage:.1f}, missing {missing:.1f}, bias {bias:.1f}")
    for name, rows in measured.items():
        if len(measured) == 1:
            continue
        x, y = columns([m for m in rows if m.case.is_answered is not None])
        p = logistic(x, fit(other for other in measured if other != name))
        print(
            f"left out {name:<10} AUC {measure_auc(p[y > 0], p[y == 0]):.3f}, "
            f"false refusals {(p[y > 0] < UNKNOWN_BELOW).mean():.3f}, refused {(p[y == 0] < UNKNOWN_BELOW).mean():.3f}"
        )


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that choose collections."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of locomo10.json")
    parser.add_argument("--python", type=Path, help="further questions for Python's library: question TAB files")
    parser.add_argument("--pages", type=int, default=150)
    parser.add_argument("--modules", type=int, default=150)
    parser.add_argument("--only", choices=_NAMES, action="append")
    parser.add_argument("--keep", type=Path, help="keep the stores here, and use those that are there")
    return parser


def open_collections(arguments: argparse.Namespace, root: Path) -> Iterator[tuple[str, Iterable[Collection]]]:
    """Yield the name and the parts of each chosen collection, with its stores below `root`."""
    chats: list[str] = []
    if arguments.data:
        samples = json.loads((arguments.data / "locomo10.json").read_text())
        chats = [q["question"] for sample in samples for q in sample["qa"] if q["category"] in CATEGORIES]
    for name in arguments.only or _NAMES:
        if name != "dialogue":
            yield name, [text_collection(name, root / name, arguments, chats)]
        elif arguments.data:
            yield name, dialogue_collections(arguments.data, root / name)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--fit", action="store_true", help="print fitted weights")
    parser.add_argument("--contexts", action="store_true", help="print the length of contexts")
    arguments = parser.parse_args()
    measured: dict[str, list[Measurement]] = {}
    with tempfile.TemporaryDirectory(prefix="ctxfs-abstention-") as scratch:
        for name, collections in open_collections(arguments, arguments.keep or Path(scratch)):
            measured[name] = [
                row for folder, sources, cases in collections for row in measure(open_session(folder, sources), cases)
            ]
            show_verdicts(name, measured[name])
            if arguments.contexts:
                show_contexts(name, measured[name])
    if arguments.fit:
        show_fit(measured)


if __name__ == "__main__":
    main()
