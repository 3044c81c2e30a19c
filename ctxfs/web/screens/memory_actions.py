"""Actions of the screen *Memory*, on one file or on many: each is a method that a command has, too."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from ctxfs.index.extract.editable_text import CharsetConflict, EditableText, parse_editable_text
from ctxfs.memory.states import STATE_ATTRIBUTE
from ctxfs.model.change import Put, SetMeta
from ctxfs.model.errors import invalid
from ctxfs.model.line_ends import LF, convert_line_ends
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path, lines_of, one_line
from ctxfs.rpc.wire import change_to_wire
from ctxfs.web.form_paths import chosen_paths, decode_path, encode_path, field_name
from ctxfs.web.page import Page, Screen
from ctxfs.web.rows import MAX_ROWS

_MAX_EDITED_BYTES = 128 * 1024
_MAX_CHOSEN = 100
_SHOWN_PATHS = 50


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an action on one file."""

    path: str
    text: str
    is_refused: bool = False


def _setter(name: str, value: bytes | None, done: str) -> Callable[[Page, str], Awaitable[str]]:
    async def act(page: Page, path: str) -> str:
        await page.call("apply", change=change_to_wire(SetMeta(Path.parse(path), name, value)), reason=_reason(page))
        return done

    return act


def _reason(page: Page) -> str:
    """Return the reason of the form, which the versions of an action record."""
    return page.form.get("reason", "").strip()


async def _promote(page: Page, path: str) -> str:
    result = await page.call("promote", path=path, to=page.form.get("to", "").strip(), reason=_reason(page))
    if result["review"]:
        return f"not moved: the review {result['review']} waits for a decision: {'; '.join(result['reasons'])}"
    return f"moved to {result['path']}"


_ACTIONS: Mapping[str, Callable[[Page, str], Awaitable[str]]] = {
    "archive": _setter(STATE_ATTRIBUTE, b"archived", "archived"),
    "freeze": _setter(STATE_ATTRIBUTE, b"frozen", "frozen"),
    "activate": _setter(STATE_ATTRIBUTE, b"active", "active"),
    "quarantine": _setter(f"{PREFIX}quarantined", b"true", "in quarantine"),
    "release": _setter(f"{PREFIX}quarantined", None, "released from quarantine"),
    "pin": _setter(f"{PREFIX}pinned", b"true", "pinned"),
    "unpin": _setter(f"{PREFIX}pinned", None, "no longer pinned"),
    "promote": _promote,
}


async def _act(page: Page) -> Response:
    """Do an action to each chosen file, and show the result of each."""
    paths, name = _chosen(page), page.form.get("action", "")
    if name == "forget":
        return await _confirm(page, paths)
    action = _ACTIONS.get(name)
    if action is None:
        raise invalid("action", f"one of {', '.join((*_ACTIONS, 'forget'))} is needed")
    return _done(page, name, [await _attempt(path, action(page, path)) for path in paths])


def _chosen(page: Page) -> Sequence[str]:
    paths = chosen_paths(page.form)
    if len(paths) > _MAX_CHOSEN:
        raise invalid("files", f"at most {_MAX_CHOSEN} files at once")
    return paths


async def _attempt(path: str, action: Awaitable[str]) -> Outcome:
    try:
        return Outcome(path, await action)
    except OSError as error:
        return Outcome(path, error.strerror or str(error), is_refused=True)


def _done(page: Page, name: str, outcomes: Sequence[Outcome], notes: Sequence[str] = ()) -> Response:
    back = page.url("memory", **{key: value for key, value in page.query.items() if key != "as"})
    return page.render("memory_done.html", action=name, outcomes=outcomes, notes=notes, back=back)


async def _confirm(page: Page, paths: Sequence[str]) -> Response:
    """Show the contents, copies and remotes of an erasure before it happens."""
    erasures = [await page.call("forget", path=path, dry_run=True) for path in paths]
    erased = [change["path"] for erasure in erasures for change in erasure["changes"]]
    copies = dict.fromkeys(path for erasure in erasures for path in (*erasure["elsewhere"], *erasure["copies"]))
    return page.render(
        "memory_forget.html",
        fields=[(field_name(number), encode_path(path)) for number, path in enumerate(paths)],
        blobs=sum(erasure["blobs"] for erasure in erasures),
        erased=erased[:_SHOWN_PATHS],
        more=len(erased) - _SHOWN_PATHS,
        copies=[path for path in copies if path not in erased][:_SHOWN_PATHS],
        remotes=erasures[0]["remotes"],
        reason=_reason(page),
    )


