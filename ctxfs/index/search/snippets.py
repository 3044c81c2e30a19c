"""The lines of a passage that match a question, for people and agents. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ctxfs.index.normal_form import unspaced_pattern
from ctxfs.index.search.word_matches import fit_line, select_lines
from ctxfs.model.escapes import one_line

if TYPE_CHECKING:
    from ctxfs.index.query import Query

_WORD = re.compile(r"\w+")
_COMMON_WORDS = frozenset(
    "a an and are as at be by do does for from how i in is it of on or our that the this to was we what when where which "
    "who why will with you".split()
)
_MAX_LINE_SNIPPET_CHARS = 160
_MAX_LEADING_LINES = 3


def question_words(query: "Query") -> list[str]:
    """Return the words that the hits of a query are searched for, without those that most texts contain.

    Corrections take the place of typos. Runs of scripts without spaces are cut into pairs of characters.
    """
    typos = {typo.casefold() for typo, _ in query.corrections}
    text = " ".join((*query.words, *query.phrases, *query.must)).casefold()
    words = [word for word in _WORD.findall(text) if word not in typos and not unspaced_pattern().search(word)]
    pairs = [
        run[position : position + 2]
        for run in unspaced_pattern().findall(text)
        for position in range(max(1, len(run) - 1))
    ]
    content = [word for word in dict.fromkeys(words) if word not in _COMMON_WORDS] or list(dict.fromkeys(words))
    return [*content, *dict.fromkeys(pairs)]


def line_snippet(text: str, terms: Sequence[str]) -> str:
    """Return the line of a text that matches best, on one line and cut around its first match."""
    _, lines = select_lines(text, terms, 1)
    return fit_line(" ".join("".join(lines).split()), terms, _MAX_LINE_SNIPPET_CHARS)


class Snippet(NamedTuple):
    """Lines of a hit, with the numbers of the first and the last one in the file."""

    first: int
    last: int
    lines: Sequence[str]


def cut_snippet(hit: Mapping[str, Any], terms: Sequence[str], max_lines: int, max_chars: int) -> Snippet:
    """Return the lines of a hit that match best, whole if it is short, without common indentation.

    Numbers are those of the whole hit if its text does not have the lines of the file, as in a PDF. Long lines are cut
    around their first match. No line contains control characters.
    """
    text = hit["text"].expandtabs(4)
    start, lines = 0, text.split("\n")
    if len(lines) > max_lines or len(text) > max_chars:
        start, lines = select_lines(text, terms, max_lines)
        if start <= _MAX_LEADING_LINES:  # a signature or a title is worth more than the last lines
            start, lines = 0, text.split("\n")[:max_lines]
    used, shown = 0, list[str]()
    for line in lines:
        short = fit_line(line.rstrip(), terms, max_chars - used if not shown else max_chars)
        used += len(short) + 1
        if shown and used > max_chars:
            break
        shown.append(short)
    while shown and not shown[-1].strip():
        shown.pop()
    while shown and not shown[0].strip():
        shown.pop(0)
        start += 1
    indent = min((len(line) - len(line.lstrip()) for line in shown if line.strip()), default=0)
    shown = [one_line(line[indent:]) for line in shown]
    if text.count("\n") != hit["last"] - hit["first"]:
        return Snippet(hit["first"], hit["last"], shown)
    return Snippet(hit["first"] + start, hit["first"] + start + max(len(shown), 1) - 1, shown)
