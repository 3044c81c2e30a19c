"""Comparison of the quantities of a claim with those of a sentence of a source, clause by clause. Pure.

"The public API allows 60 requests; partners get 600" contains both numbers, but does not support "The public API allows 600
requests". A number counts only in the clause that shares most words with the claim around the number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ctxfs.context.grounding.quantities import Match, Quantity, clause_of, quantity_text, rivals_of

_MIN_RIVAL_TERMS = 2  # shared terms that another clause needs before it contradicts
_MAX_MATCHED_SHARE = 0.5  # of the share of the other clause


@dataclass(slots=True)
class Comparison:
    """The claimed quantities that a source contradicts, its own in their place, those that it gives, and a reason for doubt."""

    differing: list[Quantity] = field(default_factory=list)
    known: list[Quantity] = field(default_factory=list)
    doubt: str = ""
    equal: list[Quantity] = field(default_factory=list)


def compare_quantities(
    claim: str,
    claimed: Sequence[Quantity],
    sentence: str,
    known: Sequence[Quantity],
    nearby: Sequence[Quantity],
    terms_of: Callable[[str], set[str]],
) -> Comparison:
    """Compare the quantities of a claim with those of a sentence (`known`), and of the sentences around it (`nearby`)."""
    result = Comparison()
    for quantity in claimed:
        matches = sorted(known, key=quantity.compare, reverse=True)
        if matches and quantity.compare(matches[0]) > Match.DIFFERENT:
            _check_clause(result, claim, quantity, sentence, matches[0], rivals_of(quantity, known), terms_of)
        elif any(quantity.compare(other) > Match.DIFFERENT for other in nearby):
            continue
        elif rivals := [other for other in known if quantity.is_comparable(other)]:
            result.differing.append(quantity)
            result.known += [other for other in rivals if other not in result.known]
        else:
            result.doubt = result.doubt or f"no source gives {quantity_text(claim, quantity)}"
    return result


def _check_clause(
    result: Comparison,
    claim: str,
    quantity: Quantity,
    sentence: str,
    match: Quantity,
    rivals: Sequence[Quantity],
    terms_of: Callable[[str], set[str]],
) -> None:
    """Compare a quantity with its match, and add a rival of `match` that stands in the clause which the claim is about, or a doubt."""
    if quantity.compare(match) is Match.INEXACT:
        result.doubt = result.doubt or f"the source gives '{quantity_text(sentence, match)}'"
    else:
        result.equal.append(quantity)
    around = terms_of(" ".join(clause_of(claim, quantity)))
    for rival in rivals:
        own, other = (terms_of(" ".join(clause_of(sentence, candidate))) for candidate in (match, rival))
        own_share, _ = _share(around, own - other)
        other_share, count = _share(around, other - own)
        if own_share > other_share:
            continue
        if count >= _MIN_RIVAL_TERMS and own_share <= _MAX_MATCHED_SHARE * other_share:
            result.differing.append(quantity)
            result.known.append(rival)
            return
        text = f"the source gives '{quantity_text(sentence, match)}' and '{quantity_text(sentence, rival)}'"
        result.doubt = result.doubt or text


def _share(terms: set[str], clause: set[str]) -> tuple[float, int]:
    """Return (share of the clause's terms among `terms`, their number)."""
    shared = len(terms & clause)
    return (shared / len(clause) if clause else 0.0), shared
