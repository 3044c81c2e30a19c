"""Templates of statements with a subject and a value, and pairs of them with a known relation.

DEVELOPED are the templates that the rules were developed with. FIRST_HELD_OUT were written before the rules and only
measured with at first; later rules were developed with them. `memory_conflict_held_out.py` has a second set.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Pair(NamedTuple):
    """Two statements; `kind` is how the second was made, `is_conflict` whether both cannot hold."""

    template: str
    kind: str
    one: str
    other: str
    is_conflict: bool


@dataclass(frozen=True, slots=True)
class Template:
    """Wordings of one statement, with `{s}` for the subject and `{v}` for the value.

    `values` are values of which each excludes the others. A tuple holds spellings of one value. `lists`: two values may
    hold together if a statement names both ("Ada and Bob …").
    """

    name: str
    group: str
    wordings: tuple[str, ...]
    subjects: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    lists: str = ""


def parse_values(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(value.strip() for value in spellings.split("=")) for spellings in text.split(","))


_PEOPLE = parse_values("Ada,Bob,Carla Reyes,Dmitri,Evelyn,Farid,Grace Lin")
_TEAMS = ("search team", "billing team", "support desk", "platform group")
DEVELOPED = (
    Template("lead", "name", ("{v} leads the {s}.", "The {s} is led by {v}.", "The lead of the {s} is {v}."),
             _TEAMS, _PEOPLE, "{v} and {w} lead the {s}."),
    Template("own", "name", ("{v} owns the {s}.", "The owner of the {s} is {v}.", "The {s} is owned by {v}."),
             ("deploy pipeline", "release checklist", "payment gateway"), _PEOPLE, "{v} and {w} own the {s}."),
    Template("maintain", "name", ("{v} maintains the {s}.", "The {s} is maintained by {v}."),
             ("importer", "SDK for Kotlin", "style guide"), _PEOPLE, "{v} and {w} maintain the {s}."),
    Template("retention", "number", ("The retention of the {s} is {v}.", "The {s} have a retention of {v}.",
             "{S} are kept for {v}."), ("audit logs", "chat transcripts", "nightly backups"),
             parse_values("90 days=ninety days,30 days=thirty days,14 days=two weeks,1 year=one year")),
    Template("deploys", "weekday", ("The {s} deploys on {v}.", "The {s} is deployed on {v}.", "{S} deploys happen on {v}."),
             ("web shop", "mobile API", "ledger"), parse_values("Tuesday=Tuesdays,Friday=Fridays,Monday=Mondays,Thursday=Thursdays")),
    Template("meeting", "weekday", ("The {s} meets on {v}.", "The {s} meeting is on {v}."),
             ("design review", "hiring panel", "risk board"), parse_values("Tuesday,Friday,Wednesday,Monday")),
    Template("version", "version", ("The {s} runs version {v}.", "The {s} uses version {v}.", "The {s} is on version {v}."),
             ("cluster", "message broker", "build farm"), parse_values("3.2,3.4,4.0,2.19")),
    Template("requires", "version", ("The {s} requires Postgres {v}.", "The {s} needs Postgres {v}."),
             ("ledger service", "reporting job"), parse_values("13,14,15,16")),
    Template("price", "currency", ("The {s} costs {v} per month.", "The price of the {s} is {v} per month."),
             ("basic plan", "team plan", "storage add-on"), parse_values("€20=20 euros,€35=35 EUR,$20=20 USD,$49=49 dollars")),
    Template("budget", "currency", ("The budget of the {s} is {v}.", "The {s} has a budget of {v}."),
             ("offsite", "pilot", "audit"), parse_values("$5000=5000 dollars,$8000=8k USD,€5000=5 000 EUR")),
    Template("size", "unit", ("The upload limit of the {s} is {v}.", "The {s} accepts uploads of up to {v}."),
             ("forum", "ticket system", "photo archive"), parse_values("30 MB,45 MB,2 GB=2048 MB,30 GB")),
    Template("wait", "unit", ("The {s} times out after {v}.", "The timeout of the {s} is {v}."),
             ("proxy", "worker", "health check"), parse_values("90 seconds=90 s,2 minutes=120 s,300 ms,5 minutes=300 s")),
    Template("city", "name", ("The {s} is based in {v}.", "The {s} is located in {v}.", "The location of the {s} is {v}."),
             ("data centre", "support office", "warehouse"), parse_values("Lyon,Graz,Porto,Turin")),
    Template("uses", "name", ("The {s} stores its data in {v}.", "The database of the {s} is {v}."),
             ("inventory", "event service"), parse_values("Postgres,MySQL,Cassandra,SQLite")),
)  # fmt: skip

FIRST_HELD_OUT = (
    Template("manager", "name", ("{v} manages the {s}.", "The {s} is managed by {v}.", "The manager of the {s} is {v}."),
             ("Rotterdam site", "events crew", "translation project"),
             parse_values("Priya,Tomas,Ingrid Vale,Kwame,Lena"), "{v} and {w} manage the {s}."),
    Template("chairs", "name", ("{v} chairs the {s}.", "The {s} is chaired by {v}.", "The chair of the {s} is {v}."),
             ("ethics committee", "standards forum"), parse_values("Priya,Tomas,Ingrid Vale,Kwame"), "{v} and {w} chair the {s}."),
    Template("approver", "name", ("{v} approves {s}.", "{S} are approved by {v}."),
             ("travel requests", "vendor contracts"), parse_values("Priya,Tomas,Oscar Lund"), "{v} and {w} approve {s}."),
    Template("author", "name", ("{v} wrote the {s}.", "The {s} was written by {v}.", "The author of the {s} is {v}."),
             ("migration guide", "sizing tool"), parse_values("Priya,Tomas,Oscar Lund"), "{v} and {w} wrote the {s}."),
    Template("expiry", "number", ("{S} expire after {v}.", "The lifetime of {s} is {v}."),
             ("session cookies", "invitation links"), parse_values("7 days=seven days,21 days=three weeks,48 hours=2 days")),
    Template("replicas", "number", ("The {s} has {v} replicas.", "The {s} runs with {v} replicas."),
             ("catalogue index", "chat relay"), parse_values("3=three,5=five,7=seven")),
    Template("standup", "weekday", ("The {s} is held on {v}.", "The {s} takes place on {v}.", "{S}: every {v}."),
             ("retrospective", "backlog grooming", "fire drill"), parse_values("Monday,Thursday,Saturday")),
    Template("release", "version", ("The current release of the {s} is {v}.", "The {s} ships with release {v}."),
             ("firmware", "viewer"), parse_values("5.1,5.3,6.0.2")),
    Template("runtime", "version", ("The {s} is built with Go {v}.", "The {s} is compiled with Go {v}."),
             ("edge agent", "log shipper"), parse_values("1.21,1.22,1.23")),
    Template("salary", "currency", ("The hourly rate of the {s} is {v}.", "The {s} charges {v} per hour."),
             ("contractor", "notary", "interpreter"), parse_values("£80=80 pounds,£95=95 GBP,€80=80 euros")),
    Template("fee", "currency", ("The entry fee of the {s} is {v}.", "Entry to the {s} costs {v}."),
             ("museum", "regatta"), parse_values("€12=12 euros,€15=15 EUR,$12=12 dollars")),
    Template("weight", "unit", ("The {s} weighs {v}.", "The weight of the {s} is {v}."),
             ("sensor head", "spare battery"), parse_values("2 kg=2000 g,3 kg=3000 g,750 g")),
    Template("distance", "unit", ("The {s} is {v} long.", "The length of the {s} is {v}."),
             ("test track", "cable run"), parse_values("400 m,2 km=2000 m,800 m")),
    Template("venue", "name", ("The {s} takes place in {v}.", "The venue of the {s} is {v}."),
             ("summit", "spring fair"), parse_values("Oslo,Riga,Bilbao")),
    Template("editor", "name", ("The preferred editor of {s} is {v}.", "{S} prefers {v} as an editor."),
             ("Marta", "Jonas"), parse_values("Emacs,Helix,Kakoune")),
)  # fmt: skip

_SCOPES = ("in staging", "in production", "for guests", "on the replica", "during the migration")
_TIMES = ("In 2022, ", "In 2025, ", "Until March 2023, ", "Last year, ", "Before the merger, ")


def make_pairs(template: Template, chance: random.Random, count: int) -> Iterator[Pair]:
    """Yield `count` pairs of each kind that the template has; some may be equal."""
    for _ in range(count):
        for kind, make in _KINDS.items():
            made = make(template, chance)
            if made is not None and made[0] != made[1]:
                yield Pair(template.name, kind, *made, kind.startswith("conflict"))


def fill(wording: str, subject: str, value: str, other: str = "") -> str:
    """Return a wording with its subject and value."""
    capital = subject[0].upper() + subject[1:]
    return wording.format(s=subject, S=capital, v=value, w=other)


def _values(template: Template, chance: random.Random) -> tuple[str, str]:
    one, other = chance.sample(template.values, 2)
    return chance.choice(one), chance.choice(other)


def _conflict(template: Template, chance: random.Random) -> tuple[str, str]:
    wording, subject = chance.choice(template.wordings), chance.choice(template.subjects)
    one, other = _values(template, chance)
    return fill(wording, subject, one), fill(wording, subject, other)


def _reworded(template: Template, chance: random.Random) -> tuple[str, str] | None:
    if len(template.wordings) < 2:
        return None
    wordings, subject = chance.sample(template.wordings, 2), chance.choice(template.subjects)
    one, other = _values(template, chance)
    return fill(wordings[0], subject, one), fill(wordings[1], subject, other)


def _padded(template: Template, chance: random.Random) -> tuple[str, str]:
    one, other = _conflict(template, chance)
    lead = chance.choice(("Note that ", "As of today, ", "According to the wiki, "))
    return one, lead + (other[0].lower() + other[1:] if other.startswith("The ") else other)


def _other_subject(template: Template, chance: random.Random) -> tuple[str, str]:
    wording, subjects = chance.choice(template.wordings), chance.sample(template.subjects, 2)
    one, other = _values(template, chance)
    return fill(wording, subjects[0], one), fill(wording, subjects[1], other)


def _other_scope(template: Template, chance: random.Random) -> tuple[str, str]:
    one, other = _conflict(template, chance)
    scopes = chance.sample(_SCOPES, 2)
    return f"{one[:-1]} {scopes[0]}.", f"{other[:-1]} {scopes[1]}."


def _one_scope(template: Template, chance: random.Random) -> tuple[str, str]:
    one, other = _conflict(template, chance)
    return one, f"{other[:-1]} {chance.choice(_SCOPES)}."


def _other_time(template: Template, chance: random.Random) -> tuple[str, str]:
    one, other = _conflict(template, chance)
    times = chance.sample(_TIMES, 2)
    return tuple(time + (text[0].lower() + text[1:] if text.startswith("The ") else text)
                 for time, text in zip(times, (one, other), strict=True))  # type: ignore[return-value]  # fmt: skip


def _one_time(template: Template, chance: random.Random) -> tuple[str, str]:
    one, other = _conflict(template, chance)
    return one, chance.choice(_TIMES) + (other[0].lower() + other[1:] if other.startswith("The ") else other)


def _partial(template: Template, chance: random.Random) -> tuple[str, str] | None:
    if not template.lists:
        return None
    subject = chance.choice(template.subjects)
    one, other = _values(template, chance)
    return fill(template.wordings[0], subject, one), fill(template.lists, subject, one, other)


def _additional(template: Template, chance: random.Random) -> tuple[str, str] | None:
    if not template.lists:
        return None
    one, other = _conflict(template, chance)
    return one, other[:-1] + chance.choice((", too.", " as well."))


def _same_value(template: Template, chance: random.Random) -> tuple[str, str]:
    wording, subject = chance.choice(template.wordings), chance.choice(template.subjects)
    value = chance.choice([spellings for spellings in template.values if len(spellings) > 1] or template.values)
    return fill(wording, subject, value[0]), fill(wording, subject, value[-1])


_KINDS: dict[str, Callable[[Template, random.Random], tuple[str, str] | None]] = {
    "conflict": _conflict,
    "conflict, reworded": _reworded,
    "conflict, padded": _padded,
    "other subject": _other_subject,
    "other scope": _other_scope,
    "one scope": _one_scope,
    "other time": _other_time,
    "one time": _one_time,
    "partial": _partial,
    "additional": _additional,
    "same value": _same_value,
}
