"""Summarise the changes between two texts by section: headings of Markdown, functions of code.

Input: JSON on stdin. Output: Markdown on stdout.
"""

import difflib
import json
import re
import sys
from collections.abc import Iterable

_HEADING = re.compile(r"^(?P<marks>#{1,6})\s+(?=\S)(?P<title>.+)$")
_CODE = re.compile(
    r"^(?P<indent>\s*)(?:async\s+)?(?:def|class|function|func|fn|struct|impl|interface)\s+(?P<title>[A-Za-z_][\w.]*)"
)
_DEFAULT_LINES = 6
_MIN_LIKENESS = 0.8  # ratio of common lines from which sections are one under two headings
_MAX_LINE_CHARS = 160
MAX_FILE_BYTES = 5_000_000
MAX_COMPARED_PAIRS = 2500  # pairs of removed and added sections
MAX_COMPARED_LINES = 1_000_000  # product of the line counts of two sections

Sections = dict[str, list[str]]


def main() -> int:
    """Print the summary; return exit code 1, with the reason on stderr, if there is no text to compare with."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a TextIOWrapper
    try:
        arguments = json.loads(sys.stdin.buffer.read() or b"{}")
        before = arguments.get("since") or arguments.get("old")
        if not before:
            raise ValueError("say since when, or give an old file")
        old, new = (read_text(path) for path in (before, arguments["file"]))
        print(report(old, new, int(arguments.get("lines", _DEFAULT_LINES))))
    except (OSError, ValueError, MemoryError) as error:
        print(f"diff-summary: {error or 'the texts need more memory than a tool has'}", file=sys.stderr)
        return 1
    return 0


def read_text(path: str) -> str:
    """Return the text of a file. Raises ValueError if it is too large."""
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"a text has more than {MAX_FILE_BYTES} bytes")
    return data.decode("utf-8", "replace")


def report(old: str, new: str, lines: int) -> str:
    """Return the summary: a line of totals, then each changed section with at most `lines` lines."""
    if old == new:
        return "Nothing changed."
    before, after = sections(old), sections(new)
    removed, added = [name for name in before if name not in after], [name for name in after if name not in before]
    renamed = _match_renamed(before, after, removed, added)
    is_new, sources = frozenset(added), frozenset(renamed.values())
    output, counts = [], {"added": 0, "removed": 0, "changed": 0, "renamed": len(renamed)}
    for name, text in after.items():
        source = renamed.get(name, name)
        if name in is_new and name not in renamed:
            counts["added"] += 1
            output += [f"## + {name}", "", *_shorten([f"+ {line}" for line in text[1:] if line.strip()], lines), ""]
        elif before[source] != text or name in renamed:
            skipped = int(name in renamed)  # the heading differs
            lines_of = _changed_lines(before[source][skipped:], text[skipped:])
            changes = [line for line in lines_of if line[:1] in "+-" and line[2:].strip()]
            counts["changed"] += bool(changes)
            old_heading = f" (was: {source})" if name in renamed else ""
            if changes or old_heading:
                output += [f"## ~ {name}{old_heading}", "", *_shorten(changes, lines), ""]
    for name in removed:
        if name not in sources:
            counts["removed"] += 1
            output += [
                f"## - {name}",
                "",
                *_shorten([f"- {line}" for line in before[name][1:] if line.strip()], lines),
                "",
            ]
    added_lines, removed_lines = _count_changes(old, new)
    totals = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number) or "blank lines only"
    return "\n".join([f"Sections: {totals}. Lines: +{added_lines} -{removed_lines}.", "", *output]).rstrip()


def sections(text: str) -> Sections:
    """Split a text into sections: title path → lines. Lines before the first heading belong to `(top)`."""
    title_lines: Sections = {}
    stack: list[tuple[int, str]] = []
    name = "(top)"
    used: dict[str, int] = {}
    for line in text.splitlines():
        heading, code = _HEADING.match(line), _CODE.match(line)
        if heading or code:
            depth = len(heading["marks"]) if heading else len((code or {"indent": ""})["indent"]) + 10
            stack = [entry for entry in stack if entry[0] < depth]
            title = heading["title"].rstrip().rstrip("#").rstrip() if heading else (code or {"title": ""})["title"]
            stack.append((depth, title[:_MAX_LINE_CHARS]))
            name = " / ".join(title for _, title in stack)
            used[name] = used.get(name, 0) + 1
            name += f" ({used[name]})" if used[name] > 1 else ""
        title_lines.setdefault(name, []).append(line)
    return title_lines


def _changed_lines(old: list[str], new: list[str]) -> Iterable[str]:
    """Return the changed lines with their marks.

    `ndiff` is not used, because its time grows with the cube of the lines.
    """
    lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
    return [f"{line[:1]} {line[1:]}" for line in lines if line[:1] in "+-"]


def _match_renamed(before: Sections, after: Sections, removed: list[str], added: list[str]) -> dict[str, str]:
    """Map new names to old names of sections whose text is similar."""
    old_names: dict[str, str] = {}
    if len(removed) * len(added) > MAX_COMPARED_PAIRS:
        return old_names
    for name in added:
        candidates = [(_likeness(before[old][1:], after[name][1:]), old) for old in removed]
        best = max((candidate for candidate in candidates if candidate[1] not in old_names.values()), default=(0.0, ""))
        if best[0] >= _MIN_LIKENESS and len(after[name]) > 1:
            old_names[name] = best[1]
    return old_names


def _likeness(old: list[str], new: list[str]) -> float:
    """Return the ratio of common lines of two sections, in order; 0 if an upper bound of it is below the threshold."""
    if len(old) * len(new) > MAX_COMPARED_LINES:
        return 0.0
    matcher = difflib.SequenceMatcher(None, old, new)
    if matcher.real_quick_ratio() < _MIN_LIKENESS or matcher.quick_ratio() < _MIN_LIKENESS:
        return 0.0
    return matcher.ratio()


def _shorten(lines: list[str], max_lines: int) -> list[str]:
    """Return the first lines, shortened, and the number of the others."""
    shortened = [line if len(line) <= _MAX_LINE_CHARS else f"{line[:_MAX_LINE_CHARS]} …" for line in lines[:max_lines]]
    return [*shortened, *([f"… {len(lines) - max_lines} more"] if len(lines) > max_lines else [])]


def _count_changes(old: str, new: str) -> tuple[int, int]:
    changes = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0))[2:]
    return sum(line.startswith("+") for line in changes), sum(line.startswith("-") for line in changes)


if __name__ == "__main__":
    sys.exit(main())
