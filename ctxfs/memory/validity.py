"""Validity: the time in the world for which a file holds, from `valid_from` and `valid_until`. Pure.

It is independent of the versions, which have the time of the record. Ends are inclusive: `valid_until` of a month
is its last second.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ctxfs.model.periods import Period, parse_period

FROM, UNTIL = "valid_from", "valid_until"


@dataclass(frozen=True, slots=True)
class Validity:
    """The first and the last second of validity, since the epoch; None for no limit."""

    first: int | None = None
    last: int | None = None

    def overlaps(self, period: Period) -> bool:
        """Return True if a part of the period is valid."""
        return (self.first is None or self.first <= period[1]) and (self.last is None or self.last >= period[0])

    def is_over(self, now: float) -> bool:
        """Return True if the validity has ended before `now`, in seconds since the epoch."""
        return self.last is not None and self.last < now


ALWAYS = Validity()


def validity_of(attributes: Mapping[str, str]) -> Validity:
    """Return the validity from attributes (names without prefix); unsound values set no limit."""
    start, end = (parse_period(attributes.get(name, "")) for name in (FROM, UNTIL))
    return Validity(start[0] if start else None, end[1] if end else None)
