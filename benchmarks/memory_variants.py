"""Facts from real documents, and variants of them with a known relation: duplicates, contradictions, look-alikes.

Facts are sentences of the documents, chosen by a seed; near duplicates among them are left out, so that the relations of
all pairs are known. Variants are made by written transformations, which are listed here.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctxfs.context.build.sentences import sentences

_WORD = re.compile(r"[a-z]{3,}")
_VERB = re.compile(
    r"\b(?:is|are|was|has|have|can|must|will|does|returns?|uses?|contains?|needs?|takes?|sets?|reads?|writes?)\b"
)
_NUMBER = re.compile(r"(?<![\w.,-])(\d{1,5})(?![\w.,-]|\s*-)")
_BAD = re.compile(
    r"[`{}<>|\\_*=\[\]@#]|::|https?:|\.\.\.|^\W|\b(?:this|that|these|those|it|they|he|she)\b", re.IGNORECASE
)
_MIN_WORDS, _MAX_WORDS = 7, 28
_MAX_SHARED = 0.5

_PREFIXES = ("Note that ", "Remember that ", "Please note: ", "As a reminder: ", "FYI: ")
_CONTRACTIONS = ((" cannot ", " can't "), (" is not ", " isn't "), (" does not ", " doesn't "), (" do not ", " don't "))
_SYNONYMS = (
    (" directory ", " folder "), (" begins ", " starts "), (" delete ", " remove "), (" deleted ", " removed "),
    (" large ", " big "), (" permits ", " allows "), (" however ", " though "), (" must ", " has to "), (" creates ", " makes "),
    (" error ", " failure "), (" function ", " procedure "), (" argument ", " parameter "),
)  # fmt: skip
_OPPOSITES = (
    ("enabled", "disabled"), ("before", "after"), ("always", "never"), ("true", "false"), ("first", "last"),
    ("minimum", "maximum"), ("required", "optional"), ("allowed", "forbidden"), ("increases", "decreases"),
)  # fmt: skip
_DENIALS = (
    (" is ", " is not "),
    (" are ", " are not "),
    (" can ", " cannot "),
    (" must ", " must not "),
    (" will ", " will not "),
)
_SCOPES = (" on Windows", " in staging", " for guests", " in version 9", " on db2", " during the migration")
_SUBJECTS = ("In the tests, ", "On Solaris, ", "For administrators, ", "In 2019, ", "Under load, ")


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact: its name, its text, and the number and relation of the fact that it is a variant of (-1, base)."""

    name: str
    text: str
    origin: int = -1
    relation: str = "base"


def read_sentences(folders: Sequence[Path]) -> Iterator[str]:
    """Yield the declarative sentences of Markdown, text and Python files below folders."""
    for folder in folders:
        for file in sorted(path for pattern in ("*.md", "*.txt", "*.rst", "*.py") for path in folder.rglob(pattern)):
            text = file.read_text(encoding="utf-8", errors="replace")[:400_000]
            if file.suffix == ".py":
                text = "\n\n".join(re.findall(r'"""(.{40,4000}?)"""', text, re.DOTALL))
            for sentence in sentences(re.sub(r"\n[ \t]+", "\n", text)):
                words = sentence.text.split()
                is_prose = (
                    sentence.text.endswith(".") and sentence.text[:1].isupper() and not _BAD.search(sentence.text)
                )
                if is_prose and _MIN_WORDS <= len(words) <= _MAX_WORDS and _VERB.search(sentence.text):
                    yield sentence.text


def choose_facts(folders: Sequence[Path], count: int, chance: random.Random) -> list[str]:
    """Return `count` sentences of which no two share half of their words."""
    candidates = sorted(set(read_sentences(folders)))
    chance.shuffle(candidates)
    chosen: list[str] = []
    postings: dict[str, list[int]] = {}
    keys: list[set[str]] = []
    for text in candidates:
        words = set(_WORD.findall(text.lower()))
        near = {number for word in words for number in postings.get(word, ())}
        if len(words) < 4 or any(
            len(words & keys[number]) > _MAX_SHARED * min(len(words), len(keys[number])) for number in near
        ):
            continue
        for word in words:
            postings.setdefault(word, []).append(len(chosen))
        keys.append(words)
        chosen.append(text)
        if len(chosen) == count:
            break
    return chosen


