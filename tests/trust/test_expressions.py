"""Test that every regular expression of the packages takes linear time over hostile text."""

import ast
import functools
import importlib
import pkgutil
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ctxfs
from ctxfs.context.build import secrets
from ctxfs.context.build.secrets import find_secrets

_PAIRS = (
    "a |A |0.|0,|a.|a-|a'|-a|- |* |a:|ab|aA|Aa|0a|a0|a@|a,|a;|1/|# | #|](|$(|${|{{|[[|one |. A|a. |one-|1. || a |\\a"
)
_OPENINGS = (
    '<!--|<a |<script|[a|(a|```|`|~~~|www.|http://|://a:|//|-----BEGIN|-----END |-----END PRIVATE KEY|PRIVATE KEY|"a'
)
_SECRETS = "eyJ|AKIA|key=|password=|xoxa-1-|glagent-|sk-|ghp_|SG.|aws"
_WORDS = "2020-|Jan |1 Jan |not |no |n't|twenty |a*0=b;|a@a.|中|。|é|\u0301"
_LINES = [" \n", "a\n", "\r\n", "---\n", "===\n", "A" * 20 + "\n"]
SEEDS = [*" \taA0-*_=\"'([<{#|.,:/@\n\r!?%\\", *_LINES, *"|".join((_PAIRS, _OPENINGS, _SECRETS, _WORDS)).split("|")]
SEEDS = [seed for seed in SEEDS if seed]
SMALL, LARGE = 1_500, 12_000
# Linear is eight times as long, quadratic sixty-four.
MAX_GROWTH = 24
MIN_SECONDS = 0.02
MAX_SECONDS = 0.5


def _values_of(thing: object, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    if isinstance(thing, re.Pattern):
        yield thing
    elif depth < 3 and isinstance(thing, list | tuple | set | frozenset):
        for item in thing:
            yield from _values_of(item, depth + 1)
    elif depth < 3 and isinstance(thing, dict):
        yield from _values_of(list(thing.values()), depth)
    elif depth < 3 and isinstance(getattr(thing, "__slots__", None), tuple) and not isinstance(thing, type):
        yield from _values_of([getattr(thing, name, None) for name in thing.__slots__], depth)


def _written_in(source: str) -> Iterator[str | bytes]:
    """Yield the expressions that calls of `re` contain as literals."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            first = node.args[0]
            is_re = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
            if is_re and isinstance(first, ast.Constant) and isinstance(first.value, str | bytes):
                yield first.value


@functools.cache
def patterns() -> dict[tuple[str | bytes, int], str]:
    """Return {(expression, flags): location} of all expressions in the packages."""
    locations: dict[tuple[str | bytes, int], str] = {}
    for info in pkgutil.walk_packages(ctxfs.__path__, "ctxfs."):
        if info.name.endswith("__main__") or info.name.startswith(_INTEGRATIONS):
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            for pattern in _values_of(value):
                locations.setdefault((pattern.pattern, pattern.flags), f"{info.name}.{name}")
        source = Path(module.__file__ or "")
        for expression in _written_in(source.read_text() if source.suffix == ".py" else ""):
            pattern = re.compile(expression)
            locations.setdefault((pattern.pattern, pattern.flags), info.name)
    for form in secrets._load_forms():
        for pattern in form.patterns:
            locations.setdefault((pattern.pattern, pattern.flags), f"secrets: {form.kind}")
    return locations


_INTEGRATIONS = "ctxfs.integrations."  # their libraries are not installed here
_IMPORTS = re.compile(r"^from \S+ import (?:\([^)]*\)|.*)$", re.MULTILINE)


class _TooLong(Exception):
    pass


def _give_up(*_: object) -> None:
    raise _TooLong


def seconds(pattern: re.Pattern[Any], seed: str, size: int, *, matched: bool, repeats: int = 1) -> float:
    """Return the CPU seconds for all matches in `size` characters of a seed, followed by a text that never matches.

    Short times need `repeats`: some kernels count processor time in ticks of ten milliseconds.
    """
    text: Any = seed * (size // len(seed)) + "\x01"
    if isinstance(pattern.pattern, bytes):
        text = text.encode()
    start = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        for _ in range(repeats):
            if matched:
                pattern.match(text)
                pattern.fullmatch(text)
            else:
                for _ in pattern.finditer(text):
                    pass
    except _TooLong:
        return MAX_SECONDS
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return (time.process_time() - start) / repeats


def _is_only_matched(place: str) -> bool:
    """Return True for an expression that its module tries at one position of a text only."""
    module, _, name = place.rpartition(".")
    if place.startswith("secrets") or module not in sys.modules:
        return False
    file = Path(sys.modules[module].__file__ or "")
    source = _IMPORTS.sub("", file.read_text() if file.suffix == ".py" else "")
    return bool(re.search(rf"\b{name}\.(?:full)?match\b", source)) and not re.search(
        rf"\b{name}\.(?:search|finditer|findall|subn?|split)\b|\b{name}[,)\]]", source
    )


def test_every_pattern_of_the_packages_is_linear() -> None:
    locations = patterns()
    assert len(locations) > 100
    before = signal.signal(signal.SIGPROF, _give_up)
    try:
        slow = [
            line
            for (expression, flags), location in locations.items()
            if (line := _slowest(expression, flags, location))
        ]
    finally:
        signal.signal(signal.SIGPROF, before)
    assert not slow, "\n".join(slow)


def _slowest(expression: str | bytes, flags: int, place: str) -> str:
    pattern, matched = re.compile(expression, flags), _is_only_matched(place)
    for seed in SEEDS:
        large = seconds(pattern, seed, LARGE, matched=matched)
        if large < MIN_SECONDS:
            continue
        # Further measurements leave out pauses of the process.
        large = min(large, *(seconds(pattern, seed, LARGE, matched=matched) for _ in range(4)))
        if large < MIN_SECONDS:
            continue
        small = max(min(seconds(pattern, seed, SMALL, matched=matched, repeats=40) for _ in range(3)), 1e-5)
        if large >= MAX_SECONDS or large / small > MAX_GROWTH:
            return f"{place}: {expression[:90]!r} over {seed!r}: {small:.4f} s, then {large:.4f} s"
    return ""


KEY_END = "-----END PRIVATE KEY-----\n" + "A" * 40 + "\n"


@pytest.mark.parametrize(
    "seed", ["A" * 60 + "\n", "eyJ", "-eyJ", "://a:", "//", "sk-", "glagent-", " ", "-----BEGIN PRIVATE KEY", KEY_END]
)
def test_secrets_are_detected_in_linear_time(seed: str) -> None:
    marks = "PRIVATE KEY eyJ _authToken T3BlbkFJ sk-ant- :// aws AKIA glagent- xox -----END PRIVATE KEY-----"
    start = time.process_time()
    find_secrets(seed * (250_000 // len(seed)) + marks)
    assert time.process_time() - start < 4


def test_key_whose_beginning_is_missing_is_found_from_its_first_line() -> None:
    lines = "\n".join("QUJD" * 15 for _ in range(20))
    text = f"prose before it\n{lines}\n-----END RSA PRIVATE KEY-----\nprose after it"
    (secret,) = find_secrets(text)
    assert text[secret.start : secret.end].startswith("QUJD")
    assert secret.line == 2
    assert text[secret.end :] == "\nprose after it"
