"""Patterns of paths, as people write them: `*` and `?` within a name, `**` for any number of names, `[ab]`, `{a,b}`. Pure."""

import re
from collections.abc import Callable

from ctxfs.model.errors import invalid

_MOST = 1000
_MOST_STARS = 12


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path is named by a pattern; one without a slash is about the name, wherever it is. OSError: EINVAL."""
    plain = pattern.strip("/")
    if not plain or len(plain) > _MOST:
        raise invalid(pattern[:80], "a pattern such as knowledge/**/*.md is needed")
    if "/" not in plain:
        plain = f"**/{plain}"
    plain = re.sub(r"(?:\*\*/)+", "**/", plain)
    if len(re.findall(r"\*+", plain)) > _MOST_STARS:  # each may be tried with every other
        raise invalid(pattern[:80], f"{_MOST_STARS} stars at most")
    try:
        return re.compile(_expression(plain)).fullmatch  # type: ignore[return-value]  # a match is true
    except re.error as error:
        raise invalid(pattern[:80], f"this is no pattern: {error}") from error


def _expression(pattern: str) -> str:
    out, at, depth = [], 0, 0
    while at < len(pattern):
        rest = pattern[at:]
        if rest.startswith("**/"):
            out.append("(?:[^/]+/)*")
            at += 3
        elif rest.startswith("**"):
            out.append(".*")
            at += 2
        elif rest[0] == "*":
            out.append("[^/]*")
            at += 1
        elif rest[0] == "?":
            out.append("[^/]")
            at += 1
        elif rest[0] == "[" and (end := rest.find("]", 2)) > 0:
            inside = rest[1:end].replace("\\", "\\\\")
            out.append(f"[{'^' if inside[0] in '!^' else ''}{inside.lstrip('!^')}]")
            at += end + 1
        elif rest[0] == "{" and "}" in rest:
            out.append("(?:")
            depth, at = depth + 1, at + 1
        elif depth and rest[0] in ",}":
            out.append("|" if rest[0] == "," else ")")
            depth, at = depth - (rest[0] == "}"), at + 1
        else:
            out.append(re.escape(rest[0]))
            at += 1
    return "".join(out)
