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
_LINES = 6
_RENAMED = 0.8  # ratio of common lines from which sections are one under two headings
_LONGEST = 160
MAX_FILE_BYTES = 5_000_000
MAX_COMPARED_PAIRS = 2500  # pairs of removed and added sections
MAX_COMPARED_LINES = 1_000_000  # product of the line counts of two sections

Sections = dict[str, list[str]]


def main() -> int:
    """Print the summary; return exit code 1, with the reason on stderr, if there is no text to compare with."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a TextIOWrapper
    try:
        asked = json.loads(sys.stdin.buffer.read() or b"{}")
        before = asked.get("since") or asked.get("old")
        if not before:
            raise ValueError("say since when, or give an old file")
        old, new = (read_text(place) for place in (before, asked["file"]))
        print(report(old, new, int(asked.get("lines", _LINES))))
    except (OSError, ValueError, MemoryError) as error:
        print(f"diff-summary: {error or 'the texts need more memory than a tool has'}", file=sys.stderr)
        return 1
    return 0


def read_text(place: str) -> str:
    """Return the text of a file. Raises ValueError if it is too large."""
    with open(place, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"a text has more than {MAX_FILE_BYTES} bytes")
    return data.decode("utf-8", "replace")


def report(old: str, new: str, lines: int) -> str:
    """Return the summary: a line of totals, then each changed section with at most `lines` lines."""
    if old == new:
        return "Nothing changed."
    before, after = sections(old), sections(new)
    gone, come = [name for name in before if name not in after], [name for name in after if name not in before]
    renamed = _renamed(before, after, gone, come)
    is_new, sources = frozenset(come), frozenset(renamed.values())
    out, counts = [], {"added": 0, "removed": 0, "changed": 0, "renamed": len(renamed)}
    for name, text in after.items():
        source = renamed.get(name, name)
        if name in is_new and name not in renamed:
            counts["added"] += 1
            out += [f"## + {name}", "", *_shown([f"+ {line}" for line in text[1:] if line.strip()], lines), ""]
        elif before[source] != text or name in renamed:
            skipped = int(name in renamed)  # the heading differs
            lines_of = _compared(before[source][skipped:], text[skipped:])
            changes = [each for each in lines_of if each[:1] in "+-" and each[2:].strip()]
            counts["changed"] += bool(changes)
            was = f" (was: {source})" if name in renamed else ""
            if changes or was:
                out += [f"## ~ {name}{was}", "", *_shown(changes, lines), ""]
    for name in gone:
        if name not in sources:
            counts["removed"] += 1
            out += [f"## - {name}", "", *_shown([f"- {line}" for line in before[name][1:] if line.strip()], lines), ""]
    added, removed = _lines(old, new)
    said = ", ".join(f"{number} {what}" for what, number in counts.items() if number) or "blank lines only"
    return "\n".join([f"Sections: {said}. Lines: +{added} -{removed}.", "", *out]).rstrip()


def sections(text: str) -> Sections:
    """Split a text into sections: title path → lines. Lines before the first heading belong to `(top)`."""
    found: Sections = {}
    stack: list[tuple[int, str]] = []
    name = "(top)"
    used: dict[str, int] = {}
    for line in text.splitlines():
        heading, code = _HEADING.match(line), _CODE.match(line)
        if heading or code:
            depth = len(heading["marks"]) if heading else len((code or {"indent": ""})["indent"]) + 10
            stack = [each for each in stack if each[0] < depth]
            title = heading["title"].rstrip().rstrip("#").rstrip() if heading else (code or {"title": ""})["title"]
            stack.append((depth, title[:_LONGEST]))
            name = " / ".join(title for _, title in stack)
            used[name] = used.get(name, 0) + 1
            name += f" ({used[name]})" if used[name] > 1 else ""
        found.setdefault(name, []).append(line)
    return found


def _compared(old: list[str], new: list[str]) -> Iterable[str]:
    """Return the changed lines with their marks.

    `ndiff` is not used, because its time grows with the cube of the lines.
    """
    lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
    return [f"{line[:1]} {line[1:]}" for line in lines if line[:1] in "+-"]


def _renamed(before: Sections, after: Sections, gone: list[str], come: list[str]) -> dict[str, str]:
    """Map new names to old names of sections whose text is similar."""
    found: dict[str, str] = {}
    if len(gone) * len(come) > MAX_COMPARED_PAIRS:
        return found
    for name in come:
        alike = [(_likeness(before[old][1:], after[name][1:]), old) for old in gone]
        best = max((each for each in alike if each[1] not in found.values()), default=(0.0, ""))
        if best[0] >= _RENAMED and len(after[name]) > 1:
            found[name] = best[1]
    return found


def _likeness(old: list[str], new: list[str]) -> float:
    """Return the ratio of common lines of two sections, in order; 0 if an upper bound of it is below the threshold."""
    if len(old) * len(new) > MAX_COMPARED_LINES:
        return 0.0
    matcher = difflib.SequenceMatcher(None, old, new)
    if matcher.real_quick_ratio() < _RENAMED or matcher.quick_ratio() < _RENAMED:
        return 0.0
    return matcher.ratio()


def _shown(lines: list[str], most: int) -> list[str]:
    """Return the first lines, shortened, and the number of the others."""
    kept = [line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …" for line in lines[:most]]
    return [*kept, *([f"… {len(lines) - most} more"] if len(lines) > most else [])]


def _lines(old: str, new: str) -> tuple[int, int]:
    changes = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0))[2:]
    return sum(line.startswith("+") for line in changes), sum(line.startswith("-") for line in changes)


if __name__ == "__main__":
    sys.exit(main())
