"""Comparison of two statements by rules: the same, repeated in other words, contradicting each other, or unrelated. Pure.

Two statements contradict each other if they give one attribute of one subject different values: a number, date, version,
name, word or denial. A difference in the subject or the scope ("on Linux", "Port 80", "In 2022, …") makes them unrelated.
In doubt they are unrelated: a false conflict costs a reader more than a missed one. There is no understanding of
meaning here: opposites in other words and inference are not found.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ctxfs.context.grounding import statement_words as words
from ctxfs.context.grounding.attribute_claims import split_scope
from ctxfs.context.grounding.claim_comparison import differing_claims
from ctxfs.context.grounding.statement_scan import Token
from ctxfs.context.grounding.statements import Statement, parse_statement
from ctxfs.context.grounding.value_comparison import are_comparable, are_opposite_ends, is_inexact, values_match
from ctxfs.context.grounding.wording_comparison import differing_values
from ctxfs.model.path import printable

MIN_NEAR_COSINE = 0.85
_MIN_SHARED_SHARE = 0.5  # share of the words of the shorter statement: below it no further comparison is made
_MIN_CONFLICT_KEYS = 2  # shared content words and values
_MIN_REPEATED_KEYS = 3
_MAX_COMPLEMENT_WORDS = 4
_MAX_PAIR_WORDS = 2  # words of a value behind a key that names no known attribute
_MAX_SHORT_TOKENS = 14  # words and values of statements that may contradict each other by a word
_WORDS_PER_EXTRA = 4  # shared words that excuse an additional one
_VALUE_CHARS = 60


class Relation(StrEnum):
    """The relation of two statements."""

    SAME = "same"
    REPEATED = "repeated"
    CONTRADICTS = "contradicts"
    UNRELATED = "unrelated"


@dataclass(frozen=True, slots=True)
class StatementComparison:
    """The relation of two statements with its reason, and the values of both that differ, in pairs."""

    relation: Relation
    reason: str = ""
    differing: tuple[tuple[str, str], ...] = ()


_UNRELATED = StatementComparison(Relation.UNRELATED)


def compare(
    one: str | Statement, other: str | Statement, cosine: float | None = None, *, contexts: tuple[str, str] = ("", "")
) -> StatementComparison:
    """Compare two statements; `cosine` is that of their vectors if the caller has them.

    `contexts` are their headings or paths: see `parse_statement`.
    """
    first = parse_statement(one, contexts[0]) if isinstance(one, str) else one
    second = parse_statement(other, contexts[1]) if isinstance(other, str) else other
    if reason := _scope_difference(first, second):
        return StatementComparison(Relation.UNRELATED, reason)
    if first.normal == second.normal and first.normal:
        return StatementComparison(Relation.SAME, "the same text")
    has_other_qualifiers = _have_other_qualifiers(first, second)
    if not _share_words(first, second) or (has_other_qualifiers and _have_other_names(first, second)):
        return _compare_claims(first, second) or _UNRELATED
    differences = _Differences(first, second)
    contradiction = None if has_other_qualifiers else _find_contradiction(differences)
    contradiction = contradiction or _compare_claims(first, second) or _compare_wordings(first, second)
    return contradiction or _find_repetition(differences, cosine) or _UNRELATED


def _share_words(first: Statement, second: Statement) -> bool:
    shared = len(first.keys & second.keys)
    return shared >= 1 and shared >= _MIN_SHARED_SHARE * min(len(first.keys), len(second.keys))


def _have_other_names(first: Statement, second: Statement) -> bool:
    """Return True if one of two statements has a name that the other one lacks: they do not repeat each other."""
    return bool(first.names - second.all_keys or second.names - first.all_keys)


def _have_other_qualifiers(first: Statement, second: Statement) -> bool:
    """Return True if two statements are limited to other times or things, or if one of them adds to another statement."""
    if first.pair and second.pair:
        return False
    is_additive = first.is_additive or second.is_additive
    return first.qualifiers != second.qualifiers or is_additive or _have_other_time(first, second)


def _have_other_time(first: Statement, second: Statement) -> bool:
    return bool(first.is_past and second.is_past is False) or bool(second.is_past and first.is_past is False)


def _compare_claims(first: Statement, second: Statement) -> StatementComparison | None:
    """Compare the claims of two statements in any wording; denials are compared by the other rules."""
    one, other = first.claim, second.claim
    if one is None or other is None or first.denials or second.denials:
        return None
    if first.pair and second.pair and "," in first.pair[1] + second.pair[1]:
        return None
    if first.is_additive or second.is_additive or (_have_other_time(first, second) and not one.is_timeless):
        return None
    if first.qualifiers - one.free_keys != second.qualifiers - other.free_keys:
        return None
    values = differing_claims(one, other)
    return _contradiction("value", [values]) if values else None


def _compare_wordings(first: Statement, second: Statement) -> StatementComparison | None:
    if first.denials or second.denials or first.is_additive or second.is_additive or _have_other_time(first, second):
        return None
    values = differing_values(first, second)
    return _contradiction("value", [values]) if values else None


def _scope_difference(first: Statement, second: Statement) -> str:
    """Return why the contexts of two statements make them statements about different things; empty if they do not."""
    if first.scopes and second.scopes and first.scopes - second.scopes and second.scopes - first.scopes:
        return f"other scope: {', '.join(sorted(first.scopes))} and {', '.join(sorted(second.scopes))}"
    is_bare = first.pair is not None and second.pair is not None and len(_key_words(first.pair[0])) == 1
    if is_bare and first.heading and second.heading:
        ours, theirs = (
            first.heading - second.all_keys - first.all_keys,
            second.heading - first.all_keys - second.all_keys,
        )
        if ours and theirs and not ours & theirs:
            return f"other subject: {', '.join(sorted(ours)[:4])} and {', '.join(sorted(theirs)[:4])}"
    return ""


class _Differences:
    """The differences of two statements: values, words and denials; asides count in repetitions only."""

    def __init__(self, first: Statement, second: Statement) -> None:
        self.first, self.second = first, second
        self.shared = first.keys & second.keys
        self.only_first = _words_without(first, second)
        self.only_second = _words_without(second, first)
        self.values: list[tuple[Token, Token]] = []
        self.scopes: list[Token] = []
        self.extra: list[Token] = []
        self.equal_values = 0
        self.inexact = False
        for kind in ("quantity", "date", "version", "clock"):
            self._compare_values(
                [token for token in first.tokens if token.kind == kind],
                [token for token in second.tokens if token.kind == kind],
            )
        self.denials_differ = self._have_other_polarity()

    def _compare_values(self, ours: list[Token], theirs: list[Token]) -> None:
        ours, theirs = list(ours), list(theirs)
        pairs = [(a, b) for a in ours for b in theirs if values_match(a, b)]
        for a, b in sorted(pairs, key=lambda pair: abs(pair[0].index - pair[1].index)):
            if a in ours and b in theirs:
                ours.remove(a)
                theirs.remove(b)
                self.equal_values += 1
                self.inexact = self.inexact or is_inexact(a, b)
        for a, b in self._rivals(ours, theirs):
            ours.remove(a)
            theirs.remove(b)
            if a.is_aside or b.is_aside:
                self.extra += [a, b]
            elif "value" == a.role == b.role:
                self.values.append((a, b))
            else:
                self.scopes += [a, b]
        self.extra += ours + theirs

    @staticmethod
    def _rivals(ours: Sequence[Token], theirs: Sequence[Token]) -> list[tuple[Token, Token]]:
        """Return pairs of values that could stand in each other's place, in order."""
        left = list(theirs)
        out = []
        for a in ours:
            b = next((token for token in left if are_comparable(a, token)), None)
            if b is not None:
                left.remove(b)
                out.append((a, b))
        return out

    def _have_other_polarity(self) -> bool:
        first, second = self.first, self.second
        if not (first.denials or second.denials or first.opposites or second.opposites):
            return False
        return (first.denials + len(first.opposites) - second.denials - len(second.opposites)) % 2 == 1


