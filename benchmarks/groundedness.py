"""The evaluator on claims of known truth: `python -m benchmarks.groundedness [--words] [--show KIND]`.

Real documents: the descriptions of installed Python packages (readmes, release notes), Python's own help topics, and
the readmes and news in /usr/share/doc of a Debian system. Half of the documents' sentences become claims, one a
sentence: reworded (supported); with another number, date or name; negated; from a document outside of the sources
(unsupported); from one in the tree that the principal cannot read. The latter must look exactly like unsupported.
Thresholds were chosen on the claims with an even number. The table is of the odd ones, with all beside it.
"""

import argparse
import contextlib
import gzip
import importlib.metadata
import pydoc_data.topics
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import cast

from ctxfs.context.build.piece import Piece
from ctxfs.context.build.sentences import sentences
from ctxfs.context.grounding.judge import Embed, Sources, evaluate, split_evidence
from ctxfs.context.grounding.sentence_values import _DENIAL, extract_values
from ctxfs.index.engines.fulltext import analyse
from ctxfs.index.engines.model_files import default_model_folder
from ctxfs.index.extract.dates import find_dates

KINDS = ("supported", "number", "date", "name", "negated", "unsupported", "unreadable")
_CLAIMS_PER_KIND = 120
_INTEGER = re.compile(r"(?<![\w.,/#-])(\d{1,4})(?![\w.,/%-]|\.\d)")
_ISO = re.compile(r"\b((?:19|20)\d\d)-(\d\d)-(\d\d)\b")
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|can|will|should|must|may|could|would|does|do|has been|have been)\b(?! not|n't)"
)
_MARKED = re.compile(r"[\[\]`=\"|<>{}]|http|:$|--")  # code, links and lists are no statements
_MONTHS = "January February March April May June July August September October November December".split()


@dataclass(frozen=True)
class Labelled:
    """A claim and its defect."""

    kind: str
    text: str


def documents() -> dict[str, str]:
    """Return name → text."""
    out = _notes_of_packages()
    out |= {f"python/{name}.txt": text for name, text in sorted(pydoc_data.topics.topics.items())}
    for package in importlib.metadata.distributions():
        metadata = cast(Message, package.metadata)
        body = metadata.get_payload() or metadata.get("Description") or ""
        if isinstance(body, str) and len(body) > 500:
            out[f"packages/{package.metadata['Name']}.md"] = body
    return dict(sorted(out.items()))


def _notes_of_packages() -> dict[str, str]:
    """Return the readmes and news that Debian installs with each package."""
    out = {}
    for file in sorted(Path("/usr/share/doc").glob("*/*")):
        if file.name.startswith(("README", "NEWS")) and file.is_file():
            data = file.read_bytes()[:400_000]
            with contextlib.suppress(OSError, EOFError):
                text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8", "replace")
                out[f"{file.parent.name}/{file.name}"] = text
    return out


def statements_of(text: str) -> Iterator[str]:
    """Yield the sentences that read as statements."""
    for sentence in sentences(text):
        words = sentence.text.split()
        if not 8 <= len(words) <= 40 or not sentence.text[0].isalpha() or _MARKED.search(sentence.text):
            continue
        letters = sum(character.isalpha() or character == " " for character in sentence.text) / len(sentence.text)
        if letters > (0.7 if find_dates(sentence.text) else 0.85):
            yield sentence.text


def reword(text: str, chance: random.Random) -> str:
    """Return the statement in slightly other words."""
    changed = re.sub(r"\s*\([^()]*\)", "", text)
    changed = re.sub(r"\bdoes not\b", "doesn't", re.sub(r"\bis not\b", "isn't", changed))
    changed = re.sub(r"\bcannot\b", "can not", changed)
    changed = re.sub(r"\bFor example, |\bHowever, |\bTherefore, |\bAlso, ", "", changed)
    lead = chance.choice(("", "", "According to the documentation, ", "As documented, ", "In short, "))
    return lead + (
        changed[0].lower() + changed[1:]
        if lead
        and changed[1:2].islower()
        and changed.split()[0] in ("The", "This", "If", "When", "It", "A", "An", "All", "In")
        else changed
    )


