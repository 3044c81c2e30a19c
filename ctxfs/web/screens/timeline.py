"""The screen *Time*: versions in lanes by agent and session, the change that each makes, snapshots, and a file at a time."""

import errno
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from ctxfs.model.path import Path
from ctxfs.rpc.wire import entry_from_wire
from ctxfs.store.layout import is_versioned
from ctxfs.web.diffs import diff_rows
from ctxfs.web.lanes import lay_lanes
from ctxfs.web.page import Page, Screen
from ctxfs.web.rows import MAX_ROWS, cut_rows
from ctxfs.web.screens import rollback
from ctxfs.web.screens.files import text_values

_ROWS = 100
_SHOWN_CHANGES = 50
_FILTERS = ("principal", "session", "since", "until")


async def _time(page: Page) -> Response:
    path = Path.parse(page.query.get("path", ""))
    filters = {name: page.query.get(name, "").strip() for name in _FILTERS}
    values: dict[str, object] = {"path": path, "filters": filters, "fault": "", "below": []}
    at = page.query.get("at", "")
    try:
        entries = await page.call("log", path=str(path), limit=_ROWS + 1, at=at, **filters)
    except PermissionError as error:
        if error.errno != errno.EACCES:
            raise
        entries = []
        values |= {"fault": error.strerror, "below": await _directories(page, path)}
    snapshots = await _snapshots(page)
    flags = defaultdict[str, list[str]](list)
    for snapshot in snapshots:
        flags[snapshot["revision"]].append(snapshot["name"])
    rows = entries[:_ROWS]
    values |= {"rows": rows, "lanes": lay_lanes(rows), "flags": flags, "snapshots": cut_rows(snapshots, 1)}
    return page.render("time.html", at=at, older=entries[_ROWS]["revision"] if len(entries) > _ROWS else "", **values)


async def _snapshots(page: Page) -> Sequence[Mapping[str, Any]]:
    """Return the snapshots, the newest first; none for a principal that may not list them."""
    try:
        snapshots: list[Mapping[str, Any]] = await page.call("snapshots")
    except PermissionError:
        return []
    return sorted(snapshots, key=lambda snapshot: -int(snapshot["time_ns"]))


async def _directories(page: Page, path: Path) -> Sequence[str]:
    """Return the directories with versions in a directory."""
    entries = [entry_from_wire(row) for row in await page.call("list", path=str(path))]
    below = [Path((*path.parts, entry.name)) for entry in entries if entry.kind == "dir"]
    return [str(directory) for directory in below if is_versioned(directory)][:MAX_ROWS]


async def _version(page: Page) -> Response:
    """Show the changes of a version, at a path and below it."""
    path, at = Path.parse(page.query.get("path", "")), page.query.get("at", "") or "latest"
    entries = await page.call("log", path=str(path), limit=1, at=at, changes=True)
    data: bytes = await page.call("diff", path=str(path), old="prev", new=at)
    changes = entries[0]["changes"] if entries else []
    return page.render(
        "time_version.html",
        path=path,
        version=entries[0] if entries else None,
        changes=changes[:_SHOWN_CHANGES],
        change_count=len(changes),
        rows=diff_rows(data, page.number("page", 1)),
    )


async def _file(page: Page) -> Response:
    """Show a file as of one of its versions, which a slider selects."""
    path = Path.parse(page.query.get("path", ""))
    entries = await page.call("log", path=str(path), limit=MAX_ROWS + 1)
    versions = entries[:MAX_ROWS][::-1]
    number = min(page.number("n", max(1, len(versions))), len(versions))
    chosen = versions[number - 1] if versions else None
    values: dict[str, object] = {"path": path, "count": len(versions), "number": number, "chosen": chosen}
    values["has_more"] = len(entries) > MAX_ROWS
    if chosen is not None:
        values |= await _content_at(page, path, chosen["revision"])
    return page.render("time_file_part.html" if page.is_fragment else "time_file.html", **values)


async def _content_at(page: Page, path: Path, revision: str) -> Mapping[str, object]:
    try:
        data: bytes = await page.call("show", path=str(path), at=revision)
    except FileNotFoundError:
        return {"rows": None, "reason": "the version removed it"}
    except IsADirectoryError:
        return {"rows": None, "reason": "it was a directory"}
    values = await text_values(page, path, data, as_lines=True)
    return {"rows": values["rows"], "reason": values["reason"]}


async def _make_snapshot(page: Page) -> Response:
    await page.call("snapshot", name=page.form.get("name", "").strip())
    return page.redirect("time")


SCREENS = (
    Screen("time", _time, "Time"),
    Screen("time/version", _version),
    Screen("time/file", _file),
    Screen("time/snapshot", _make_snapshot, method="POST"),
    *rollback.SCREENS,
)
