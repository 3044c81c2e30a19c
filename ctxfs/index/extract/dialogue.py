"""Dialogue in plain text and Markdown: its speakers, and the lines at which their turns begin. Pure.

A dialogue has few speakers, each with two turns or more, who take turns; a turn may have any number of lines.
Fields of records (`Name: …`, `Type: …`), glossaries and logs of programs have the same form, and are excluded by their
labels, their order and their text. Each line is matched a bounded number of times, by patterns of bounded length.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Style = Literal["timed", "heading", "bold", "plain"]

# The speakers are found in this many leading characters; their turns in the whole text.
HEAD_CHARACTERS = 32_000
_MIN_TURNS = 4
_MIN_SPEAKER_TURNS = 2
_MIN_SPEAKER_SHARE = 0.8  # share of the labels that belong to speakers with two turns or more
_MIN_CHANGES = 0.3  # share of the turns that follow a turn of another speaker
_MIN_DENSE_SHARE = 0.6  # share of the lines that begin a turn, if their text need not be conversation
_MIN_CONVERSATION_SHARE = 0.25  # share of the turns with a question, or with a first or second person
_MIN_DENSE_CONVERSATION_SHARE = 0.2
_MIN_SENTENCES = 0.75
_MIN_SENTENCE_WORDS = 3
_MAX_TURN_CHARACTERS = 2000  # of a turn, for its features

_NAME = r"[^\W\d_][\w .'’-]{0,30}?"
_TIME = r"\d{1,2}[:.]\d\d(?:[:.]\d\d)?(?:\.\d{1,6})?Z?(?:[ \u00a0\u202f]?[AaPp]\.?[Mm]\.?)?"
_DATE = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
_STAMP = rf"\[[^\]\n\d]{{0,20}}\d[^\]\n]{{0,30}}\]|\(?(?:{_DATE},?[T ] ?)?{_TIME}\)?"
_ASIDE = r"(?: ?\([^)\n]{1,40}\))?"
_PATTERNS: dict[Style, re.Pattern[str]] = {
    "timed": re.compile(
        rf"[ \u200e\u200f]{{0,3}}(?:{_STAMP}) ?[-–—|]? {{0,2}}"
        rf"(?:<[@+%&~ ]?([^<>\s]{{1,32}})>|\*{{0,2}}({_NAME}){_ASIDE}\*{{0,2}}[:：]\*{{0,2}})(?:\s+|$)"
    ),
    "heading": re.compile(
        rf"#{{1,6}}\s+(?:[^\w\s#]{{1,4}}\s?)?({_NAME})(?:{_ASIDE}|\s?[-–—|,@]\s?[\d].{{0,40}})\s?:?\s*#*$"
    ),
    "bold": re.compile(
        rf" {{0,3}}(?:\[[^\]\n]{{1,40}}\] ?)?(?:\*\*|__)({_NAME}){_ASIDE}(?:[:：](?:\*\*|__)|(?:\*\*|__){_ASIDE} ?[:：])(?:\s+|$)"
    ),
    "plain": re.compile(rf" {{0,3}}(?:\[[^\]\n]{{1,40}}\] ?)?({_NAME}){_ASIDE} ?[:：](?:\s+|$)"),
}  # fmt: skip
_FENCE = re.compile(r" {0,3}(?:`{3,}|~{3,})")
_SAID = re.compile(r" (?:said|says|asked|wrote|replied)$", re.IGNORECASE)
_ASKERS = frozenset("user human me you prompt customer".split())
_REPLIERS = frozenset(
    "assistant ai bot chatgpt gpt claude gemini copilot llama model agent llm grok mistral deepseek qwen bard".split()
)
_OTHER_ROLES = frozenset("system tool function developer".split())
# Words that begin a field, a remark, an entry of a log or a part of a document, but are no names.
_FIELDS = frozenset(
    "a abstract acknowledgements action actual added address advantages after alias aliases also answer answers api "
    "args argument arguments author authors available background bcc before benefits bug bugs build built caption "
    "category cause caution cc changed changelog chapter class code codename color colour command commands comment "
    "comments component conclusion config configuration conflicts cons contact content contents context copyright "
    "cost credits critical data date dates debug default defaults definition depends deprecated description "
    "destination details directions directory disadvantages distribution docs download duration email emerg env "
    "environment error errors essential example examples exception expected explanation fatal fax features field "
    "figure file filename files fix fixed fixme flags format formula fri friday from function goal goals group hint "
    "hints homepage host hours id image implementation import important in index info ingredients input inputs "
    "install installation installed instructions interface issue issues item items key keys keyword keywords kind "
    "label language level licence license limitations line link links list listing location log maintainer "
    "mandatory max meaning memory message method methods mime min mode module mon monday month motivation name "
    "names new no notation note notes notice number object old on op operation option optional options or order "
    "origin other out output outputs overview package page panic parameter parameters params part path pattern "
    "phone place platform port postcondition precondition prerequisites price priority problem procedure pros "
    "provides purpose q question questions range rationale reason recommends reference references related release "
    "removed replaces reply-to report required requirement requirements requires result results return returns rev "
    "revision risk rule rules runtime sat saturday scope script section security see sent server serves service "
    "severity since size solution source sources spec standards start state statement status step steps string "
    "subject suggests summary sun sunday symptom synonym synonyms syntax tag tags target task tel test testing "
    "tests thu thursday time timestamp tip tips title to todo token topic total trace traceback tue tuesday type "
    "types unit units update upgrade upstream url urls usage use uses val value values vendor verb verbose version "
    "versions via warn warning warnings wed wednesday what when where which who why word workaround year yes yield".split()
)
_FIELD_ENDINGS = ("error", "exception", "warning")
_CONVERSATION = re.compile(
    r"[?？؟]|\b(?:I|I'm|I’m|my|me|you|your|we|our|us|ich|du|wir|ihr|mir|dir|je|tu|vous|nous|moi|yo|tú|usted|nosotros|"
    r"io|noi|voi|eu|você|ik|jij|wij|я|ты|вы|мы|мне|тебе)\b|[我你您私僕]"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """The beginning of a turn: its line (from 0), its speaker, and the marker with the speaker's name and the time."""

    line: int
    speaker: str
    marker: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The form in which a text marks the turns of its speakers."""

    style: Style
    speakers: frozenset[str]

    def find_turns(self, lines: Sequence[str]) -> list[Turn]:
        """Return the turns of the speakers, and of later speakers with two turns or more."""
        turns = list(_find_markers(lines, self.style))
        counts = Counter(turn.speaker for turn in turns)
        joined = {
            name
            for name, count in counts.items()
            if count >= _MIN_SPEAKER_TURNS and self.style != "heading" and not _is_field(name)
        }
        speakers = self.speakers | joined
        return [
            turn
            for turn in turns
            if turn.speaker in speakers or (self.style == "timed" and not _is_field(turn.speaker))
        ]


def detect_dialogue(text: str, *, is_markdown: bool = False) -> Dialogue | None:
    """Return the form of the dialogue that a text contains; None if it is no dialogue.

    In Markdown, lines alone do not make a dialogue: their text must be conversation.
    """
    lines = text[:HEAD_CHARACTERS].split("\n")
    styles: tuple[Style, ...] = ("timed", "heading", "bold", "plain") if is_markdown else ("timed", "bold", "plain")
    found = [
        (len(turns), Dialogue(style, frozenset(turn.speaker for turn in turns)))
        for style in styles
        if (turns := _find_speakers(lines, style, is_markdown))
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def strip_marker(text: str, speaker: str) -> str:
    """Return the text of a turn without the marker of its speaker; another text is unchanged."""
    first, separator, rest = text.partition("\n")
    for pattern in _PATTERNS.values():
        if (match := pattern.match(first)) and _speaker_of(match) == speaker:
            return first[match.end() :] + separator + rest if first[match.end() :] else rest
    return text


def _find_markers(lines: Sequence[str], style: Style) -> Iterator[Turn]:
    """Yield every line with the marker of a turn, without those in fenced code."""
    pattern = _PATTERNS[style]
    is_fenced = sum(1 for line in lines if _FENCE.match(line)) % 2 == 0
    is_code = False
    for number, line in enumerate(lines):
        if is_fenced and _FENCE.match(line):
            is_code = not is_code
        elif not is_code and (match := pattern.match(line)) and _can_name(style, match):
            yield Turn(number, _speaker_of(match), match[0])


def _can_name(style: Style, match: re.Match[str]) -> bool:
    """Return True if the label may be a name: it is capitalised, except after a time."""
    name = next(filter(None, match.groups()))
    return style == "timed" or not name[0].islower()


def _speaker_of(match: re.Match[str]) -> str:
    """Return the name of the speaker; a role such as `User` in lower case, as records have it."""
    name = _SAID.sub("", next(filter(None, match.groups())).strip())
    return name.lower() if name.lower() in _ASKERS | _REPLIERS | _OTHER_ROLES else name


def _is_field(name: str) -> bool:
    return name.lower().endswith(_FIELD_ENDINGS) or name.lower() in _FIELDS or name.split()[0].lower() in _FIELDS


def _is_sentence(text: str) -> bool:
    words = [word for word in text.split() if word[0].isalpha()]
    return len(words) >= _MIN_SENTENCE_WORDS and sum(not word[0].isupper() for word in words) >= len(words) / 2


def _first_word(name: str) -> str:
    return re.split(r"[\s.-]", name.lower(), maxsplit=1)[0]


def _has_role(name: str) -> bool:
    return _first_word(name) in _ASKERS | _REPLIERS


def _has_roles(names: Iterable[str]) -> bool:
    """Return True if the names are those of a person and of a program that answers."""
    words = set(map(_first_word, names))
    return bool(words & _ASKERS and words & _REPLIERS)


def _is_person(turn: Turn) -> bool:
    """Return True if a marker with a time has the form of a person's name, not that of a program or a level."""
    return "<" in turn.marker or not (turn.speaker.isupper() or turn.speaker[0].islower())