def replace_number(text: str, chance: random.Random) -> str | None:
    """Return the text with one number replaced; None if it has none."""
    matches = [
        match
        for match in _INTEGER.finditer(re.sub(_ISO, lambda m: " " * len(m[0]), text))
        if not 1900 <= int(match[1]) <= 2100
    ]
    if find_dates(text) or not matches:
        return None
    match = chance.choice(matches)
    new = str(int(match[1]) + chance.choice((1, 2, 3, 5, 10)))
    return text[: match.start()] + new + text[match.end() :]


def replace_date(text: str, chance: random.Random) -> str | None:
    """Return the text with the day, month or year of a date replaced; None if it has no date."""
    if match := _ISO.search(text):
        year, month, day = int(match[1]), int(match[2]), int(match[3])
        changed = chance.choice(
            (
                f"{year + 1}-{month:02}-{day:02}",
                f"{year}-{month % 12 + 1:02}-{day:02}",
                f"{year}-{month:02}-{day % 27 + 1:02}",
            )
        )
        return text[: match.start()] + changed + text[match.end() :]
    for index, name in enumerate(_MONTHS):
        if (match := re.search(rf"\b(?:{name}|{name[:3]})\b", text)) and any(
            date.day or date.year for date in find_dates(text)
        ):
            other = _MONTHS[(index + chance.randrange(1, 11)) % 12]
            return text[: match.start()] + (other if len(match[0]) > 3 else other[:3]) + text[match.end() :]
    return None