def duplicate(text: str, chance: random.Random) -> str | None:
    """Return the same statement: the same text, or a phrase in front, contractions, synonyms, other clauses' order."""
    forms: list[Callable[[str], str | None]] = [
        lambda value: value,
        lambda value: f"- {value}",
        lambda value: (
            chance.choice(_PREFIXES) + value[0].lower() + value[1:] if not value.split()[0].isupper() else None
        ),
        lambda value: _replace_one(value, _CONTRACTIONS, chance),
        lambda value: _replace_one(value, _SYNONYMS, chance),
        _reorder,
    ]
    chance.shuffle(forms)
    return next((result for form in forms if (result := form(text)) is not None), None)


def contradiction(text: str, chance: random.Random) -> str | None:
    """Return a statement that cannot hold together with the text: another number, an opposite, or a denial."""
    forms: list[Callable[[str], str | None]] = [
        lambda value: _other_number(value, chance),
        lambda value: _swap_word(value, _OPPOSITES, chance),
        lambda value: _replace_one(value, _DENIALS, chance) if " not " not in value and "n't" not in value else None,
    ]
    chance.shuffle(forms)
    return next((result for form in forms if (result := form(text)) is not None), None)


def look_alike(text: str, chance: random.Random) -> str | None:
    """Return a similar statement about something else: another scope with another value, or another subject."""
    other = contradiction(text, chance)
    if other is None:
        return None
    if chance.random() < 0.5:
        return f"{other.rstrip('.')}{chance.choice(_SCOPES)}."
    return chance.choice(_SUBJECTS) + other[0].lower() + other[1:]


def make_facts(folders: Sequence[Path], counts: tuple[int, int, int, int], seed: int) -> list[Fact]:
    """Return facts and variants: `counts` of facts, duplicates, contradictions and look-alikes, in random order."""
    chance = random.Random(seed)
    total, *variants = counts
    texts = choose_facts(folders, total, chance)
    facts = [Fact(f"{number:05}-base", text) for number, text in enumerate(texts)]
    order = list(range(len(texts)))
    chance.shuffle(order)
    makers = (("duplicate", duplicate), ("contradiction", contradiction), ("look-alike", look_alike))
    for (relation, make), wanted in zip(makers, variants, strict=True):
        made = 0
        while made < wanted and order:
            number = order.pop()
            text = make(texts[number], chance)
            if text is None or (relation != "duplicate" and text == texts[number]):
                order.insert(0, number)
                if chance.random() < 0.002:
                    break
                continue
            facts.append(Fact(f"{number:05}-{relation}", text, number, relation))
            made += 1
    chance.shuffle(facts)
    return facts


def _replace_one(text: str, pairs: Sequence[tuple[str, str]], chance: random.Random) -> str | None:
    usable = [pair for pair in pairs if pair[0] in text]
    return text.replace(*chance.choice(usable), 1) if usable else None


def _swap_word(text: str, pairs: Sequence[tuple[str, str]], chance: random.Random) -> str | None:
    both = [*pairs, *((new, old) for old, new in pairs)]
    usable = [(old, new) for old, new in both if re.search(rf"\b{old}\b", text)]
    if not usable:
        return None
    old, new = chance.choice(usable)
    return re.sub(rf"\b{old}\b", new, text, count=1)


def _other_number(text: str, chance: random.Random) -> str | None:
    matches = list(_NUMBER.finditer(text))
    if not matches:
        return None
    match = chance.choice(matches)
    return f"{text[: match.start()]}{int(match[1]) + chance.randrange(1, 40)}{text[match.end() :]}"


def _reorder(text: str) -> str | None:
    match = re.fullmatch(r"(If|When) ([^,]{8,80}), (\w[^,;:]{10,120})\.", text)
    if match is None:
        return None
    return f"{match[3][0].upper()}{match[3][1:]} {match[1].lower()} {match[2]}."
