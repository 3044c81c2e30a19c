"""The terms that the words of a question are looked for as, and their weights. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from ctxfs.index.engines.analyzers import analyse_split
from ctxfs.index.engines.languages import detect_languages, remove_function_words, script_language
from ctxfs.index.engines.word_split import content_words, split_question_word
from ctxfs.index.normal_form import normalise
from ctxfs.index.query import Query

# The terms of one word of a question, of which the best counts.
Alternatives = tuple[str, ...]
Aliases = tuple[tuple[str, tuple[str, ...]], ...]
# Query term frequency in BM25 (Robertson and others 1995).
# Saturation: a term that occurs twice weighs 1.8, three times 2.5, ten times 5.
_K3 = 8.0
# A correction may be another word than the one that was meant.
CORRECTION_WEIGHT = 0.7
_CACHED_QUESTIONS = 64
_CACHED_WORDS = 4096
_MAX_CACHED_WORD_CHARS = 40


def saturate_count(count: int) -> float:
    """Return the weight of a term that occurs `count` times in a question: 1 for once, below 9 for any number."""
    return (_K3 + 1) * count / (_K3 + count)


def count_question_terms(words: Sequence[str], aliases: Aliases = ()) -> Mapping[Alternatives, int]:
    """Count the terms of the words of a question, without function words, each with its other forms.

    The other forms are the accented word, its stem in the language of the question, and its aliases.
    """
    return _count_terms(tuple(words), aliases)


# Cached, because each engine and the verdict count the terms of the same question.
@lru_cache(maxsize=_CACHED_QUESTIONS)
def _count_terms(words: tuple[str, ...], aliases: Aliases) -> Mapping[Alternatives, int]:
    languages = detect_languages(normalise(" ".join(words)), minimum=1)
    scripts = {script_language(word[:1]) for word in words} - {""}
    others = dict(aliases)
    content = remove_function_words(content_words(words), (*languages, *scripts))
    groups = (
        tuple(dict.fromkeys((*group, *_analyse_forms(others[word])))) if word in others else group
        for word in content
        for group in (_word_terms if len(word) <= _MAX_CACHED_WORD_CHARS else _word_terms.__wrapped__)(word, languages)
    )
    return Counter(group for group in groups if group)


@lru_cache(maxsize=_CACHED_WORDS)
def _word_terms(word: str, languages: tuple[str, ...]) -> tuple[Alternatives, ...]:
    """Return the terms of each part of a word of a question, in the languages of the question."""
    return tuple(_analyse_forms(forms) for forms in split_question_word(word, languages))


def _analyse_forms(forms: Iterable[str]) -> Alternatives:
    return tuple(dict.fromkeys(term for form in forms for term in analyse_split(form)))


def question_terms(words: Sequence[str], aliases: Aliases = ()) -> list[Alternatives]:
    """Return the distinct terms of the words of a question, without function words, each with its other forms."""
    return list(count_question_terms(words, aliases))


def weigh_question_terms(query: Query) -> dict[Alternatives, float]:
    """Return the weights of the terms of a query's words: more for repeated ones, less for corrections of typos."""
    weights = {
        terms: saturate_count(count) for terms, count in count_question_terms(query.words, query.aliases).items()
    }
    for terms in corrected_terms(query):
        if terms in weights:
            weights[terms] *= CORRECTION_WEIGHT
    return weights


def corrected_terms(query: Query) -> list[Alternatives]:
    """Return the terms of the words that took the place of likely typos."""
    return question_terms([word for _, word in query.corrections]) if query.corrections else []
