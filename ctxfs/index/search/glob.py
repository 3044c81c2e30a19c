"""Glob patterns for paths: `*` and `?` within a name, `**` for any number of names, `[ab]`, `{a,b}`. Pure.

Agents supply the patterns, so that matching takes time in proportion to pattern × path.
Braces are expanded. A name is matched by an expression that never backtracks over a star,
and `**` by a table over names.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from ctxfs.model.errors import invalid

MAX_PATTERN_CHARS = 1000
MAX_STARS = 12
MAX_ALTERNATIVES = 64  # patterns that braces expand to
_ANY_NAMES = None
_SET_SYNTAX = re.compile(r"[\\\[&~|]")  # characters with a special meaning within a set in Python

# A compiled name, or any number of names
_Step = Callable[[str], object] | None


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that matches a path against a pattern. A pattern without a slash matches the name at any depth.

    Raise OSError EINVAL for an invalid pattern.
    """
    plain = pattern.strip("/")
    if not plain or len(plain) > MAX_PATTERN_CHARS:
        raise invalid(pattern[:80], "a pattern such as knowledge/**/*.md is needed")
    if "/" not in plain:
        plain = f"**/{plain}"
    if len(re.findall(r"\*+", plain)) > MAX_STARS:
        raise invalid(pattern[:80], f"{MAX_STARS} stars at most")
    try:
        steps = [_compile_steps(alternative) for alternative in _expand(plain)]
    except re.error as error:
        raise invalid(pattern[:80], f"this is no pattern: {error}") from error

    def matches(path: str) -> bool:
        names = path.split("/")
        return any(_match_names(alternative, names) for alternative in steps)

    return matches


def _expand(pattern: str) -> list[str]:
    """Return the pattern once for each choice of its `{a,b}`. Raise OSError EINVAL for too many."""
    expanded: list[str] = []
    pending = [pattern]
    while pending:
        alternative = pending.pop()
        choice = _split_first_choice(alternative)
        if choice is None:
            expanded.append(alternative)
        else:
            pending.extend(reversed(choice))
        if len(expanded) + len(pending) > MAX_ALTERNATIVES:
            raise invalid(pattern[:80], f"its braces stand for more than {MAX_ALTERNATIVES} patterns")
    return expanded


def _split_first_choice(pattern: str) -> list[str] | None:
    """Return the pattern with its first outermost braces replaced by each of their parts.

    Return None if it has no closed braces.
    """
    start = -1
    depth, cuts = 0, []
    for index, character in enumerate(pattern):
        if character == "{" and (depth or "}" in pattern[index:]):
            if not depth:
                start, cuts = index, [index]
            depth += 1
        elif depth and character == "," and depth == 1:
            cuts.append(index)
        elif depth and character == "}":
            depth -= 1
            if not depth:
                parts = [pattern[a + 1 : b] for a, b in zip(cuts, [*cuts[1:], index], strict=True)]
                return [pattern[:start] + part + pattern[index + 1 :] for part in parts]
    if start >= 0:
        raise re.error("a brace is not closed")
    return None


def _compile_steps(pattern: str) -> list[_Step]:
    steps: list[_Step] = []
    names = pattern.split("/")
    for index, name in enumerate(names):
        if name != "**":
            steps.append(_compile_name(name))
        elif not steps or steps[-1] is not _ANY_NAMES:
            steps.append(_ANY_NAMES)
        if name == "**" and index == len(names) - 1:
            steps.append(_compile_name("*"))  # the files below a folder, not the folder itself
    return steps


def _compile_name(name: str) -> Callable[[str], object]:
    """Return a matcher for one name.

    The run after a star matches at its first position, which leaves the most text for later runs.
    """
    runs = ["".join(run) for run in _split_runs(name)]
    if len(runs) == 1:
        return re.compile(runs[0], re.DOTALL).fullmatch
    middle = "".join(f"(?>.*?{run})" for run in runs[1:-1])
    return re.compile(f"{runs[0]}{middle}.*{runs[-1]}", re.DOTALL).fullmatch


def _split_runs(name: str) -> Iterator[list[str]]:
    """Yield the runs between the stars of a name, as expressions of fixed length."""
    run: list[str] = []
    index = 0
    while index < len(name):
        if name[index] == "*":
            yield run
            run = []
            while index < len(name) and name[index] == "*":
                index += 1
            continue
        if name[index] == "[" and (end := name.find("]", index + 2)) > 0:
            characters = _SET_SYNTAX.sub(r"\\\g<0>", name[index + 1 : end])
            run.append(f"[{'^' if characters[0] in '!^' else ''}{characters.lstrip('!^')}]")
            index = end + 1
            continue
        run.append("." if name[index] == "?" else re.escape(name[index]))
        index += 1
    yield run


def _match_names(steps: Sequence[_Step], names: Sequence[str]) -> bool:
    """Return True if the steps match all of the names; `**` matches any number of names, including none."""
    reached = {0}  # possible numbers of matched names
    for step in steps:
        if step is _ANY_NAMES:
            reached = set(range(min(reached), len(names) + 1)) if reached else reached
        else:
            reached = {count + 1 for count in reached if count < len(names) and step(names[count])}
        if not reached:
            return False
    return len(names) in reached