def replace_name(text: str, names: list[str], chance: random.Random) -> str | None:
    """Return the text with one name replaced; None if it has none."""
    inside = [
        word
        for word in re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b(?![.'-]\w)", text)
        if word.lower() in extract_values(text).names and word not in _MONTHS
    ]
    if not inside:
        return None
    old = chance.choice(inside)
    new = chance.choice([name for name in names if name.lower() not in text.lower()])
    return re.sub(rf"\b{old}\b", new, text)


def negate(text: str) -> str | None:
    """Return the text with its negation added or removed; None if that is not possible by one word."""
    if _DENIAL.search(text):
        changed = re.sub(r"\b(is|are|was|were|can|will|should|must|may|does|do) not\b", r"\1", text, count=1)
        return changed if changed != text and not _DENIAL.search(changed) else None
    changed = _AUXILIARY.sub(r"\1 not", text, count=1)
    return changed if changed != text else None


def make_claims(docs: dict[str, str], chance: random.Random) -> tuple[dict[str, str], list[Labelled]]:
    """Return (the readable sources, the claims)."""
    names = list(docs)
    chance.shuffle(names)
    sources = {name: docs[name] for name in names[: len(names) * 3 // 5]}
    rest = names[len(names) * 3 // 5 :]
    statements = list(dict.fromkeys(text for doc in sources.values() for text in statements_of(doc)))
    source_statements = set(statements)
    other = [text for name in rest[::2] for text in statements_of(docs[name]) if text not in source_statements]
    hidden = [text for name in rest[1::2] for text in statements_of(docs[name]) if text not in source_statements]
    proper = sorted(
        {word for text in statements for word in re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b(?![.'-]\w)", text)}
        - set(_MONTHS)
    )
    for pool in (statements, other, hidden):
        chance.shuffle(pool)
    makers: dict[str, Callable[[str], str | None]] = {
        "supported": lambda text: reword(text, chance),
        "number": lambda text: replace_number(text, chance),
        "date": lambda text: replace_date(text, chance),
        "name": lambda text: replace_name(text, proper, chance),
        "negated": negate,
    }
    claims = []
    for kind, make in makers.items():
        count = 0
        for text in statements:
            claim = make(text)
            if claim and claim not in source_statements and (kind == "supported" or claim != text):
                claims.append(Labelled(kind, claim))
                count += 1
            if count == _CLAIMS_PER_KIND:
                break
    claims += [Labelled("unsupported", text) for text in dict.fromkeys(other[: 2 * _CLAIMS_PER_KIND])][
        :_CLAIMS_PER_KIND
    ]
    claims += [Labelled("unreadable", text) for text in dict.fromkeys(hidden[: 2 * _CLAIMS_PER_KIND])][
        :_CLAIMS_PER_KIND
    ]
    chance.shuffle(claims)
    return sources, claims


def judge(
    sources: dict[str, str], claims: list[Labelled], embed: Embed | None
) -> list[tuple[Labelled, str, frozenset[str]]]:
    """Return (claim, verdict, kinds of the conflicts) of each claim."""
    pieces = [Piece(name, 1, text.count("\n") + 1, text, kind="markdown") for name, text in sources.items()]
    evidence = Sources(split_evidence(pieces, {name: number for number, name in enumerate(sources, 1)}), analyse)
    out: list[tuple[Labelled, str, frozenset[str]]] = []
    for claim in claims:
        judged_claims = evaluate(claim.text, evidence, analyse, embed, {}).claims
        verdicts = [judged_claim.verdict for judged_claim in judged_claims]
        worst = next((v for v in ("contradicted", "unsupported", "supported") if v in verdicts), "unchecked")
        out.append((claim, worst, frozenset(c.kind for judged_claim in judged_claims for c in judged_claim.conflicts)))
    return out


_EXPECTED = {"number": "number", "date": "date", "name": "name", "negated": "negation"}


def table(judgements: list[tuple[Labelled, str, frozenset[str]]]) -> None:
    """Print precision and recall of each kind."""
    print(f"{'kind':<14}{'claims':>7}{'recall':>8}{'precision':>11}   verdicts")
    for kind in KINDS:
        of_kind = [judgement for judgement in judgements if judgement[0].kind == kind]
        if kind in _EXPECTED:
            conflict = _EXPECTED[kind]
            right = sum(verdict == "contradicted" and conflict in kinds for _, verdict, kinds in of_kind)
            flagged = sum(verdict == "contradicted" and conflict in kinds for _, verdict, kinds in judgements)
        else:
            expected = "supported" if kind == "supported" else "unsupported"
            right = sum(verdict == expected for _, verdict, _ in of_kind)
            same = ("supported",) if kind == "supported" else ("unsupported", "unreadable")
            flagged = sum(verdict == expected for _, verdict, _ in judgements)
            flagged = flagged - sum(
                verdict == expected and judgement.kind in same and judgement.kind != kind
                for judgement, verdict, _ in judgements
            )
        verdicts = ", ".join(
            f"{name} {count}" for name, count in Counter(verdict for _, verdict, _ in of_kind).most_common()
        )
        print(
            f"{kind:<14}{len(of_kind):>7}{right / max(len(of_kind), 1):>8.3f}{right / max(flagged, 1):>11.3f}   {verdicts}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", action="store_true", help="without the model of meaning")
    parser.add_argument("--show", choices=KINDS, help="print what went wrong with this kind, of the even ones")
    arguments = parser.parse_args()
    embed: Embed | None = None
    if not arguments.words:
        from ctxfs.index.engines.embedders.sentence_model import SentenceModel

        embed = SentenceModel(default_model_folder(), 2).embed
    sources, claims = make_claims(documents(), random.Random(11))
    judgements = judge(sources, claims, embed)
    if arguments.show:
        for claim, verdict, kinds in judgements[0::2]:
            is_wrong = (arguments.show == claim.kind) != (
                _EXPECTED.get(arguments.show, "-") in kinds or verdict == arguments.show
            )
            if is_wrong:
                print(f"{claim.kind}: {verdict} {sorted(kinds)}\n   {claim.text}")
        return
    print(f"{len(sources)} documents, {len(claims)} claims")
    for name, part in (
        ("odd (unseen)", judgements[1::2]),
        ("even (thresholds)", judgements[0::2]),
        ("all", judgements),
    ):
        print(f"\n{name}")
        table(part)


if __name__ == "__main__":
    main()
