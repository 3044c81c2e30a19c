"""Relations between many statements: only those that share most of their words are parsed and compared. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ctxfs.context.grounding import statement_words as words
from ctxfs.context.grounding.statement_comparison import Relation, StatementComparison, compare
from ctxfs.context.grounding.statement_split import LocatedStatement
from ctxfs.context.grounding.statements import Statement, parse_statement

_WORD = re.compile(r"[^\W\d_]{2,}")
_MIN_SHARE = 0.45  # of the words of the shorter statement
_MAX_COMPARED = 12  # statements that one is compared with
_CACHED_STATEMENTS = 4096


@dataclass(frozen=True, slots=True)
class StatementRelation:
    """Two statements, and their relation; `first` is the later one in the input of `find_relations`."""

    first: LocatedStatement
    second: LocatedStatement
    comparison: StatementComparison


class StatementIndex:
    """Statements by their words."""

    def __init__(self, statements: Sequence[LocatedStatement] = ()) -> None:
        self._statements: list[tuple[LocatedStatement, frozenset[str]]] = []
        self._postings: dict[str, list[int]] = defaultdict(list)
        for statement in statements:
            self.add(statement)

    def add(self, statement: LocatedStatement) -> None:
        """Add a statement."""
        keys = word_keys(statement.text)
        for key in keys:
            self._postings[key].append(len(self._statements))
        self._statements.append((statement, keys))

    def relations(self, statement: LocatedStatement) -> Iterator[StatementRelation]:
        """Yield the relations of a statement to the added ones, except those that are unrelated; the nearest first."""
        keys = word_keys(statement.text)
        shared = Counter(index for key in keys for index in self._postings.get(key, ()))
        nearest = sorted(shared.items(), key=lambda item: (-item[1], item[0]))[: 4 * _MAX_COMPARED]
        compared = 0
        for index, count in nearest:
            other, other_keys = self._statements[index]
            if count < _MIN_SHARE * min(len(keys), len(other_keys)) or compared == _MAX_COMPARED:
                continue
            compared += 1
            result = compare(_parsed(statement.text, statement.context), _parsed(other.text, other.context))
            if result.relation is not Relation.UNRELATED:
                yield StatementRelation(statement, other, result)


def word_keys(text: str) -> frozenset[str]:
    """Return the stems of the content words of a text, without an analysis of its values."""
    return frozenset(map(words.word_stem, content_words(text)))


def content_words(text: str) -> set[str]:
    """Return the words of a text in lower case, without function words and denials."""
    return {
        word for word in _WORD.findall(text.lower()) if word not in words.FUNCTION_WORDS and word not in words.DENIALS
    }


def find_relations(statements: Sequence[LocatedStatement]) -> list[StatementRelation]:
    """Return the relations among statements of different files, except those that are unrelated."""
    index = StatementIndex()
    out = []
    for statement in statements:
        out += [relation for relation in index.relations(statement) if relation.second.path != statement.path]
        index.add(statement)
    return out


@lru_cache(maxsize=_CACHED_STATEMENTS)
def _parsed(text: str, context: str) -> Statement:
    return parse_statement(text, context)
