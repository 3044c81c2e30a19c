"""Facts held against their sources: 1,000 citations of real documents, mutated in ten ways; time; one file cited often.

`python -m benchmarks.memory holds [--documents FOLDER] [--citations 1000] [--facts 10000]`. The documents are cut into
sections of 60 lines, one citation and one mutation each; no section is used twice. A fact has the words of its lines.
"""

import argparse
import json
import os
import random
import re
import sysconfig
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from ctxfs.daemon.session import LocalSession
from ctxfs.memory.citations import Span, State, format_citations
from ctxfs.memory.token_stream import TokenStream
from ctxfs.services.citations import CITES
from ctxfs.services.moved_text import Fact
from ctxfs.store.layout import create_store

_SEED = 11
_SECTION_LINES = 60
_SUFFIXES = (".md", ".rst", ".txt", ".py")
_LEFT_OUT = frozenset(("test", "tests", "encodings", "idlelib", "lib2to3", "site-packages"))  # repeat each other
_MIN_WORDS = 6
_WORD = re.compile(r"[A-Za-z]{4,}")
_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.])")

Lines = list[str]
Mutation = Callable[["Case", random.Random], None]


class Case:
    """A section in a file of its own, and the lines of it that are cited."""

    def __init__(self, root: Path, number: int, lines: Lines, first: int, last: int) -> None:
        self.path = root / f"d{number % 7}" / f"s{number}.txt"
        self.lines, self.first, self.last = lines, first, last
        self.target: Path | None = None  # another file that the text is moved to

    @property
    def cited(self) -> Lines:
        """The cited lines."""
        return self.lines[self.first - 1 : self.last]

    @property
    def rest(self) -> Lines:
        """The other lines."""
        return [*self.lines[: self.first - 1], *self.lines[self.last :]]

    def write(self, lines: Sequence[str]) -> None:
        """Write the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(lines))


def reflow(case: Case, chance: random.Random) -> None:
    """Wrap all paragraphs anew."""
    width = chance.choice((40, 66, 100))
    paragraphs = "\n".join(case.lines).split("\n\n")
    options = {"break_long_words": False, "break_on_hyphens": True}
    case.write([textwrap.fill(" ".join(text.split()), width, **options) + "\n" for text in paragraphs])  # type: ignore[arg-type]


def rename(case: Case, chance: random.Random) -> None:
    """Rename the file, sometimes into another directory."""
    folder = chance.choice((case.path.parent, case.path.parent.parent / "renamed"))
    folder.mkdir(exist_ok=True)
    case.path.rename(folder / f"new-{case.path.name}")


def touch(case: Case, chance: random.Random) -> None:
    """Set the times of the file."""
    os.utime(case.path)


def insert_above(case: Case, chance: random.Random) -> None:
    """Add lines at the beginning."""
    case.write([f"An added line, number {number}." for number in range(chance.randint(1, 9))] + case.lines)


def delete(case: Case, chance: random.Random) -> None:
    """Delete the cited lines."""
    case.write(case.rest)


def edit_word(case: Case, chance: random.Random) -> None:
    """Replace a word of the cited lines, or add one beside them."""
    _edit(case, chance, _WORD, chance.choice(("altered", "not the same")))


def edit_number(case: Case, chance: random.Random) -> None:
    """Replace a number of the cited lines."""
    _edit(case, chance, _NUMBER, str(chance.randint(1000, 9999)))


def move_within(case: Case, chance: random.Random) -> None:
    """Move the cited lines to another position, at least three lines away."""
    rest = case.rest
    positions = [n for n in range(len(rest) + 1) if abs(n - case.first + 1) > 3]
    position = chance.choice(positions)
    case.write([*rest[:position], *case.cited, *rest[position:]])


def move_to_another(case: Case, chance: random.Random) -> None:
    """Move the cited lines to another file, which exists or is new."""
    case.write(case.rest)
    target = case.path.parent.parent / "moved" / f"t{case.path.name}"
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(["# Another file", "", *case.cited, ""]))
    case.target = target


def truncate(case: Case, chance: random.Random) -> None:
    """Cut the file before the cited lines, or in them."""
    case.write(case.lines[: chance.randint(0, case.last - 1)])


def _edit(case: Case, chance: random.Random, pattern: re.Pattern[str], new: str) -> None:
    text = "\n".join(case.cited)
    match = chance.choice(list(pattern.finditer(text)))
    edited = f"{text[: match.start()]}{new}{text[match.end() :]}"
    case.write([*case.lines[: case.first - 1], *edited.split("\n"), *case.lines[case.last :]])


_KEPT: dict[Mutation, tuple[State, ...]] = {reflow: (State.HOLDS, State.MOVED), touch: (State.HOLDS,)}
_MOVED = (rename, insert_above, move_within, move_to_another)
_BROKEN = (delete, edit_word, edit_number, truncate)
_MUTATIONS: tuple[Mutation, ...] = (*_KEPT, *_MOVED, *_BROKEN)


def sections_of(folder: Path, chance: random.Random) -> Iterator[Lines]:
    """Yield sections of the documents below a folder, in random order, none of them twice."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
    files = [file for file in files if _LEFT_OUT.isdisjoint(file.relative_to(folder).parts)]
    chance.shuffle(files)
    for file in files:
        lines = file.read_text(errors="replace").split("\n")
        for start in range(0, len(lines) - _SECTION_LINES, _SECTION_LINES):
            yield lines[start : start + _SECTION_LINES]


