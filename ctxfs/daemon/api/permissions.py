"""The permission that each RPC method needs before it runs: the same for the socket, commands without a daemon and MCP.

The tree itself checks methods on files (`vfs.access_control`), and search filters by the calling principal. Reading the
versions of a path needs read permission for everything below it, now and in earlier versions. Changing them needs write
permission for all of that. Every other method is for people, and for principals with the permission to administer.
"""

import errno
from collections.abc import Mapping
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.registry import Check, Method, RightsBelow
from ctxfs.model.errors import CommandError, not_found, not_permitted, path_error
from ctxfs.model.path import ROOT, Path, printable
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.policy.evaluate import Rights
from ctxfs.policy.rules import Verb


def check_method(app: App, principal: Principal, method: Method[Any, Any], args: Mapping[str, Any]) -> None:
    """Raise OSError unless this principal may call a method.

    The error is EACCES for a method that it may not call, ENOENT for a path that does not exist for it.
    """
    if method.needs is Check.BY_METHOD or app.policy.is_unrestricted(principal):
        return
    if isinstance(method.needs, RightsBelow):
        path = Path.parse(str(args.get("path", "")))
        rights: Rights = app.policy.rights(principal, path)
        if not rights.exists:
            raise not_found(path)
        if rights.below & method.needs.verbs != method.needs.verbs:
            raise path_error(
                errno.EACCES, path, f"{principal} may not do this to everything here: name a path that it may"
            )
        return
    if not app.policy.is_allowed(principal, Verb.ADMIN, ROOT):
        raise path_error(errno.EACCES, method.name, f"{principal} may not do this: it is for people")


def check_branch(app: App, name: str) -> str:
    """Return the name of an existing branch that a session or mount is for; empty for main. Blocks.

    Raise `CommandError` if there is no such branch.
    """
    if name and not app.archive.branches.exists(name):
        raise CommandError(f"there is no branch '{printable(name[:80])}'", "see: ctxfs branch list")
    return name


def bound_principal(app: App, current: Principal, principal: str, token: str) -> Principal:
    """Return the principal that a session acts for after `join`: the holder of the credential, or the named principal.

    `current` is the principal that the session acts for so far. Raise OSError EPERM for an invalid credential, for one
    of another principal, and for a session that is bound to another principal: only people can change the principal of
    a session.
    """
    named = parse_principal(principal) if principal else current
    if token:
        holder = app.tokens.principal_of(token)
        if principal and str(named) != str(holder):
            raise not_permitted("join", f"this token is not one of {named}")
        app.policy.reload()  # the credential may be newer than the loaded policy
        named = holder
    if current != named and not app.policy.is_unrestricted(current):
        raise not_permitted("join", f"this session is bound to {current}")
    return named
