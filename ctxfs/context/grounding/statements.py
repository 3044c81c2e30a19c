"""Statements: a sentence or a `key: value` line as words and values with their roles, ready for comparison. Pure.

A value has a role by its position: it is the value of an attribute, or it belongs to the subject ("Port 80 is open"), or it
limits the scope ("on Linux", "In 2022, …"). English rules; without an English verb, the order of words decides.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ctxfs.context.grounding import statement_words as words
from ctxfs.context.grounding.attribute_claims import AttributeClaim, parse_claim, parse_pair_claim
from ctxfs.context.grounding.statement_scan import Role, Scan, Token, Word, scan_values, scan_words

MAX_STATEMENT_CHARS = 600
_MAX_PAIR_VALUE_WORDS = 5


_MARKS = re.compile(
    r"^(?:\s{0,8}(?:[-*+•>|#]+|\d{1,3}[.)]|\[[ xX]\])\s+)+|(?<!\w)[*_`\"“”]{1,3}(?=\S)|(?<=\S)[*_`\"“”]{1,3}(?!\w)|\|"
    r"|\[\d{1,4}(?::\d{1,9}(?:-\d{1,9})?)?\]"
)
_PAIR = re.compile(r"([^:=\n]{1,60}?)\s*(?::|=)\s+(\S.{0,200})")
_LEAD_IN = re.compile(
    r"\A(?:note that|as of (?:today|now),|according to [^:,]{1,60},|for the record,)\s", re.IGNORECASE
)
_CONFIG = re.compile(r"([A-Za-z_][\w.-]{1,59})\s*=\s*(\S.{0,200})")
_SCRIPT_CHANGE = re.compile(r"(?<=[\u3040-\u9fff\uac00-\ud7af])(?=[0-9])|(?<=[0-9])(?=[\u3040-\u9fff\uac00-\ud7af])")
_ASIDE = re.compile(
    r"(?<!\w)\([^()]{0,300}\)"
    r"|^(?:according to|as (?:noted|described|stated|documented|of|a reminder)|per|in (?:general|practice|fact|summary|short)|"
    r"by the way|fyi|for the record|for reference|to be clear)\b[^,:]{0,80}[,:]"
    r"|^(?:because|since|so that|although|even though|given that)\b[^,]{0,200},"
    r"|(?:,|;|\s[—–-])\s+(?:which|because|since|so|as|according|whereas|although|though|and (?:this|that|it))\b[^,;]*"
    r"|\s(?:because|although|even though|so that|according to|as (?:noted|described|stated|documented) (?:in|by))\b[^,;]*",
    re.IGNORECASE,
)
_LEADING = re.compile(
    r"^(?:if|when|for|in|on|at|as|after|before|since|with|by|during|under|until|unless|while|although|once|to|from|given|last|"
    r"next|previously|formerly|originally|initially|earlier|yesterday|tomorrow|historically)\b"
    r"[^,]{0,80},\s",
    re.IGNORECASE,
)
_DEICTIC = re.compile(
    r"^(?:it|this|that|these|those|he|she|they|there|such|the (?:following|latter|former))\b", re.IGNORECASE
)
_CONDITION = re.compile(
    r"^(?:if|when|unless|where|while|once)\b[^,]{0,200},|\b(?:if|when|unless|whenever|while|until|in case|provided that)\b.*",
    re.IGNORECASE,
)
_DOTTED_VERSION = re.compile(r"v?\d+(?:\.\d+)+")
_ARTICLE = re.compile(r"\b(?:the|an?)\b")
_ADDITIVE = re.compile(r"\b(?:too|as well|also|another|additionally|one of|both|either|among|jointly)\b", re.IGNORECASE)
_SINGLE = re.compile(
    r"\b(for|after|of|within|every|is|are|lasts?|takes?) one (?=(?:minute|hour|day|week|month|quarter|year|decade)\b)",
    re.IGNORECASE,
)
_HALF = re.compile(
    r"\bhalf an? (?=(?:minute|hour|day|week|month|year|dozen|million|kilo|mile|litre|liter)\b)", re.IGNORECASE
)
_TENSES = frozenset("is are was were has have had".split())
_OTHER_PREPOSITIONS = frozenset("of by to from into at as about than through".split())
_LIMITING = words.SCOPE_PREPOSITIONS - {"of"}
_PAST = frozenset(("was", "were", "had"))
_DIRECTIONS = frozenset("from to before after over into onto than".split())
_FRAGMENT = frozenset("whether to only used for with if when as".split())
_STATEMENT_WORD = frozenset("if for while else try with except def class return elif case import from".split())
_COMMAND = re.compile(
    r"(?:fix|add|use|remove|update|make|do|drop|change|move|improve|avoid|allow|support|handle|bump|convert|clean)\w*\b"
)
_MIN_MAIN_TOKENS = 3  # words and values outside of asides: with fewer, the asides belong to the statement
_NEGATION = re.compile(r"n't\b|\bno longer\b|\bno one\b|\bfails? to\b|\bfailed to\b|\binstead of\b|\brather than\b")
_NOT_ONLY = re.compile(r"\bnot (?:only|just|necessarily)\b")


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed statement.

    `normal` is its text without case and punctuation, `frame` its words around the values. `keys` are the content words
    outside of asides ("(…)", ", because …"), `all_keys` those of all tokens, `names` those of the names outside of asides,
    except words that an opposite may stand for. `verb` and `verb_end` are the offsets of the
    main verb, 0 if no verb is known. `pair` holds key and value of a `key: value` line. `scopes` are the environments and
    versions in its context, `heading` the other words of it. `qualifiers` are the words of leading clauses and behind the
    prepositions that limit a statement. `is_additive`: it adds to another one ("too"). `is_past` is None without an auxiliary.
    """

    text: str
    normal: str
    frame: str
    tokens: tuple[Token, ...]
    keys: frozenset[str]
    all_keys: frozenset[str]
    names: frozenset[str]
    denials: int
    condition_denials: int
    aside_denials: int
    opposites: tuple[str, ...]
    verb: int
    verb_end: int
    verb_keys: frozenset[str]
    has_subject: bool
    is_deictic: bool
    is_exclusive: bool
    pair: tuple[str, str] | None
    scopes: frozenset[str]
    heading: frozenset[str]
    directions: frozenset[tuple[str, str]]
    qualifiers: frozenset[str]
    is_additive: bool
    is_past: bool | None
    claim: AttributeClaim | None


