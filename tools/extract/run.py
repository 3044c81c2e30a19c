"""Extract facts, dates, links, mail addresses, numbers and names from a text, by rules alone.

Input: JSON on stdin. Output: lines of line number, kind and value. A fact is a statement that something is or has
something, or a line `key: value`.
"""

import json
import re
import sys
from collections.abc import Iterator

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_PATTERNS = {
    "date": re.compile(
        rf"\b(?:\d{{4}}-\d\d-\d\d|\d{{1,2}}\s+{_MONTH}(?:\s+\d{{4}})?|{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?)\b",
        re.IGNORECASE,
    ),
    "link": re.compile(r"\bhttps?://[^\s<>\"'\]]{1,2000}"),
    # Bounded lengths, and matches that start only at the start of a run, keep the time linear in the text.
    "mail": re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,10}\b"),
    "number": re.compile(r"(?<![\w.-])[-+]?\d{1,40}(?:[.,]\d{1,40}){0,10}(?:\s?%|\s?[kKMG]?B\b)?(?![\w-])"),
    "name": re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][a-z]{1,40}(?:\s{1,10}[A-Z][a-z]{1,40}){0,10}\b"),
}
MAX_FILE_BYTES = 20_000_000

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_STATEMENT = re.compile(
    r"^(?!(?:it|this|that|there|these|those|what|who|which|if|when|i|we|you|they)\b)[^,;:?]{2,60}?"
    r"\b(?:is|are|was|were|has|have|had|means|equals|costs|lives|works|runs|uses|requires|needs|belongs|contains|consists|starts|ends)\b"
    r"\s+\S.*[^?]$",
    re.IGNORECASE,
)
_PAIR = re.compile(r"^\s*(?:[-*]\s+)?(?:\*\*)?(?P<key>[A-Z][\w /-]{1,40}?)(?:\*\*)?:(?:\*\*)?\s+(?P<value>\S.{0,200})$")


def main() -> int:
    """Print the matches; return exit code 1, with the reason on stderr, for a missing or unreadable text."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a TextIOWrapper
    try:
        arguments = json.loads(sys.stdin.buffer.read() or b"{}")
        if "file" not in arguments and "text" not in arguments:
            raise ValueError("give a file or a text")
        text = read_text(arguments["file"]) if "file" in arguments else str(arguments["text"])
        for kind, value, line in find_matches(text, arguments.get("kinds") or [*_PATTERNS, "fact"]):
            print(f"{line}\t{kind}\t{value}")
    except (OSError, ValueError, MemoryError) as error:
        print(f"extract: {error or 'the text needs more memory than a tool has'}", file=sys.stderr)
        return 1
    return 0


def read_text(path: str) -> str:
    """Return the text of a file. Raises ValueError if it is too large."""
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"the file has more than {MAX_FILE_BYTES} bytes")
    return data.decode("utf-8", "replace")


def find_matches(text: str, kinds: list[str]) -> Iterator[tuple[str, str, int]]:
    """Yield (kind, value, line); the text of links, mail addresses and dates is excluded from numbers and names."""
    for number, line in enumerate(text.split("\n"), 1):
        if "fact" in kinds:
            for fact in find_facts(line):
                yield "fact", fact, number
        rest = line
        for kind in ("link", "mail", "date", "number", "name"):
            values = [(match.start(), match[0]) for match in _PATTERNS[kind].finditer(rest)]
            if kind == "link":
                values = [(start, _trim_link(link)) for start, link in values]
            if kind in kinds:
                yield from ((kind, value, number) for _, value in values)
            if kind in ("link", "mail", "date"):
                rest = _blank(rest, values)


def _blank(line: str, values: list[tuple[int, str]]) -> str:
    """Return the line with blanks in the place of these (offset, text) pairs."""
    parts, end = [], 0
    for start, value in values:
        parts += [line[end:start], " " * len(value)]
        end = start + len(value)
    return "".join([*parts, line[end:]])


def _trim_link(link: str) -> str:
    """Return a link without the punctuation after it, and without a closing parenthesis that is not opened in it."""
    opened = link.count("(") - link.count(")")
    while link[-1] in ".,;:!?" or (link[-1] == ")" and opened < 0):
        opened += link[-1] == ")"
        link = link[:-1]
    return link


def find_facts(line: str) -> Iterator[str]:
    """Yield the facts of a line, one for each sentence."""
    if pair := _PAIR.match(line):
        yield f"{pair['key'].strip()}: {pair['value'].strip()}"
        return
    for part in _SENTENCE_END.split(line.lstrip("-*># ")):
        sentence = part.strip()
        if 10 <= len(sentence) <= 300 and _STATEMENT.match(sentence):
            yield sentence


if __name__ == "__main__":
    sys.exit(main())