async def _forget(page: Page) -> Response:
    """Erase the chosen files from every version. The form has a box to tick."""
    paths = _chosen(page)
    if page.form.get("confirmed") != "yes":
        raise invalid("confirmed", "the box is not ticked, and nothing was erased")
    remotes = dict[str, None]()

    async def forget(path: str) -> str:
        erasure = await page.call("forget", path=path, reason=_reason(page))
        remotes.update(dict.fromkeys(erasure["remotes"]))
        return f"{erasure['blobs']} contents erased, {erasure['versions']} versions written again"

    outcomes = [await _attempt(path, forget(path)) for path in paths]
    notes = [f"the remote {name} may still hold it → ctxfs remote push --replace {name}" for name in remotes]
    return _done(page, "forget", outcomes, notes)


async def _edit(page: Page) -> Response:
    path = page.query.get("path", "")
    data, editable = await _editable(page, path)
    return _editor(page, path, editable.text, hashlib.sha256(data).hexdigest())


def _editor(page: Page, path: str, text: str, revision: str, fault: str = "") -> Response:
    return page.render(
        "memory_edit.html",
        409 if fault else 200,
        path=path,
        field=encode_path(path),
        text=convert_line_ends(text, LF),
        revision=revision,
        fault=fault,
        reason=_reason(page),
    )


async def _editable(page: Page, path: str) -> tuple[bytes, EditableText]:
    """Return a file that can be edited here. Raise EINVAL for one that a form would damage."""
    data: bytes = await page.call("read", path=path)
    if len(data) > _MAX_EDITED_BYTES:
        raise invalid(path, f"it has more than {_MAX_EDITED_BYTES // 1024} kB → edit it on a mount, or: ctxfs edit")
    try:
        editable = parse_editable_text(data)
    except CharsetConflict as conflict:
        raise invalid(path, str(conflict)) from conflict
    text = convert_line_ends(editable.text, LF)
    if lines_of(text) != text:
        raise invalid(path, "it has control characters or bytes that a form cannot carry → ctxfs edit")
    return data, editable


async def _save(page: Page) -> Response:
    """Replace a file that has not changed since it was shown; else show the text again, so that nothing is lost."""
    path, text = decode_path(page.form.get("path", "")), convert_line_ends(page.form.get("text", ""), LF)
    data, editable = await _editable(page, path)
    revision = hashlib.sha256(data).hexdigest()
    if page.form.get("revision") != revision:
        return _editor(
            page, path, text, revision, "The file has changed since you opened it. Saving now replaces that."
        )
    try:
        new = editable.encode(convert_line_ends(text, editable.line_end))
    except CharsetConflict as conflict:
        raise invalid(path, str(conflict)) from conflict
    change = change_to_wire(Put(Path.parse(path), new, expects=revision))
    answer = await page.call("apply", change=change, reason=_reason(page))
    return _done(page, "edit", [Outcome(path, "saved")], answer["warnings"])


async def _correct(page: Page) -> Response:
    """Show the lines of a file, or the form for the one that is chosen."""
    path, line = page.query.get("path", ""), page.number("line", 0)
    lines = (await _editable(page, path))[1].text.splitlines()
    if line > len(lines):
        raise invalid(path, "it has no such line")
    return page.render(
        "memory_correct.html",
        path=path,
        field=encode_path(path),
        lines=[(number, text) for number, text in enumerate(lines[:MAX_ROWS], 1) if text.strip()],
        line=line,
        was=lines[line - 1] if line else "",
        was_field=encode_path(lines[line - 1]) if line else "",
    )


async def _write_correction(page: Page) -> Response:
    form = page.form
    path, line = decode_path(form.get("path", "")), form.get("line", "")
    if not line.isascii() or not line.isdigit() or len(line) > 9:
        raise invalid("line", "a number is needed")
    result = await page.call(
        "correct",
        path=path,
        line=int(line),
        text=form.get("text", ""),
        because=form.get("because", ""),
        was=decode_path(form.get("was", "")),
    )
    text = f"corrects {one_line(result['corrects'])}: {one_line(result['was'])}"
    return _done(page, "correct", [Outcome(result["path"], text)], result["remarks"])


def _post(name: str, handler: Callable[[Page], Awaitable[Any]]) -> Screen:
    return Screen(f"memory/{name}", handler, method="POST")


SCREENS = (
    Screen("memory/edit", _edit),
    Screen("memory/correct", _correct),
    _post("act", _act),
    _post("forget", _forget),
    _post("save", _save),
    _post("correction", _write_correction),
)