def make_case(root: Path, number: int, lines: Lines, needs: re.Pattern[str], chance: random.Random) -> Case | None:
    """Return a case for a section; None if no lines of it are fit to be cited. Lines that occur twice are not."""
    for _ in range(20):
        first = chance.randint(4, _SECTION_LINES - 8)
        case = Case(root, number, lines, first, first + chance.randint(0, 3))
        text = "\n".join(case.cited)
        has_ends = bool(case.cited[0].strip() and case.cited[-1].strip())
        is_single = "\n".join(lines).count(text) == 1
        if has_ends and is_single and len(_WORD.findall(text)) >= _MIN_WORDS and needs.search(text):
            return case
    return None


def make_cases(root: Path, documents: Path, count: int) -> dict[Mutation, list[Case]]:
    """Return the cases of each mutation."""
    chance = random.Random(_SEED)
    sections = sections_of(documents, chance)
    cases: dict[Mutation, list[Case]] = {mutation: [] for mutation in _MUTATIONS}
    number = 0
    for mutation, members in cases.items():
        needs = _NUMBER if mutation is edit_number else _WORD
        while len(members) < count // len(_MUTATIONS):
            number += 1
            case = make_case(root, number, next(sections), needs, chance)
            if case is not None:
                case.write(case.lines)
                members.append(case)
    return cases


def measure_mutations(folder: Path, documents: Path, count: int) -> dict[str, object]:
    """Cite, mutate and check; return the states by mutation, and the times."""
    root, layout = folder / "documents", create_store(folder / "store")
    cases = make_cases(root, documents, count)
    config = layout.config
    settings = f'[index]\nmeaning = false\n\n[[source]]\nname = "d"\npath = "{root}"\n'
    config.write_text(settings)
    facts = layout.tree / "memory" / "bench" / "fact"
    facts.mkdir(parents=True)
    paths: dict[str, tuple[Mutation, Case]] = {}
    with closing(LocalSession(layout)) as opened:
        opened.call("search", question="path:documents")  # brings the index up to date, as a daemon has it
        start = time.perf_counter()
        for mutation, members in cases.items():
            for case in members:
                name = f"{mutation.__name__}/{case.path.stem}.md"
                (facts / name).parent.mkdir(exist_ok=True)
                (facts / name).write_text("\n".join(case.cited))
                source = f"knowledge/d/{case.path.relative_to(root)}:{case.first}-{case.last}"
                opened.call("cite", path=f"memory/bench/fact/{name}", sources=[source])
                paths[f"memory/bench/fact/{name}"] = mutation, case
        citing_seconds = time.perf_counter() - start
    chance = random.Random(_SEED)
    for mutation, case in paths.values():
        mutation(case, chance)
    with closing(LocalSession(layout)) as opened:
        opened.call("search", question="path:documents")  # brings the index up to date
        start = time.perf_counter()
        checked = opened.call("check", path="memory")
        first_seconds = time.perf_counter() - start
        times = {mutation.__name__: _time_check(opened, mutation, len(members)) for mutation, members in cases.items()}
    return {
        **_evaluate({file["path"]: file["citations"][0] for file in checked}, paths, root),
        "ms_to_cite": round(1000 * citing_seconds / len(paths), 1),
        "ms_a_fact_first": round(1000 * first_seconds / len(checked), 3),
        "ms_a_fact_again": times,
    }


