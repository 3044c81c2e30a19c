"""RPC methods on credentials: issue, list, revoke. Plain values in, plain values out."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ctxfs.app import App
from ctxfs.model.principal import parse_principal
from ctxfs.policy.credentials import Credential
from ctxfs.threads import blocking
from ctxfs.vfs.session import Session


async def _issue(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Issue a credential. `secret` is its proof and is returned only here.

    With `seconds` None it is valid until it is revoked.
    """
    seconds = args.get("seconds")
    principal, allow = (
        parse_principal(str(args["principal"])),
        [str(permission) for permission in args.get("allow", ())],
    )
    lifetime = float(seconds) if seconds is not None else None
    credential, secret = await blocking(app.tokens.issue, principal, allow, lifetime)
    app.policy.reload()
    return {**_credential_record(credential), "secret": secret}


async def _list(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return [_credential_record(credential) for credential in await blocking(app.tokens.load)]


async def _revoke(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Revoke credentials and return them."""
    revoked = await blocking(app.tokens.revoke, str(args["named"]))
    app.policy.reload()
    return [_credential_record(credential) for credential in revoked]


def _credential_record(credential: Credential) -> dict[str, Any]:
    """Return the public fields of a credential, without its digest."""
    return {
        "id": credential.id,
        "principal": credential.principal,
        "allow": list(credential.allow),
        "issued_ns": credential.issued_ns,
        "expires_ns": credential.expires_ns,
        "expired": credential.is_expired(time.time_ns()),
    }


TOKEN_METHODS: Mapping[str, Callable[[App, Session, Mapping[str, Any]], Awaitable[Any]]] = {
    "issue_token": _issue,
    "tokens": _list,
    "revoke_token": _revoke,
}