def _words_without(one: Statement, other: Statement) -> list[Token]:
    """Return the words and names of a statement, outside of asides, that the other one lacks or has fewer times."""
    left = Counter(token.key for token in other.tokens if not token.is_aside)
    inside = {token.key for token in other.tokens if token.is_aside}
    out = []
    for token in one.tokens:
        if token.kind not in ("word", "name") or token.is_aside:
            continue
        match = next((key for key in (token.key, *words.counterparts(token.key)) if left[key]), "")
        left[match] -= 1
        if not match and token.key not in inside:
            out.append(token)
    return out


def _scopes_of_asides(one: Statement, other: Statement) -> bool:
    """Return True if an aside names an environment or thing that the other statement lacks."""
    known = {token.key for token in other.tokens}
    return any(
        token.is_aside and token.key not in known and (token.key in words.SCOPES or token.role == "scope")
        for token in one.tokens
    )


def _find_contradiction(differences: _Differences) -> StatementComparison | None:
    first, second = differences.first, differences.second
    if first.pair and second.pair:
        return _compare_pairs(differences)
    if _scopes_of_asides(first, second) or _scopes_of_asides(second, first):
        return None
    if (
        differences.scopes
        or first.is_deictic
        or second.is_deictic
        or first.condition_denials != second.condition_denials
    ):
        return None
    if differences.values:
        if differences.denials_differ or not _is_one_statement(
            differences, differences.only_first, differences.only_second
        ):
            return None
        if len(differences.shared) + differences.equal_values < _MIN_CONFLICT_KEYS and first.frame != second.frame:
            return None
        if any(are_opposite_ends(a, b) for a, b in differences.values):
            return None
        return _contradiction(differences.values[0][0].kind, [(a.text, b.text) for a, b in differences.values])
    if any(
        token.kind in ("quantity", "date", "version", "clock") and not token.is_aside for token in differences.extra
    ):
        return None
    if differences.denials_differ:
        if len(differences.shared) < _MIN_CONFLICT_KEYS or not _is_one_statement(
            differences, differences.only_first, differences.only_second, is_exact=True
        ):
            return None
        return _contradiction("negation", [_polarity_texts(first, second)])
    return _find_word_contradiction(differences)


