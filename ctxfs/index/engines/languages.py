"""The language of a text: by its script, or by its function words. Pure.

A script other than Latin names its stemmer. Latin text is English unless the function words of another language
prevail. Text in two languages gets the stems of both.
"""

import re
from collections import Counter
from collections.abc import Sequence

from ctxfs.index.normal_form import fold

ENGLISH = "english"
_SCRIPTS = (("russian", "Ѐ-ԯ"), ("greek", "Ͱ-Ͽἀ-῿"), ("arabic", "؀-ۿݐ-ݿ"), ("tamil", "\u0b80-\u0bff"))
_SCRIPT_PATTERNS = tuple((language, re.compile(f"[{letters}]")) for language, letters in _SCRIPTS)
# Common words that are rare in other languages.
_FUNCTION_WORDS = {
    ENGLISH: "the of and to is that for with are this be by from or it on as not you which an if how when can at has",
    "german": "der die das und ist nicht ein eine einer eines einem einen den dem des mit auf für von zu zum zur wird "
    "werden oder als auch bei sich im wenn wie aus durch nach kann sind über es dass diese dieser dieses",
    "french": "le la les des du et est une un dans pour par sur que qui ne pas sont au aux ou ce cette ces avec il elle "
    "se son sa ses être peut si comme plus vous nous leur",
    "spanish": "el la los las de del y en es un una que por para con no se su sus como más al lo este esta o son si cuando",
    "italian": "il lo la gli le di del della dei delle e è un una che per con non si sono da nel nella al alla come più "
    "questo questa o",
    "portuguese": "o os as do da dos das e é um uma que para com não se por no na em são como mais ao à seu sua este esta",
    "dutch": "de het een en van is dat niet op te voor met zijn er aan ook als bij door naar wordt worden of deze dit om",
    "swedish": "och det att som en på är av för med den till inte om ett han var så eller kan från vid ska",
    "danish": "og det at som en på er af for med den til ikke om et var så eller kan fra ved skal der de",
    "norwegian": "og det at som en på er av for med den til ikke om et var så eller kan fra ved skal",
    "finnish": "ja on ei se että oli mutta kun niin myös tai jos ovat voi kuin sen joka mitä tämä",
    "hungarian": "a az és hogy nem egy is van ez de ha vagy meg csak mint már még azt",
    "romanian": "și în de la cu pe este nu un o să că care pentru din mai sau ce sunt",
    "turkish": "ve bir bu da de için ile olarak daha çok gibi ne değil olan mi veya kadar",
}  # fmt: skip
_RUSSIAN_WORDS = "и в во не что на я с со как а то по но из у к о об от для за при или это до же бы ли если его её их"
_WORDS = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}
_OTHER_WORDS = (
    frozenset().union(*(words for language, words in _WORDS.items() if language != ENGLISH)) - _WORDS[ENGLISH]
)
_ALL_FUNCTION_WORDS = {**_WORDS, "russian": frozenset(_RUSSIAN_WORDS.split())}
_SAMPLE_CHARS = 1000
_MIN_FUNCTION_WORDS = 4  # distinct ones, in a text that is no question
_RIVAL_SHARE = 0.9


def script_language(word: str) -> str:
    """Return the language whose stemmer the script of a word names; empty for Latin and other scripts."""
    return next((language for language, pattern in _SCRIPT_PATTERNS if pattern.match(word)), "")


def detect_languages(text: str, minimum: int = _MIN_FUNCTION_WORDS) -> tuple[str, ...]:
    """Return the languages in Latin script, other than English, that a text is likely to be in.

    A language needs `minimum` distinct function words.
    """
    sample = text[:_SAMPLE_CHARS].lower().split()
    if len(_OTHER_WORDS.intersection(sample)) < minimum:  # nearly every English text ends here
        return ()
    words = set(sample)
    counts = Counter({language: len(words & own) for language, own in _WORDS.items()})
    most = max(counts.values())
    if counts[ENGLISH] == most and minimum > 1:
        return ()
    threshold = max(minimum, most * _RIVAL_SHARE)
    return tuple(language for language, count in counts.items() if count >= threshold and language != ENGLISH)


def remove_function_words(words: Sequence[str], languages: Sequence[str]) -> Sequence[str]:
    """Return `words` without the function words of these languages, or all of them if there are no others."""
    own = [_ALL_FUNCTION_WORDS[language] for language in languages if language in _ALL_FUNCTION_WORDS]
    return [word for word in words if not any(fold(word) in vocabulary for vocabulary in own)] or words