def _find_speakers(lines: Sequence[str], style: Style, is_markdown: bool) -> list[Turn]:
    """Return the turns of the speakers if the lines are a dialogue in this style; else none."""
    markers = list(_find_markers(lines, style))
    if style == "heading":  # the answers have headings of their own
        markers = [turn for turn in markers if _has_role(turn.speaker)]
    counts = Counter(turn.speaker for turn in markers)
    turns = [turn for turn in markers if counts[turn.speaker] >= _MIN_SPEAKER_TURNS and not _is_field(turn.speaker)]
    speakers = {turn.speaker for turn in turns}
    if (
        len(turns) < _MIN_TURNS
        or not 2 <= len(speakers) <= max(2, len(turns) // 2)
        or len(turns) < _MIN_SPEAKER_SHARE * len(markers)
        or not _take_turns([turn.speaker for turn in turns])
    ):
        return []
    has_roles = _has_roles(speakers)
    if style == "heading":
        return turns if has_roles else []
    return turns if has_roles or _is_conversation(lines, turns, style, is_markdown) else []


def _take_turns(names: Sequence[str]) -> bool:
    """Return True if speakers alternate, but not in the fixed order of the fields of a record."""
    pairs = list(pairwise(names))
    changes = sum(first != second for first, second in pairs)
    is_cycle = len(set(names)) > 2 and len(set(pairs)) == len({first for first, _ in pairs})
    return changes >= max(2, _MIN_CHANGES * len(pairs)) and not is_cycle


def _is_conversation(lines: Sequence[str], turns: Sequence[Turn], style: Style, is_markdown: bool) -> bool:
    """Return True if the text of the turns is conversation, or if nearly every line is a sentence of a turn."""
    edges = [*(turn.line for turn in turns), len(lines)]
    texts = [
        "\n".join(lines[start:end])[len(turn.marker) : _MAX_TURN_CHARACTERS]
        for turn, (start, end) in zip(turns, pairwise(edges), strict=True)
    ]
    addressed = sum(_CONVERSATION.search(text) is not None for text in texts)
    if addressed >= max(2, _MIN_CONVERSATION_SHARE * len(texts)):
        return True
    if style == "timed":
        return all(map(_is_person, turns))
    if is_markdown:
        return False
    sentences = sum(map(_is_sentence, texts))
    filled = sum(1 for line in lines if line.strip())
    is_dense = len(turns) >= _MIN_DENSE_SHARE * filled
    return is_dense and (
        addressed >= _MIN_DENSE_CONVERSATION_SHARE * len(texts) or sentences >= _MIN_SENTENCES * len(texts)
    )