def parse_statement(text: str, context: str = "") -> Statement:
    """Parse a statement. `context` is a heading, title or path that it stands below: it may limit its scope.

    Takes linear time; text after MAX_STATEMENT_CHARS is left out.
    """
    plain = _plain_text(text)
    pair = parse_pair(text)
    body = _HALF.sub("0.5 ", _SINGLE.sub(r"\1 1 ", f"{pair[0]} is {pair[1]}" if pair else plain))
    scan = Scan(body, list(body))
    scan_values(scan)
    vocabulary = scan_words(scan)
    leading = _LEADING.match(body)
    lead_end = leading.end() if leading else 0
    verb, verb_end, verb_keys = _find_verb(vocabulary, scan.tokens, lead_end)
    asides = [match.span() for match in _ASIDE.finditer(body)] if pair is None else []
    if sum(token.kind != "light" and not _is_within(token, asides) for token in scan.tokens) < _MIN_MAIN_TOKENS:
        asides = []
    tokens = _assign_roles(scan, vocabulary, (verb, verb_keys, lead_end), asides)
    denials = _split_denials(body, asides)
    keys = frozenset(token.key for token in tokens if _is_word(token) and not token.is_aside)
    all_keys = frozenset(token.key for token in tokens)
    is_made_by = bool(verb_keys & words.MAKING_VERBS) and " by " in body
    return Statement(
        text=text.strip()[:MAX_STATEMENT_CHARS],
        normal=" ".join(re.findall(r"\w+|[<>=≥≤%$€£+-]", plain.lower())),
        frame=" ".join(_ARTICLE.sub(" ", "".join(scan.masked).lower()).replace(".", " ").split()),
        tokens=tokens,
        keys=keys,
        all_keys=keys if keys == all_keys else all_keys,  # one set: many statements are in memory at once
        names=frozenset(t.key for t in tokens if t.kind == "name" and not t.is_aside and not words.counterparts(t.key)),
        denials=denials[0],
        condition_denials=denials[1],
        aside_denials=denials[2],
        opposites=tuple(sorted(t.key for t in tokens if not t.is_aside and words.affirmed_stem(t.key))),
        verb=verb,
        verb_end=verb_end,
        verb_keys=verb_keys,
        has_subject=_has_subject(vocabulary, verb, lead_end),
        is_deictic=bool(_DEICTIC.match(body)),
        is_exclusive=bool(verb_keys & words.EXCLUSIVE_VERBS) or is_made_by,
        pair=pair,
        scopes=frozenset(_find_scopes(context, has_subject=pair is None)),
        heading=_heading_words(context),
        directions=frozenset((token.before, token.key) for token in tokens if token.before in _DIRECTIONS),
        qualifiers=_qualifiers(tokens, 0 if _is_aside(leading, asides) else lead_end),
        is_additive=bool(_ADDITIVE.search(body)),
        is_past=_is_past(vocabulary),
        claim=parse_pair_claim(*pair) if pair else parse_claim(_without(body, [(0, lead_end), *asides])),
    )


