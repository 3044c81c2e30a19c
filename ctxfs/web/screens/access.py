"""The screen *Access*: rights of principals at paths, tokens, refused operations, and the rules of policy.toml."""

import errno
import hashlib
from collections.abc import Mapping
from dataclasses import replace

from starlette.responses import Response

from ctxfs.model.errors import CommandError, invalid
from ctxfs.model.line_ends import LF, convert_line_ends, line_end_of
from ctxfs.model.path import lines_of
from ctxfs.web.guard import MAX_BODY_BYTES
from ctxfs.web.page import Page, Screen
from ctxfs.web.rows import cut_rows

_RULES = ".ctxfs/policy.toml"
_VERBS = ("list", "read", "write", "create", "delete", "exec", "meta", "admin")
_PRINCIPALS = 25  # of a part of the table
_SHOWN_REFUSED = 50
_NO_BASE = "0" * 64  # of a form without one: no content has this digest
_MAX_EDITED_BYTES = MAX_BODY_BYTES // 4  # a form encodes a byte by up to three
_LIFETIMES: Mapping[str, float | None] = {"1h": 3600, "1d": 86_400, "7d": 604_800, "30d": 2_592_000, "never": None}


async def _access(page: Page) -> Response:
    number = page.number("page", 1)
    table = await page.call("policy_matrix", first=(number - 1) * _PRINCIPALS, limit=_PRINCIPALS)
    rows = cut_rows(range(table["total"]), number, _PRINCIPALS)
    refused = await page.call("follow_audit", limit=_SHOWN_REFUSED, outcome="EACCES")
    return page.render(
        "access.html",
        table=table,
        rows=replace(rows, items=list(zip(table["principals"], table["rights"], strict=True))),
        tokens=cut_rows(await page.call("tokens"), page.number("tokens", 1)),
        lifetimes=list(_LIFETIMES),
        refused=refused["records"][::-1],
    )


async def _explain(page: Page) -> Response:
    principal, path = page.query.get("principal", ""), page.query.get("path", "")
    decisions = {verb: await page.call("decide_policy", principal=principal, verb=verb, path=path) for verb in _VERBS}
    return page.render("access_explain.html", principal=principal, path=path, decisions=decisions)


async def _issue(page: Page) -> Response:
    """Issue a token, and show its secret this once."""
    lifetime = page.form.get("ttl", "")
    if lifetime not in _LIFETIMES:
        raise invalid("ttl", f"one of {', '.join(_LIFETIMES)} is needed")
    allow = [line.strip() for line in page.form.get("allow", "").splitlines() if line.strip()]
    principal = page.form.get("principal", "").strip()
    issued = await page.call("issue_token", principal=principal, allow=allow, seconds=_LIFETIMES[lifetime])
    return page.render("access_token.html", token=issued)


async def _revoke(page: Page) -> Response:
    await page.call("revoke_token", named=page.form.get("named", ""))
    return page.redirect("access")


async def _policy(page: Page) -> Response:
    """Show policy.toml in a form."""
    data = await _read_rules(page)
    return _editor(page, _text_of(data), base=hashlib.sha256(data).hexdigest(), fault="", state="")


async def _save_policy(page: Page) -> Response:
    """Check an edited policy.toml; with the second button also save it, unless it has a mistake."""
    edited, base = convert_line_ends(page.form.get("text", ""), LF), page.form.get("base", "") or _NO_BASE
    fault = await page.call("check_policy", text=edited)
    if fault or page.form.get("do") != "save":
        return _editor(page, edited, base=base, fault=fault, state="" if fault else "checked")
    ending = line_end_of(_text_of(await _read_rules(page)))
    try:
        await page.call("apply", change=["put", _RULES, convert_line_ends(edited, ending).encode(), {}, base])
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return _editor(page, edited, base=base, fault="", state="changed")
    saved = await page.call("policy")
    if saved["fault"]:
        raise CommandError(f"the last good rules stay: {saved['fault']}", "mend it: ctxfs policy edit")
    return page.redirect("access/policy", saved="1")


async def _read_rules(page: Page) -> bytes:
    data: bytes = await page.call("read", path=_RULES)
    return data


def _text_of(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(_RULES, "it is not UTF-8") from error


def _editor(page: Page, text: str, **values: str) -> Response:
    text = convert_line_ends(text, LF)
    is_plain = lines_of(text) == text  # a form would save the escapes of control characters
    can_edit = is_plain and len(text.encode()) <= _MAX_EDITED_BYTES and not page.is_read_only
    return page.render(
        "access_policy.html", 409 if values["state"] == "changed" else 200, text=text, can_edit=can_edit, **values
    )


SCREENS = (
    Screen("access", _access, "Access"),
    Screen("access/explain", _explain),
    Screen("access/issue", _issue, method="POST"),
    Screen("access/revoke", _revoke, method="POST"),
    Screen("access/policy", _policy),
    Screen("access/policy", _save_policy, method="POST"),
)
