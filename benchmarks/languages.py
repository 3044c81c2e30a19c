"""Search quality in languages other than English: translated manual pages, found by the descriptions of their NAME sections.

`python -m benchmarks.languages DIR [--pages 90] [--only de fr ja ru zh_CN] [--keep DIR]`

DIR is a folder of manual pages as in /usr/share/man, with a folder for each language, for example that of the Debian
packages manpages-de, manpages-fr, manpages-ja, manpages-ru and manpages-zh (`dpkg-deb -x PACKAGE.deb DIR`). The pages
are spread evenly over the sections. The NAME section is removed, and its description is the question. Each language has
an index of its own. Runs with full text alone, vectors alone, and both; nDCG@10 and recall by the code of `ctxfs eval`.
"""

import argparse
import gzip
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.harness import make_store, show
from benchmarks.quality import run_questions, to_markdown
from ctxfs.context.retrieval_metrics import Gold, LineRange
from ctxfs.daemon.session import LocalSession
from ctxfs.store.layout import find_store

_LANGUAGES = ("de", "fr", "ja", "ru", "zh_CN")
_SOURCE = "manuals"
_MAX_PAGE_BYTES = 60_000
_MIN_QUESTION_CHARS = 8
_DASHES = (" - ", " — ", " – ", " -- ", r" \- ")


def split_page(page: str) -> tuple[str, str]:
    """Return (description of the NAME section, Markdown of the page without it); empty if it has none."""
    text = to_markdown(page)
    before, _, rest = text.partition("\n## ")
    name_section, heading, after = rest.partition("\n## ")
    section = " ".join(name_section.partition("\n")[2].split())
    for dash in _DASHES:
        _, separator, description = section.partition(dash)
        if separator and after:
            return description.strip(), before + heading + after
    return "", ""


def make_pages(folder: Path, manuals: Path, limit: int) -> list[Gold]:
    """Write `limit` pages below `folder`; return the questions."""
    files = [
        path
        for path in sorted(manuals.glob("man[1-8]/*.gz"))
        if not path.is_symlink() and path.is_file() and path.stat().st_size < _MAX_PAGE_BYTES
    ]
    pages = []
    for path in files:
        question, text = split_page(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
        if len(question) >= _MIN_QUESTION_CHARS:
            pages.append((path, question, text))
    counts = Counter(question for _, question, _ in pages)
    pages = [page for page in pages if counts[page[1]] == 1]
    step = max(1.0, len(pages) / limit)
    questions = []
    for path, question, text in [pages[int(number * step)] for number in range(min(limit, len(pages)))]:
        target = folder / path.parent.name / f"{path.name.removesuffix('.gz')}.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        questions.append(
            Gold(question.replace('"', " "), (LineRange(f"knowledge/{_SOURCE}/{path.parent.name}/{target.name}"),))
        )
    return questions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--pages", type=int, default=90)
    parser.add_argument("--only", nargs="+", default=list(_LANGUAGES))
    parser.add_argument("--keep", type=Path, help="keep the stores here, and use them if they are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctxfs-languages-") as scratch:
        for language in arguments.only:
            root = (arguments.keep or Path(scratch)) / language
            texts = root / _SOURCE
            texts.mkdir(parents=True, exist_ok=True)
            gold = make_pages(texts, arguments.directory / language, arguments.pages)
            session = LocalSession(find_store(str(make_store(root, {_SOURCE: texts}))))
            for mode in ("words", "meaning", "hybrid"):
                show(f"{language} {mode}", run_questions(session, gold, mode))
            session.close()


if __name__ == "__main__":
    main()
