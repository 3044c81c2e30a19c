"""What changed between two texts, by section: headings of Markdown, functions of code. JSON on stdin; Markdown on stdout."""

import difflib
import json
import re
import sys
from pathlib import Path

_HEADING = re.compile(r"^(?P<marks>#{1,6})\s+(?P<title>.+?)\s*#*$")
_CODE = re.compile(
    r"^(?P<indent>\s*)(?:async\s+)?(?:def|class|function|func|fn|struct|impl|interface)\s+(?P<title>[A-Za-z_][\w.]*)"
)
_LINES = 6
_RENAMED = 0.8  # how alike a section that is gone and a new one are, to be the same under another heading
_LONGEST = 160

Sections = dict[str, list[str]]


def main() -> int:
    """Exit code 1 with the reason on stderr where there is nothing to compare with."""
    asked = json.loads(sys.stdin.buffer.read() or b"{}")
    before = asked.get("since") or asked.get("old")
    if not before:
        print("diff-summary: say since when, or give an old file", file=sys.stderr)
        return 1
    old, new = (Path(place).read_text(encoding="utf-8", errors="replace") for place in (before, asked["file"]))
    print(report(old, new, int(asked.get("lines", _LINES))))
    return 0


def report(old: str, new: str, lines: int) -> str:
    """A line that says how much, then each section that is another."""
    if old == new:
        return "Nothing changed."
    before, after = sections(old), sections(new)
    gone, come = [name for name in before if name not in after], [name for name in after if name not in before]
    renamed = _renamed(before, after, gone, come)
    out, counts = [], {"added": 0, "removed": 0, "changed": 0, "renamed": len(renamed)}
    for name, text in after.items():
        source = renamed.get(name, name)
        if name in come and name not in renamed:
            counts["added"] += 1
            out += [f"## + {name}", "", *_shown([f"+ {line}" for line in text[1:] if line.strip()], lines), ""]
        elif before[source] != text or name in renamed:
            skipped = int(name in renamed)  # its heading
            lines_of = difflib.ndiff(before[source][skipped:], text[skipped:])
            changes = [each for each in lines_of if each[:1] in "+-" and each[2:].strip()]
            counts["changed"] += bool(changes)
            was = f" (was: {source})" if name in renamed else ""
            if changes or was:
                out += [f"## ~ {name}{was}", "", *_shown(changes, lines), ""]
    for name in gone:
        if name not in renamed.values():
            counts["removed"] += 1
            out += [f"## - {name}", "", *_shown([f"- {line}" for line in before[name][1:] if line.strip()], lines), ""]
    added, removed = _lines(old, new)
    said = ", ".join(f"{number} {what}" for what, number in counts.items() if number) or "blank lines only"
    return "\n".join([f"Sections: {said}. Lines: +{added} -{removed}.", "", *out]).rstrip()


def sections(text: str) -> Sections:
    """Title path → lines; what comes before the first heading is `(top)`."""
    found: Sections = {}
    stack: list[tuple[int, str]] = []
    name = "(top)"
    for line in text.splitlines():
        heading, code = _HEADING.match(line), _CODE.match(line)
        if heading or code:
            depth = len(heading["marks"]) if heading else len((code or {"indent": ""})["indent"]) + 10
            stack = [each for each in stack if each[0] < depth]
            stack.append((depth, (heading or code)["title"]))  # type: ignore[index]  # one of them matched
            name = " / ".join(title for _, title in stack)
            while name in found:
                name += "'"
        found.setdefault(name, []).append(line)
    return found


def _renamed(before: Sections, after: Sections, gone: list[str], come: list[str]) -> dict[str, str]:
    """New name → old name of sections whose text stayed much the same."""
    found: dict[str, str] = {}
    for name in come:
        alike = [(difflib.SequenceMatcher(None, before[old][1:], after[name][1:]).ratio(), old) for old in gone]
        best = max((each for each in alike if each[1] not in found.values()), default=(0.0, ""))
        if best[0] >= _RENAMED and len(after[name]) > 1:
            found[name] = best[1]
    return found


def _shown(lines: list[str], most: int) -> list[str]:
    """Some of the lines, and how many more there are."""
    kept = [line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …" for line in lines[:most]]
    return [*kept, *([f"… {len(lines) - most} more"] if len(lines) > most else [])]


def _lines(old: str, new: str) -> tuple[int, int]:
    changes = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0))[2:]
    return sum(line.startswith("+") for line in changes), sum(line.startswith("-") for line in changes)


if __name__ == "__main__":
    sys.exit(main())