def _time_check(opened: LocalSession, mutation: Mutation, count: int) -> float:
    """Return the milliseconds to judge a fact whose source has been read, without the request around it."""
    folder = opened.app.layout.tree / "memory" / "bench" / "fact" / mutation.__name__
    values = [
        (Fact(f"memory/bench/fact/{mutation.__name__}/{file.name}", file.read_text), os.getxattr(file, CITES))
        for file in folder.iterdir()
    ]
    start = time.perf_counter()
    for fact, value in values:
        opened.app.memory.citations.judge(value, fact)
    return round(1000 * (time.perf_counter() - start) / count, 3)


def _evaluate(
    citations: dict[str, dict[str, str]], paths: dict[str, tuple[Mutation, Case]], root: Path
) -> dict[str, object]:
    states: dict[str, Counter[str]] = {mutation.__name__: Counter() for mutation in _MUTATIONS}
    wrong, found, lost, moved = 0, 0, 0, 0
    for path, (mutation, case) in paths.items():
        citation = citations[path]
        states[mutation.__name__][citation["holds"]] += 1
        state = State(citation["holds"])
        if mutation in _BROKEN:
            wrong += not state.is_broken
        elif mutation in _MOVED:
            moved += 1
            found += state is State.MOVED and _has_text(citation["at"], case, root)
        else:
            lost += state not in _KEPT[mutation]
    return {
        "citations": len(paths),
        "wrong_holds": wrong,
        "moved_found": round(found / moved, 4),
        "unchanged_but_not_held": lost,
        "states": {name: dict(counts) for name, counts in states.items()},
    }


def _has_text(position: str, case: Case, root: Path) -> bool:
    """Return True if the lines at a position have the cited words."""
    path, _, span = position.removeprefix("knowledge/d/").rpartition(":")
    first, _, last = span.partition("-")
    lines = (root / path).read_text().split("\n")[int(first) - 1 : int(last or first)]
    return " ".join(case.cited).split() == " ".join(lines).split()


def measure_one_source(facts: int) -> dict[str, object]:
    """Return the time to judge many citations of one file, before and after a change of it."""
    lines = [f"Entry {number} of the table has the value {number * 7919 % 100_003}." for number in range(20_000)]
    numbers = random.Random(_SEED).sample(range(1, len(lines) + 1), facts)
    stream = TokenStream(enumerate(lines, 1))
    values = [format_citations([stream.cite(Span("knowledge/d/table.txt", n, n), 1)]) for n in numbers]
    assert max(map(len, values)) < 2048
    citations = [stream.cite(Span("knowledge/d/table.txt", n, n), 1) for n in numbers]
    out: dict[str, object] = {"facts": facts, "lines": len(lines)}
    changed = ["A new first line.", *lines[:10_000], "Changed.", *lines[10_001:]]
    for name, text in (("unchanged", lines), ("changed", changed)):
        start = time.perf_counter()
        current = TokenStream(enumerate(text, 1))
        parsed = time.perf_counter()
        states = Counter(current.judge(citation).state.value for citation in citations)
        done = time.perf_counter()
        out[name] = {
            "read_once_ms": round(1000 * (parsed - start), 1),
            "us_a_fact": round(1e6 * (done - parsed) / facts, 1),
            "states": dict(states),
        }
    return out


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--citations", type=int, default=1000)
    parser.add_argument("--facts", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = {
            "mutations": measure_mutations(Path(folder), options.documents, options.citations),
            "one_source": measure_one_source(options.facts),
        }
    print(json.dumps(report, indent=1))