def _is_aside(leading: re.Match[str] | None, asides: Sequence[tuple[int, int]]) -> bool:
    return leading is None or any(start == 0 for start, _ in asides)


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in spans:
        text = text[:start] + " " * (min(end, len(text)) - start) + text[end:]
    return " ".join(text.split())


def _qualifiers(tokens: Sequence[Token], lead_end: int) -> frozenset[str]:
    """Return the words and values of a leading clause, and the words behind prepositions that limit the scope."""
    return frozenset(
        token.key
        for token in tokens
        if not token.is_aside
        and (token.start < lead_end or (_is_word(token) and token.preposition in _LIMITING))
        and not (token.start >= lead_end and token.key in words.NUMBERED)
    )


def _is_past(vocabulary: Sequence[Word]) -> bool | None:
    auxiliaries = {word.lower for word in vocabulary} & _TENSES
    return None if not auxiliaries else bool(auxiliaries & _PAST)


def _is_word(token: Token) -> bool:
    return token.kind in ("word", "name")


def _is_within(token: Token, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= token.start < end for start, end in spans)


def _has_subject(vocabulary: Sequence[Word], verb: int, lead_end: int) -> bool:
    """Return True for a clause with a known verb behind other words, which is neither a command nor a fragment."""
    first = next((word.lower for word in vocabulary if word.start >= lead_end), "")
    return verb > 0 and bool(first) and first not in _FRAGMENT and words.word_stem(first) not in words.COMMANDS


def _plain_text(text: str) -> str:
    text = text[:MAX_STATEMENT_CHARS].replace("’", "'").replace("\u00a0", " ")
    return _SCRIPT_CHANGE.sub(" ", " ".join(_MARKS.sub(" ", text.strip()).split()))


def parse_pair(text: str) -> tuple[str, str] | None:
    """Return key and value of a line that sets an attribute; None for prose, also behind the name of a speaker."""
    if text.lstrip().startswith("#"):
        return None
    plain = _LEAD_IN.sub("", _plain_text(text))
    match = _CONFIG.fullmatch(plain) or _PAIR.fullmatch(plain)
    if match is None or "(" in match[1] or ": " in match[2] or "::" in plain:
        return None
    key, value = match[1].strip(), match[2].strip().rstrip(".;,")
    count = len(value.split())
    if key.lower() in words.PLAIN_KEYS or len(key.split()) > 6 or count > _MAX_PAIR_VALUE_WORDS or not value:
        return None
    if _COMMAND.match(value.lower()) or key.split()[0].lower() in _STATEMENT_WORD:
        return None
    if count > 3 and match[2].strip().endswith((".", "!", "?")):
        return None  # a sentence behind a speaker or a heading
    return key, value


def _find_verb(vocabulary: Sequence[Word], tokens: Sequence[Token], first: int) -> tuple[int, int, frozenset[str]]:
    """Return (start of the main verb, end of its last word, stems of all verbs from there on); zeros if no verb is known.

    The search begins at `first`, behind a leading clause.
    """
    names = {token.start for token in tokens if token.kind == "name"}
    start = end = 0
    is_open = True  # the words of the main verb follow each other
    keys: set[str] = set()
    previous = ""
    for word in vocabulary:
        if (
            word.start >= max(first, 1)
            and word.start not in names
            and _is_verb(word.lower, previous, has_verb=bool(start))
        ):
            start = start or word.start
            end = word.start + len(word.text) if is_open else end
            keys.add(word.lower if word.lower in words.AUXILIARIES else words.word_stem(word.lower))
        elif start and word.lower not in ("not", "never", "also", "always", "by", "currently", "now"):
            is_open = False
        previous = word.lower
    return start, end, frozenset(keys)


def _is_verb(word: str, previous: str, *, has_verb: bool) -> bool:
    if word in words.AUXILIARIES or (word in words.PAST_FORMS and previous not in ("a", "an", "the")):
        return True
    key = words.word_stem(word)
    if key not in words.ALL_VERBS:
        return False
    is_inflected = has_verb or word.endswith(("s", "ed", "ought", "ent")) or previous in ("i", "we", "you", "they")
    return is_inflected and previous not in ("a", "an", "the", "of", "for", "and", "my", "its")


