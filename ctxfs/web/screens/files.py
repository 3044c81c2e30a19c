"""The screen *Files*: directories, and of a file its content, attributes, versions, blame, differences and impact."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from ctxfs.index.extract.text_decoding import is_binary, read_text
from ctxfs.index.extract.text_formats import is_text_itself
from ctxfs.model.entry import Entry
from ctxfs.model.path import Path, lines_of, one_line
from ctxfs.rpc.wire import entry_from_wire
from ctxfs.store.layout import is_versioned
from ctxfs.threads import blocking
from ctxfs.web.diffs import MAX_PART_CHARACTERS, MAX_SHOWN_BYTES, cut_lines, diff_rows
from ctxfs.web.page import Page, Screen
from ctxfs.web.rows import MAX_ROWS, cut_rows
from ctxfs.web.tree_paths import crumbs, resolve_link

_MAX_DOCUMENT_CHARACTERS = 100_000  # a longer text is shown in lines, by parts
_MARKDOWN = (".md", ".markdown")
_SCREEN = "file"


async def _file(page: Page) -> Response:
    path = Path.parse(page.query.get("path", ""))
    view = page.query.get("view", "content")
    common = {"path": path, "crumbs": crumbs(path), "view": view, "views": _views_of(path)}
    # A file that is gone has a past.
    if view in _PAST_VIEWS:
        return page.render(f"file_{view}.html", entry=None, **common, **await _PAST_VIEWS[view](page, path))
    if revision := page.query.get("at", ""):
        data: bytes = await page.call("show", path=str(path), at=revision)
        return page.render("file_content.html", entry=None, **common, **await text_values(page, path, data))
    entry = entry_from_wire(await page.call("stat", path=str(path)))
    if entry.kind == "dir":
        entries = [entry_from_wire(row) for row in await page.call("list", path=str(path))]
        return page.render(
            "directory.html", entry=entry, rows=cut_rows(entries, page.number("page", 1)), join=_join, **common
        )
    if entry.kind == "link":
        return page.render("link.html", entry=entry, target=resolve_link(path, entry.target), **common)
    if view == "metadata":
        attributes = await page.call("metadata", path=str(path))
        return page.render("file_metadata.html", entry=entry, attributes=_texts(attributes), **common)
    return page.render("file_content.html", entry=entry, **common, **await _content(page, path, entry))


def _views_of(path: Path) -> Sequence[tuple[str, str]]:
    names = [
        "content",
        "metadata",
        *(_PAST_VIEWS if is_versioned(path) else ()),
        *(() if is_versioned(path) else ("impact",)),
    ]
    return [(name, name.capitalize()) for name in dict.fromkeys(names)]


def _join(path: Path, name: str) -> str:
    return f"{path}/{name}" if path.parts else name


def _texts(attributes: Mapping[str, bytes]) -> Sequence[tuple[str, str]]:
    return [(name, value.decode("utf-8", "replace")) for name, value in sorted(attributes.items())]


# content


_NOTHING: Mapping[str, object] = {
    **dict.fromkeys(("rows", "document", "passages")),
    **dict.fromkeys(("label", "note", "reason", "unit", "format"), ""),
    "is_markdown": False,
}
_TOO_LARGE = f"it is larger than {MAX_SHOWN_BYTES // 1_000_000} MB: ctxfs cat, or an editor, shows it"


async def _content(page: Page, path: Path, entry: Entry) -> Mapping[str, object]:
    """Return the values of the content: lines, or a document, or why there is nothing to show."""
    if entry.size is not None and entry.size > MAX_SHOWN_BYTES:
        return {**_NOTHING, "reason": _TOO_LARGE}
    reply = await page.call("read_extracted", path=str(path))
    marks = {"label": reply["label"], "note": reply["note"]}
    if reply["format"] and not (reply["reason"] and is_text_itself(reply["format"])):
        return {**_NOTHING, **marks, **_passages(page, reply)}
    return {**await text_values(page, path, reply["data"]), **marks}


async def text_values(page: Page, path: Path, data: bytes, *, as_lines: bool = False) -> Mapping[str, object]:
    """Return the values of a text: a document for Markdown, else lines, with the syntax of source code."""
    if len(data) > MAX_SHOWN_BYTES:
        return {**_NOTHING, "reason": _TOO_LARGE}
    text = await blocking(_decode, data)
    if text is None:
        return {**_NOTHING, "reason": "it is no text"}
    is_markdown = path.name.lower().endswith(_MARKDOWN)
    as_lines = as_lines or page.query.get("plain") == "1"
    if is_markdown and not as_lines and len(text) <= _MAX_DOCUMENT_CHARACTERS:
        base = page.url_base(_SCREEN, "path")
        document = await page.renderer.markdown(lines_of(text), path.parent.parts, base)
        if document is not None:
            return {**_NOTHING, "document": document, "is_markdown": True}
    shown = [one_line(line) for line in text.split("\n")]
    rows = cut_rows(shown, page.number("page", 1))
    code = await page.renderer.code(path.name, "\n".join(shown))
    if code is not None and len(code) == len(shown):
        part = cut_rows(code, rows.number)
        if sum(map(len, part.items)) <= MAX_PART_CHARACTERS:
            return {**_NOTHING, "rows": part, "is_markdown": is_markdown}
    return {**_NOTHING, "rows": replace(rows, items=cut_lines(rows.items)), "is_markdown": is_markdown}


def _decode(data: bytes) -> str | None:
    """Return a text with its control characters, so that they can be shown; None for binary content."""
    if is_binary(data):
        return None
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return read_text(data)


def _passages(page: Page, reply: Mapping[str, Any]) -> dict[str, object]:
    """Return the lines of a PDF, an office file or a mail, with the numbers of their passages."""
    if reply["reason"]:
        return {"reason": f"a {reply['format']} file: {reply['reason']}"}
    rows = [(row[1], line) for row in reply["passages"] for line in str(row[0]).split("\n")]
    part = cut_rows(rows, page.number("page", 1))
    lines = cut_lines([line for _, line in part.items])
    part = replace(part, items=[(number, line) for (number, _), line in zip(part.items, lines, strict=True)])
    return {"passages": part, "unit": reply["unit"], "format": reply["format"]}


# versions


async def _versions(page: Page, path: Path) -> dict[str, object]:
    number = page.number("page", 1, 10_000)
    entries = await page.call("log", path=str(path), limit=number * MAX_ROWS + 1, changes=True)
    return {"rows": cut_rows(entries, number), "is_all": len(entries) <= number * MAX_ROWS}


async def _blame(page: Page, path: Path) -> dict[str, object]:
    at = page.query.get("at", "latest")
    lines = await page.call("blame", path=str(path), at=at)
    part = cut_rows(lines, page.number("page", 1))
    texts = cut_lines([line["text"].decode("utf-8", "replace") for line in part.items])
    rows = [{**line, "text": text} for line, text in zip(part.items, texts, strict=True)]
    return {"rows": replace(part, items=rows), "at": at}


async def _diff(page: Page, path: Path) -> dict[str, object]:
    old, new = page.query.get("old", ""), page.query.get("new", "") or "latest"
    if not old:
        newest = await page.call("log", path=str(path), limit=2)
        old = newest[1]["revision"] if len(newest) > 1 else "latest"
    data: bytes = await page.call("diff", path=str(path), old=old, new=new)
    return {"rows": diff_rows(data, page.number("page", 1)), "old": old, "new": new}


async def _impact(page: Page, path: Path) -> dict[str, object]:
    report = await page.call("impact", path=str(path))
    rows = [(kind, record) for kind in ("files", "contexts", "answers", "exports") for record in report[kind]]
    return {"rows": cut_rows(rows, page.number("page", 1)), "seeds": report["seeds"]}


_PAST_VIEWS: Mapping[str, Callable[[Page, Path], Awaitable[dict[str, object]]]] = {
    "versions": _versions,
    "blame": _blame,
    "diff": _diff,
    "impact": _impact,
}

SCREENS = (Screen(_SCREEN, _file, "Files"),)