def _compare_pairs(differences: _Differences) -> StatementComparison | None:
    """Compare two `key: value` lines: another value of the same key contradicts, below the same heading."""
    first, second = differences.first, differences.second
    assert first.pair is not None
    assert second.pair is not None
    if _key_words(first.pair[0]) != _key_words(second.pair[0]):
        return None
    one, two = first.pair[1], second.pair[1]
    if _value_text(one) == _value_text(two) or split_scope(one)[1] != split_scope(two)[1]:
        return None
    if not differences.values and not differences.scopes:
        ours, theirs = ({token.key for token in tokens} for tokens in (differences.only_first, differences.only_second))
        if not (ours and theirs) and not differences.denials_differ:
            return None  # one value contains the other
        if "," in one and "," in two:
            return None  # lists: both may be parts of one
        is_prose = max(len(ours), len(theirs)) > _MAX_PAIR_WORDS
        if is_prose and not _key_words(first.pair[0]) & words.ATTRIBUTES:
            return None
    return _contradiction("value", [(one, two)])


def _key_words(key: str) -> frozenset[str]:
    return frozenset(token.key for token in parse_statement(key).tokens) or frozenset((key.lower(),))


def _value_text(value: str) -> str:
    return " ".join(value.lower().strip(" .;,\"'`").split())


def _is_one_statement(
    differences: _Differences, ours: Sequence[Token], theirs: Sequence[Token], *, is_exact: bool = False
) -> bool:
    """Return True if the words of both statements differ by no more than one statement's wording.

    A word in the place of another, an additional name, and an additional scope make two statements of it. With
    `is_exact` no verb may stand in the place of another.
    """
    if ours and theirs:
        return not is_exact and _are_verbs(ours, differences.first) and _are_verbs(theirs, differences.second)
    extra = [*ours, *theirs]
    if len(extra) > len(differences.shared) // _WORDS_PER_EXTRA:
        return False
    statement = differences.first if ours else differences.second
    return not any(_limits_scope(token, statement) for token in extra)


def _are_verbs(tokens: Sequence[Token], statement: Statement) -> bool:
    return (
        len(tokens) == 1 and tokens[0].key in words.VERBS and statement.verb > 0 and tokens[0].start >= statement.verb
    )


def _limits_scope(token: Token, statement: Statement) -> bool:
    if token.kind == "name" or token.key in words.SCOPES or token.role in ("subject", "scope"):
        return True
    return token.before in words.SCOPE_PREPOSITIONS


def _find_word_contradiction(differences: _Differences) -> StatementComparison | None:
    """Compare two statements whose numbers and denials agree: a name or word in the place of another may contradict it."""
    ours, theirs = differences.only_first, differences.only_second
    first, second = differences.first, differences.second
    if not ours or not theirs or not (first.has_subject and second.has_subject):
        return None
    if (
        len(ours) == len(theirs) == 1
        and words.are_rivals(ours[0].key, theirs[0].key)
        and len(differences.shared) >= _MIN_CONFLICT_KEYS
    ):
        if ours[0].role == theirs[0].role == "value":
            return _contradiction("word", [(ours[0].text, theirs[0].text)])
        return None
    if not _is_complement(ours, first) or not _is_complement(theirs, second) or len(differences.shared) < 1:
        return None
    has_attribute = _names_attribute(first) and _names_attribute(second)
    if not has_attribute and not (first.is_exclusive and second.is_exclusive):
        return None
    kind = "name" if ours[0].kind == "name" else "word"
    return _contradiction(kind, [(" ".join(t.text for t in ours), " ".join(t.text for t in theirs))])


