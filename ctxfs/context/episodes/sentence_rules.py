"""Rules by which a sentence is a decision, or names open work. Pure.

The rules are phrases of several languages, and prefer precision: a sentence without one of the phrases is no decision,
and a question, a condition or a negation before the phrase excludes it. docs/history.md lists them.
"""

import re
import unicodedata
from collections.abc import Iterator

from ctxfs.context.build.secrets import withhold_secrets
from ctxfs.context.build.sentences import sentences

_MAX_SENTENCE_CHARS = 600
_VERBS = (
    "use|keep|go with|stick|switch|drop|adopt|take|move|store|ship|release|leave|support|replace|rename|remove|add|"
    "rotate|deploy|postpone|skip|start with|stay with|rely on|pin|bump|merge|revert"
)
# A phrase of decision, by language. Each repetition is bounded.
_DECISIONS = re.compile(
    r"^\W{0,6}(?:decision|decided|agreed|resolution|resolved|entscheidung|beschluss|beschlossen|vereinbart|décision|"
    r"décidé|convenu|decisión|decisione|besluit|decisão)\s{0,2}[:：—–]"
    # English
    r"|\b(?:decided|agreed|opted|resolved)\s+(?:to|on|that|against|for|not|upon|we|it)\b"
    r"|\bsettled\s+(?:on|for)\b|\b(?:we|i|they|team|and)\s+(?:have\s+|'ve\s+|’ve\s+)?(?:chose|chosen|picked|went with|committed to)\b"
    rf"|\bwe(?:'ll|’ll|\s+will|\s+shall)\s+(?:not\s+|never\s+|now\s+|always\s+|only\s+)?(?:{_VERBS})\b"
    rf"|\blet(?:'s|’s|\s+us)\s+(?:not\s+)?(?:{_VERBS})\b"
    r"|\b(?:we|i|we're|we’re|i'm|i’m)\s+(?:are\s+|am\s+|will\s+)?(?:go|going)\s+with\b|\bfrom\s+now\s+on\b"
    r"|\bthe\s+(?:decision|agreement|consensus)\s+(?:is|was)\b"
    # German
    r"|\b(?:entschieden|beschlossen|vereinbart|festgelegt|geeinigt)\b"  # with an auxiliary before it
    r"|\b(?:entschied|beschloss|einigten|vereinbarten)\s+(?:uns|sich|wir|sie)\b"
    r"|\bwir\s+(?:nehmen|verwenden|nutzen|bleiben\s+bei|behalten|wechseln|setzen\s+auf|streichen|verzichten\s+auf)\b"
    r"|\bab\s+(?:jetzt|sofort|heute)\b"
    # French
    r"|\b(?:avons|a|ai|ont|est|été)\s+(?:donc\s+|finalement\s+)?(?:décidé|convenu|choisi|retenu|opté|tranché)\b"
    r"|\b(?:nous|on)\s+(?:garde|gardons|utilise|utilisera|utiliserons|utilisons|part\s+sur|partons\s+sur|prend|prenons|"
    r"passe\s+à|passons\s+à|abandonne|abandonnons|retient|retenons)\b|\b(?:désormais|dorénavant)\b"
    # Spanish, Italian, Dutch, Portuguese
    r"|\b(?:hemos\s+decidido|decidimos|acordamos|abbiamo\s+deciso|si\s+è\s+deciso|besloten\s+om|hebben\s+besloten|"
    r"afgesproken\s+dat|ficou\s+decidido)\b",
    re.IGNORECASE,
)
# Before the phrase: it is a condition, a wish or no decision yet.
_HEDGES = re.compile(
    r"\b(?:if|whether|unless|until|before|once|when|should|could|would|might|may|perhaps|maybe|suppose|not|never|nobody|"
    r"haven['’]?t|hasn['’]?t|hadn['’]?t|didn['’]?t|don['’]?t|can['’]?t|cannot|yet|tbd|example|says?|"
    r"wenn|falls|sobald|bevor|ob|vielleicht|eventuell|könnten?|sollten?|sollen|würden?|nicht|noch|kein|keine|nie|"
    r"si|peut-être|faut-il|devrions|pourrait|pourrions|avant|quand|pas|jamais|ne|n['’]avons)\b",
    re.IGNORECASE,
)
# Each phrase of decision contains one of these; most texts contain none, and a search for them takes microseconds.
_STEMS = (
    "decid", "decis", "agree", "opted", "resol", "settled", "chose", "picked", "went with", "committed", "we'll", "we’ll",
    "we will", "we shall", "let's", "let’s", "let us", "go with", "going with", "from now", "the consensus", "entsch",
    "beschl", "vereinb", "festgelegt", "einigt", "wir nehmen", "wir verwenden", "wir nutzen", "wir bleiben", "wir behalten",
    "wir wechseln", "wir setzen", "wir streichen", "wir verzichten", "ab jetzt", "ab sofort", "ab heute", "décid", "décis",
    "conven", "choisi", "retenu", "opté", "tranché", "nous ", "on garde", "on utilis", "on part", "on prend", "on passe",
    "on abandonne", "on retient", "désormais", "dorénavant", "acordamos", "deciso", "beslu", "beslo", "afgesproken",
)  # fmt: skip
_PARTICIPLES = frozenset("entschieden beschlossen vereinbart festgelegt geeinigt".split())
_AUXILIARIES = re.compile(r"\b(?:haben|hat|habe|wurde|wurden|ist|sind)\b", re.IGNORECASE)
_OPEN = re.compile(
    r"\b(?:TODO|FIXME|TBD)\b"
    r"|(?i:\bstill\s+(?:to\s+do|to\s+be|needs?\s+to|have\s+to|has\s+to|missing|open|pending|fails?|failing|unclear)\b"
    r"|\b(?:remains?\s+(?:to|open|unclear)|left\s+to\s+do|next\s+steps?\b\s{0,2}[:：]|not\s+yet\s+\w{3,}|unresolved|"
    r"open\s+(?:question|point|issue)s?|to\s+follow\s+up|blocked\s+(?:on|by)|waiting\s+for|for\s+later)\b"
    r"|\bnext\s+steps?\s{0,2}[:：]"
    r"|\b(?:noch\s+(?:offen|zu\s+(?:tun|klären|erledigen|prüfen)|nicht\s+\w{3,})|offene[rn]?\s+(?:frage|punkt)\w{0,3}|"
    r"steht\s+noch\s+aus|nächster?\s+schritt\w{0,2}|(?:muss|müssen)\s+noch|fehlt\s+noch|zu\s+erledigen)\b"
    r"|\b(?:à\s+faire|restent?\s+à|il\s+reste|pas\s+encore|prochaines?\s+étapes?|en\s+attente|à\s+vérifier|"
    r"question\s+ouverte)\b)"
)
_QUESTION = re.compile(r"[?？؟]")


