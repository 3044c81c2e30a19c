"""Facts, dates, links, mail addresses, numbers and names of a text, by rules alone. JSON on stdin; line, kind and value on stdout.

A fact is a sentence that says what something is or has, or a line `key: value`.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_FINDS = {
    "date": re.compile(
        rf"\b(?:\d{{4}}-\d\d-\d\d|\d{{1,2}}\s+{_MONTH}(?:\s+\d{{4}})?|{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?)\b",
        re.IGNORECASE,
    ),
    "link": re.compile(r"\bhttps?://[^\s<>\"')\]]+[^\s<>\"')\].,;:!?]"),
    "mail": re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    "number": re.compile(r"(?<![\w.-])[-+]?\d+(?:[.,]\d+)*(?:\s?%|\s?[kKMG]?B\b)?(?![\w-])"),
    "name": re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][a-z]+(?:\s+[A-Z][a-z]+)*\b"),
}


_SENTENCE = re.compile(r"[^.!?]+(?:[.!?]+(?=\s|$)|$)")
_SAYS = re.compile(
    r"^(?!(?:it|this|that|there|these|those|what|who|which|if|when|i|we|you|they)\b)[^,;:?]{2,60}?"
    r"\b(?:is|are|was|were|has|have|had|means|equals|costs|lives|works|runs|uses|requires|needs|belongs|contains|consists|starts|ends)\b"
    r"\s+\S.*[^?]$",
    re.IGNORECASE,
)
_PAIR = re.compile(r"^\s*(?:[-*]\s+)?(?:\*\*)?(?P<key>[A-Z][\w /-]{1,40}?)(?:\*\*)?:(?:\*\*)?\s+(?P<value>\S.{0,200})$")


def main() -> int:
    """Exit code 1 with the reason on stderr where there is nothing to look at."""
    asked = json.loads(sys.stdin.buffer.read() or b"{}")
    try:
        text = Path(asked["file"]).read_text(encoding="utf-8", errors="replace") if "file" in asked else asked["text"]
    except (OSError, KeyError):
        print("extract: give a file or a text", file=sys.stderr)
        return 1
    for kind, value, line in finds(text, asked.get("kinds") or [*_FINDS, "fact"]):
        print(f"{line}\t{kind}\t{value}")
    return 0


def finds(text: str, kinds: list[str]) -> Iterator[tuple[str, str, int]]:
    """(kind, what was found, line); a link, a date or an address is not found again as numbers and names."""
    for number, line in enumerate(text.split("\n"), 1):
        if "fact" in kinds:
            for fact in facts(line):
                yield "fact", fact, number
        rest = line
        for kind in ("link", "mail", "date", "number", "name"):
            for found in _FINDS[kind].finditer(rest):
                if kind in kinds:
                    yield kind, found[0], number
            if kind in ("link", "mail", "date"):
                rest = _FINDS[kind].sub(lambda match: " " * len(match[0]), rest)


def facts(line: str) -> Iterator[str]:
    """What a line says of something, a sentence each."""
    if pair := _PAIR.match(line):
        yield f"{pair['key'].strip()}: {pair['value'].strip()}"
        return
    for found in _SENTENCE.finditer(line.lstrip("-*># ")):
        sentence = found[0].strip()
        if 10 <= len(sentence) <= 300 and _SAYS.match(sentence):
            yield sentence


if __name__ == "__main__":
    sys.exit(main())