def _assign_roles(
    scan: Scan, vocabulary: Sequence[Word], clause: tuple[int, frozenset[str], int], asides: Sequence[tuple[int, int]]
) -> tuple[Token, ...]:
    """Return the tokens in order of the text, without denials, with role, word before, and the marks of asides and labels.

    `clause` is (offset of the main verb, stems of its verbs, end of the leading clause).
    """
    verb, verb_keys, lead_end = clause
    out: list[Token] = []
    position, before, preposition = 0, "", ""
    is_located = bool(verb_keys & words.LOCATING_VERBS)
    is_change = any(token.key in words.CHANGES for token in scan.tokens)
    for index, token in enumerate(sorted(scan.tokens, key=lambda item: item.start)):
        while position < len(vocabulary) and vocabulary[position].start < token.start:
            before = vocabulary[position].lower
            is_open = position and "," not in scan.text[vocabulary[position - 1].start : vocabulary[position].start]
            preposition = _governing(vocabulary[position], preposition if is_open else "", verb)
            position += 1
        is_label = token.kind in ("quantity", "version") and _is_label(token, before, out, scan.text)
        role = _role_of(token, before, verb, lead_end, is_located, is_label)
        is_position = words.word_stem(before) in words.POSITIONS
        if (
            is_label
            and not is_change
            and not is_position
            and out
            and {before, out[-1].before} & words.SCOPE_PREPOSITIONS
        ):
            role = "scope"  # "in version 2"; but a version in which something was fixed is a value
        is_aside = _is_within(token, asides)
        is_place = is_located and token.start > verb and preposition in ("in", "on", "at")
        is_place = is_place and token.key not in words.SCOPES
        governing = "" if is_place else preposition
        out.append(
            replace(
                token,
                index=index,
                before=before,
                preposition=governing,
                role=role,
                is_aside=is_aside,
                is_label=is_label,
            )
        )
    return tuple(token for token in out if token.key not in words.DENIALS)


def _governing(word: Word, preposition: str, verb: int) -> str:
    """Return the preposition that governs the words behind this one."""
    if word.lower in words.SCOPE_PREPOSITIONS or word.lower in _OTHER_PREPOSITIONS:
        return word.lower
    ends = word.start == verb > 0 or word.lower in words.AUXILIARIES or word.lower in ("and", "or", "but")
    return "" if ends else preposition


def _is_label(token: Token, before: str, previous: Sequence[Token], body: str) -> bool:
    """Return True for a number that identifies the thing named before it: `step 3`, `Python 3.11`, `#12`."""
    if token.quantity is not None and token.quantity.dimension:
        return False
    if body[: token.start].endswith("#"):
        return True
    if not previous or body[previous[-1].start + len(previous[-1].text) : token.start].strip():
        return False
    return words.word_stem(before) in words.LABELS or previous[-1].kind == "name"


def _role_of(token: Token, before: str, verb: int, lead_end: int, is_located: bool, is_label: bool) -> Role:
    if token.kind in ("word", "light"):
        return "subject" if verb and token.start < verb else "value"
    if token.start < lead_end:
        return "scope"
    is_before_verb = bool(verb) and token.start < verb
    if token.kind == "quantity" and not is_label:
        return "value"
    if is_before_verb:
        return "subject"
    if is_label and not verb:
        return "scope"
    if token.kind == "name" and before in words.SCOPE_PREPOSITIONS:
        return "value" if is_located and before in ("in", "on", "at") else "scope"
    return "value"


def _count_denials(body: str, left_out: Sequence[tuple[int, int]]) -> int:
    """Return the number of denials in a text outside of these spans."""
    text = body.lower()
    for start, end in left_out:
        text = text[:start] + " " * (min(end, len(text)) - start) + text[end:]
    text = _NOT_ONLY.sub(" ", text)
    count = len(_NEGATION.findall(text))
    text = _NEGATION.sub(" ", text)
    return count + sum(word in words.DENIALS for word in re.findall(r"\w+", text))


def _split_denials(body: str, asides: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    """Return the number of denials in the main clause, in its conditions, and in asides."""
    conditions = [match.span() for match in _CONDITION.finditer(body)]
    main = _count_denials(body, [*asides, *conditions])
    outside = _count_denials(body, asides)
    return main, outside - main, _count_denials(body, ()) - outside


def _heading_words(context: str) -> frozenset[str]:
    """Return the stems of the words of a heading or path that may name a subject."""
    names = re.findall(r"[^\W\d_]{3,}", context.lower()[:200])
    return frozenset(words.word_stem(name) for name in names if name not in words.PLAIN_NAMES)


def _find_scopes(context: str, *, has_subject: bool) -> Iterator[str]:
    """Yield the environments and versions in a heading or path.

    Numbered names (`db1`) are the subject of a statement that has none of its own, unless they number notes (`fact12`).
    """
    for word in re.findall(r"[^\W_]+(?:\.\d+)*", context.lower()[:400]):
        letters = word.rstrip("0123456789.")
        is_numbered = letters != word and len(letters) > 1 and letters not in words.PLAIN_NAMES
        is_numbered = is_numbered and letters.isalpha()
        if word in words.SCOPES or _DOTTED_VERSION.fullmatch(word) or (is_numbered and not has_subject):
            yield word
