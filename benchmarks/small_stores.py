"""Search in a few files: `python -m benchmarks.small_stores [--folders 100] [--files 5] [--keep DIR] [--seed 3]`.

Each folder has the beginnings of a few manual pages, without their NAME sections, and is searched alone. `word`: a
question with a word that one of the files contains, alone or in a sentence; that file should come first, even if the
others are nearer in meaning. `name`: the description in the NAME section, whose words the page need not contain.
Figures: the share of questions whose first file is right, by full text, by meaning and by both. The exit code is 1 if
both together are behind full text for a word, or behind full text for descriptions.
"""

import argparse
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.harness import make_store
from benchmarks.quality import make_manuals
from ctxfs.daemon.session import LocalSession
from ctxfs.store.layout import find_store

_SOURCE = "small"
_FILE_CHARS = 2500
_WORD = re.compile(r"[a-z]{4,}")
_FRAMES = ("{}", "where is {} described", "how do I use {}", "what about {}?", "{} please")
_MODES = ("words", "meaning", "hybrid")


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a folder, and the path of the file that should come first."""

    kind: str
    text: str
    folder: str
    path: str


def make_folders(pages: Path, root: Path, folders: int, files: int, chance: random.Random) -> list[Question]:
    """Write the folders below `root`; return the questions about them."""
    pages.mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    gold = make_manuals(pages, folders * files)
    descriptions = {item.relevant[0].path.split("/", 2)[2]: item.question for item in gold}
    questions: list[Question] = []
    names = sorted(descriptions)
    for number in range(folders):
        texts = {name: (pages / name).read_text()[:_FILE_CHARS] for name in chance.sample(names, files)}
        folder = f"knowledge/{_SOURCE}/{number}"
        (root / str(number)).mkdir(exist_ok=True)
        for name, text in texts.items():
            path = f"{folder}/{Path(name).name}"
            (root / str(number) / Path(name).name).write_text(text)
            questions.append(Question("name", descriptions[name], folder, path))
            others = "\n".join(f"{other} {texts[other].lower()}" for other in texts if other != name)
            words = sorted({word for word in _WORD.findall(text.lower()) if word[:5] not in others})
            if words:
                question = chance.choice(_FRAMES).format(chance.choice(words))
                questions.append(Question("word", question, folder, path))
    return questions


def measure(session: LocalSession, questions: Sequence[Question]) -> Iterator[tuple[str, str, float]]:
    """Yield (kind of the question, mode, 1 if the first file is right)."""
    for question in questions:
        for mode in _MODES:
            answer = session.call("search", question=f"mode:{mode} {question.text}", below=question.folder, limit=1)
            yield question.kind, mode, float(any(hit["path"] == question.path for hit in answer["hits"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=int, default=100)
    parser.add_argument("--files", type=int, default=5)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="keep the store here, and use it if it is there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctxfs-small-") as scratch:
        root = arguments.keep or Path(scratch)
        chance = random.Random(arguments.seed)
        questions = make_folders(root / "pages", root / "folders", arguments.folders, arguments.files, chance)
        session = LocalSession(find_store(str(make_store(root, {_SOURCE: root / "folders"}))))
        session.catch_up_once()
        rows = list(measure(session, questions))
        session.close()
    is_behind = False
    for kind in ("word", "name"):
        first = {mode: fmean(value for k, m, value in rows if (k, m) == (kind, mode)) for mode in _MODES}
        count = sum(question.kind == kind for question in questions)
        print(f"{kind:<5} first of {count}: " + "  ".join(f"{mode} {value:.3f}" for mode, value in first.items()))
        is_behind |= first["hybrid"] < first["words"]
    sys.exit("both together are behind full text" if is_behind else 0)


if __name__ == "__main__":
    main()
