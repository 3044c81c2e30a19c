"""The Open Knowledge Format, version 0.2: conformance of a directory tree of Markdown files, and front matter to write. Pure.

A bundle of the format is conformant if every concept (a `.md` file other than `index.md` and `log.md`) begins with front
matter in YAML that has a non-empty `type`, and if `index.md` and `log.md` have their structure. All else is soft: unknown
fields and types, broken links and missing indexes are no faults.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

OKF_VERSION = "0.2"
RESERVED = ("index.md", "log.md")
STATUSES = ("draft", "stable", "deprecated")
_FENCE = "---"
_ENTRY = re.compile(r"[*+-] +\[[^\]\n]*\]\([^)\n]*\)")
_DATE_HEADING = re.compile(r"## +(\S+)")
_MAX_FAULTS = 20  # of one file


def is_concept(name: str) -> bool:
    """Return True for the name of a Markdown file that is no index and no log."""
    return name.endswith(".md") and name not in RESERVED


def split_front_matter(text: str) -> tuple[str | None, str]:
    """Return (YAML between the lines `---`, body); (None, text) without front matter."""
    lines = text.removeprefix("\ufeff").split("\n")
    if lines[0].rstrip() != _FENCE:
        return None, text
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    return (None, text) if end is None else ("\n".join(lines[1:end]), "\n".join(lines[end + 1 :]))


def check_concept(fields: Mapping[str, Any] | None) -> tuple[list[str], list[str]]:
    """Return (faults, remarks) on the front matter of a concept; None if it has none that is a table."""
    if fields is None:
        return ["has no front matter in YAML"], []
    kind = fields.get("type")
    faults = [] if isinstance(kind, str) and kind.strip() else ["has no type"]
    return faults, list(_remarks(fields))[:_MAX_FAULTS]


def _remarks(fields: Mapping[str, Any]) -> Iterator[str]:
    tags = fields.get("tags")
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        yield "tags is no list of texts"
    if (status := fields.get("status")) is not None and status not in STATUSES:
        yield f"status is none of {', '.join(STATUSES)}"
    if (stale := fields.get("stale_after")) is not None and not _is_day(stale):
        yield "stale_after is no date as 2026-11-30"
    for name in ("generated", "verified"):
        value = fields.get(name)
        entries = value if isinstance(value, list) and name == "verified" else [value]
        if value is not None and not all(isinstance(entry, dict) and entry.get("by") for entry in entries):
            yield f"{name} has an entry without by"
    sources = fields.get("sources")
    if sources is not None:
        entries = sources if isinstance(sources, list) else [None]
        if not all(isinstance(entry, dict) and entry.get("resource") for entry in entries):
            yield "sources has an entry without resource"


def check_index(text: str, *, is_root: bool) -> list[str]:
    """Return the faults of an `index.md`: front matter is only for `okf_version` at the root, and lists have links."""
    fields, body = split_front_matter(text)
    faults = []
    if fields is not None and not (is_root and re.fullmatch(r"okf_version:[^\n]*", fields.strip())):
        faults.append("has front matter, which only okf_version in the index of the root may be")
    items = [line for line in body.split("\n") if re.match(r"[*+-] ", line)]
    if any(not _ENTRY.match(item) for item in items):
        faults.append("has an entry that is no link")
    return faults


def check_log(text: str) -> list[str]:
    """Return the faults of a `log.md`: its headings of the second level are dates, the newest first."""
    days = [match[1].rstrip(":") for line in text.split("\n") if (match := _DATE_HEADING.match(line))]
    faults = [f"has the heading '{day[:20]}', which is no date as 2026-11-30" for day in days if not _is_day(day)]
    if not faults and days != sorted(days, reverse=True):
        faults.append("has not the newest day first")
    return faults[:_MAX_FAULTS]


def _is_day(value: object) -> bool:
    try:
        date.fromisoformat(str(value)[:10])
    except ValueError:
        return False
    return True


def missing_fields(fields: Mapping[str, Any], attributes: Mapping[str, str], default_type: str) -> dict[str, Any]:
    """Return the fields that the front matter of a concept lacks, from the attributes of its file by short names."""
    found: dict[str, Any] = {}
    if not (isinstance(fields.get("type"), str) and fields["type"].strip()):
        found["type"] = attributes.get("kind") or default_type
    if "description" not in fields and attributes.get("description"):
        found["description"] = " ".join(attributes["description"].split())
    if "tags" not in fields and attributes.get("tags"):
        found["tags"] = [tag.strip() for tag in attributes["tags"].split(",") if tag.strip()]
    if "sources" not in fields and attributes.get("source"):
        found["sources"] = [{"resource": attributes["source"]}]
    if "stale_after" not in fields and attributes.get("expires_at"):
        found["stale_after"] = attributes["expires_at"][:10]
    if "confidence" not in fields and attributes.get("confidence"):
        found["confidence"] = float(attributes["confidence"])
    return found


def make_index(entries: Mapping[str, tuple[str, str]], *, is_root: bool) -> str:
    """Return an `index.md` of (title, description) by relative link; a link of a directory ends with a slash."""
    lines = [f'---\nokf_version: "{OKF_VERSION}"\n---\n'] if is_root else []
    for heading, is_directory in (("Concepts", False), ("Directories", True)):
        chosen = {link: entry for link, entry in sorted(entries.items()) if link.endswith("/") is is_directory}
        if chosen:
            lines.append(f"# {heading}\n")
            lines += [_index_entry(link, *entry) for link, entry in chosen.items()]
            lines.append("")
    return "\n".join(lines)


def _index_entry(link: str, title: str, description: str) -> str:
    target = link.replace(" ", "%20").replace("(", "%28").replace(")", "%29")
    text = title.replace("[", "(").replace("]", ")")
    return f"* [{text}]({target})" + (f" - {description}" if description else "")