def _is_complement(tokens: Sequence[Token], statement: Statement) -> bool:
    """Return True if these words are a short run directly behind the main verb."""
    if not statement.verb or len(tokens) > _MAX_COMPLEMENT_WORDS or len(statement.tokens) > _MAX_SHORT_TOKENS:
        return False
    if any(token.start < statement.verb_end or token.role != "value" for token in tokens):
        return False
    if any(token.key in words.SCOPES and token.before in words.SCOPE_PREPOSITIONS for token in tokens[1:]):
        return False
    indexes = [token.index for token in tokens]
    is_run = indexes[-1] - indexes[0] == len(indexes) - 1
    between = [token for token in statement.tokens if statement.verb_end <= token.start < tokens[0].start]
    behind = next((token for token in statement.tokens if token.index > indexes[-1]), None)
    is_modifier = behind is not None and behind.before == tokens[-1].text.lower()
    return is_run and not between and not is_modifier


def _names_attribute(statement: Statement) -> bool:
    """Return True for a subject that is an attribute with one value at a time, before a form of `be`."""
    if not statement.verb_keys & words.COPULAS:
        return False
    return any(token.key in words.ATTRIBUTES for token in statement.tokens if token.start < statement.verb)


def _find_repetition(differences: _Differences, cosine: float | None) -> StatementComparison | None:
    """Return the repetition of two statements with the same values, names and denials, and nearly the same words."""
    if (
        differences.values
        or differences.scopes
        or differences.extra
        or differences.inexact
        or differences.denials_differ
    ):
        return None
    first, second = differences.first, differences.second
    if first.opposites != second.opposites or _denials(first) != _denials(second) or _have_other_order(first, second):
        return None
    ours, theirs = differences.only_first, differences.only_second
    if _have_other_asides(first, second):
        return None
    if any(token.kind == "name" for token in (*ours, *theirs)):
        return None
    shared = len(differences.shared)
    if shared + differences.equal_values < _MIN_REPEATED_KEYS and first.keys != second.keys:
        return None
    if not shared:
        return None
    is_near = cosine is not None and cosine >= MIN_NEAR_COSINE
    if not _is_one_statement(differences, ours, theirs, is_exact=True) and not (is_near and _is_rewording(differences)):
        return None
    return StatementComparison(Relation.REPEATED, "the same values and names in nearly the same words")


def _denials(statement: Statement) -> tuple[int, int]:
    return statement.denials, statement.condition_denials


def _have_other_asides(first: Statement, second: Statement) -> bool:
    """Return True if both statements have other asides, or one of them names something that the other lacks."""
    ours, theirs = (
        [token for token in item.tokens if token.is_aside and token.kind != "light"] for item in (first, second)
    )
    extra = [token for token in ours if token.key not in second.all_keys]
    extra += [token for token in theirs if token.key not in first.all_keys]
    if ours and theirs and first.aside_denials != second.aside_denials:
        return True
    return bool(extra) and (bool(ours and theirs) or any(token.kind != "word" for token in extra))


def _have_other_order(first: Statement, second: Statement) -> bool:
    """Return True if a direction leads to other words: `from a to b` and `from b to a`."""
    both = first.keys & second.keys
    theirs = {pair for pair in second.directions if pair[1] in both}
    ours = {pair for pair in first.directions if pair[1] in both}
    shared = {preposition for preposition, _ in ours} & {preposition for preposition, _ in theirs}
    return any(not {pair for pair in ours & theirs if pair[0] == preposition} for preposition in shared)


def _is_rewording(differences: _Differences) -> bool:
    """Return True if the differing words are few and do not stand in each other's place within the same words."""
    ours, theirs = differences.only_first, differences.only_second
    shared = len(differences.shared)
    if 2 * max(len(ours), len(theirs)) > shared + differences.equal_values:
        return False
    around = {_neighbours(token, differences.first) for token in ours}
    return not any(_neighbours(token, differences.second) in around for token in theirs)


def _neighbours(token: Token, statement: Statement) -> tuple[str, str]:
    tokens = statement.tokens
    position = next(index for index, item in enumerate(tokens) if item is token)
    before = tokens[position - 1].key if position else ""
    after = tokens[position + 1].key if position + 1 < len(tokens) else ""
    return before, after


def _contradiction(kind: str, pairs: Sequence[tuple[str, str]]) -> StatementComparison:
    shown = tuple((_shorten(one), _shorten(two)) for one, two in pairs)
    reason = ", ".join(f"'{one}' and '{two}'" for one, two in shown)
    return StatementComparison(Relation.CONTRADICTS, f"other {kind}: {reason}", shown)


def _shorten(text: str) -> str:
    text = printable(" ".join(text.split()))
    return text if len(text) <= _VALUE_CHARS else text[: _VALUE_CHARS - 1] + "…"


def _polarity_texts(first: Statement, second: Statement) -> tuple[str, str]:
    return (
        ("denied", "affirmed")
        if first.denials + len(first.opposites) > second.denials + len(second.opposites)
        else ("affirmed", "denied")
    )
