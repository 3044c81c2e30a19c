"""Undo, redo and restore from the screen *Time*: a first form shows the changes, a second one makes them."""

import hashlib
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from ctxfs.model.errors import CommandError, invalid
from ctxfs.web.diffs import diff_rows
from ctxfs.web.page import Page, Screen
from ctxfs.web.rows import cut_rows

_SCREEN = "time/rollback"
# The RPC method and the arguments of each action; the first argument is needed.
_ACTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "undo": ("undo", ("path", "principal", "session")),
    "redo": ("redo", ("path",)),
    "restore": ("restore", ("to", "path")),
    "origin": ("restore_from", ("source", "path")),
}


async def _show(page: Page) -> Response:
    """Show the changes that a rollback would make, with the form that makes them."""
    return await _preview(page)


async def _apply(page: Page) -> Response:
    """Make the changes of the dry run; if a second dry run has others, show those instead.

    The arguments are in the address, which carries every name unchanged.
    """
    method, arguments = _request(page.query)
    outcome = await page.call(method, dry_run=True, **arguments)
    if _digest(outcome) != page.form.get("shown", ""):
        return await _preview(page, is_changed=True)
    outcome = await page.call(method, reason=page.form.get("reason", "").strip()[:1000], **arguments)
    if outcome["version"] is None:
        raise CommandError("nothing to do: it is like that already", "")
    return page.redirect("time/version", path=arguments["path"], at=outcome["version"]["revision"])


async def _preview(page: Page, *, is_changed: bool = False) -> Response:
    method, arguments = _request(page.query)
    outcome = await page.call(method, dry_run=True, **arguments)
    return page.render(
        "time_rollback.html",
        409 if is_changed else 200,
        action=page.query["action"],
        arguments=arguments,
        shown=_digest(outcome),
        is_changed=is_changed,
        changes=cut_rows(outcome["changes"], 1),
        kept=cut_rows(list(zip(outcome["kept"], outcome["reasons"], strict=True)), 1),
        rows=diff_rows(outcome["diff"], page.number("page", 1)),
    )


def _request(values: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the method and the arguments of an action. Raise EINVAL for one that does not exist, or misses its object."""
    method, names = _ACTIONS.get(values.get("action", ""), ("", ()))
    if not method:
        raise invalid("action", f"one of {', '.join(_ACTIONS)} is needed")
    arguments = {name: values.get(name, "").strip() for name in names}
    if names[0] != "path" and not arguments[names[0]]:
        raise invalid(names[0], "a value is needed")
    return method, arguments


def _digest(outcome: Mapping[str, Any]) -> str:
    """Return a digest of the changes of a dry run."""
    changes = sorted((change["path"], change["what"], change["size"]) for change in outcome["changes"])
    return hashlib.sha256(repr((changes, sorted(outcome["kept"]), outcome["diff"])).encode()).hexdigest()


SCREENS = (Screen(_SCREEN, _show), Screen(_SCREEN, _apply, method="POST"))
