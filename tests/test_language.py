"""The language rules of CONTRIBUTING.md hold, package by package: `tests/language.json` has limits that may only fall."""

import json
from pathlib import Path

import pytest

from tests.language import ROOT, count, packages

LIMITS = json.loads(Path(__file__).with_name("language.json").read_text())


@pytest.mark.parametrize("package", packages())
def test_package_keeps_its_language_limits(package: str) -> None:
    counts = count(package)
    measured = {
        "persons": counts.rate(counts.persons),
        "clauses": counts.rate(counts.clauses),
        "saying": counts.rate(counts.saying),
        "questions_percent": counts.questions_percent,
        "constants": counts.bad_constants,
    }
    over = {
        name: (round(value, 2), LIMITS[package][name])
        for name, value in measured.items()
        if value > LIMITS[package][name]
    }
    assert not over, f"(measured, limit): {over}; see python -m tests.language {package}"


def test_no_file_and_no_function_of_the_product_is_too_long() -> None:
    counts = count("ctxfs", "mounts", "mcp_server")
    assert counts.long_files == []
    assert counts.long_functions == []


def test_composition_root_stays_short() -> None:
    assert len((ROOT / "ctxfs" / "app.py").read_text().splitlines()) <= 250