def is_question(sentence: str) -> bool:
    """Return True for a sentence with a question mark."""
    return bool(_QUESTION.search(sentence[:_MAX_SENTENCE_CHARS]))


def decisions_in(text: str) -> Iterator[str]:
    """Yield the sentences of a text that are decisions, without secrets. Fast for a text without any."""
    folded = " ".join(text.casefold().split())
    stems = [stem for stem in _STEMS if stem in folded]
    for sentence in sentences(withhold_secrets(text)[0]) if stems else ():
        lower_case = sentence.text.casefold()
        if any(stem in lower_case for stem in stems) and is_decision(sentence.text):
            yield sentence.text


def is_decision(sentence: str) -> bool:
    """Return True for a sentence with a phrase of decision, unless it is a question, a condition or negated before it."""
    text = unicodedata.normalize("NFC", sentence[:_MAX_SENTENCE_CHARS])
    if is_question(text):
        return False
    match = _DECISIONS.search(text)
    if match is None or _HEDGES.search(text, 0, match.start()) is not None:
        return False
    return match[0].casefold() not in _PARTICIPLES or _AUXILIARIES.search(text, 0, match.start()) is not None


def is_open(sentence: str) -> bool:
    """Return True for a sentence that names work to do, an open point or something that is awaited."""
    text = unicodedata.normalize("NFC", sentence[:_MAX_SENTENCE_CHARS])
    return not is_question(text) and _OPEN.search(text) is not None
