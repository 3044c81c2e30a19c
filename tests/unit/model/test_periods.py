"""Test periods of the world's time, and the validity that they give a file."""

from datetime import UTC, datetime

import pytest

from ctxfs.memory.validity import ALWAYS, Validity, validity_of
from ctxfs.model.periods import parse_period, parse_range


def second(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "first", "end"),
    [
        ("2026", (2026, 1, 1), (2027, 1, 1)),
        ("2026-03", (2026, 3, 1), (2026, 4, 1)),
        ("2026-12", (2026, 12, 1), (2027, 1, 1)),
        ("2024-02-29", (2024, 2, 29), (2024, 3, 1)),
        ("1969-07-20", (1969, 7, 20), (1969, 7, 21)),
        ("2026-03-01T10:30:00", (2026, 3, 1, 10, 30), (2026, 3, 1, 10, 30, 1)),
        ("2026-03-01T10:30:00+02:00", (2026, 3, 1, 8, 30), (2026, 3, 1, 8, 30, 1)),
    ],
)
def test_period_ends_with_its_last_second(text: str, first: tuple[int, ...], end: tuple[int, ...]) -> None:
    assert parse_period(text) == (second(*first), second(*end) - 1)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-13", "2026-02-30", "26-03", "2026-3", "2026-03-01T25:00", "9" * 5000]
)
def test_other_text_is_no_period(text: str) -> None:
    assert parse_period(text) is None
    assert parse_range(text) is None


def test_range_has_two_ends() -> None:
    expected = (second(2026, 1, 1), second(2026, 4, 1) - 1)
    assert parse_range("2026-01..2026-03") == expected
    assert parse_range("2026-01/2026-03") == expected
    assert parse_range("2026-03..2026-01") is None
    assert parse_range("2026-01..") is None


def test_validity_includes_its_ends() -> None:
    validity = validity_of({"valid_from": "2026-02", "valid_until": "2026-03"})
    for text, expected in (
        ("2026-01", False),
        ("2026-02-01", True),
        ("2026-03-31", True),
        ("2026-04", False),
        ("2026", True),
    ):
        period = parse_period(text)
        assert period is not None
        assert validity.overlaps(period) is expected, text
    assert not validity.is_over(second(2026, 3, 31, 23))
    assert validity.is_over(second(2026, 4, 1))


def test_absent_and_unsound_limits_are_none() -> None:
    assert validity_of({}) == ALWAYS
    assert validity_of({"valid_until": "never"}) == ALWAYS
    assert validity_of({"valid_from": "2026"}) == Validity(second(2026, 1, 1), None)
