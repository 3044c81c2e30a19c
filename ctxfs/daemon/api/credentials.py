"""RPC methods on credentials: issue, list, revoke. Plain values in, plain values out."""

import time
from dataclasses import dataclass
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.params import NoParams
from ctxfs.daemon.api.registry import AuditEvent, Check, method
from ctxfs.model.principal import parse_principal
from ctxfs.policy.credentials import Credential
from ctxfs.threads import blocking
from ctxfs.vfs.session import Session


@dataclass(frozen=True, slots=True)
class IssueParams:
    """A principal, the permissions that the credential narrows it to, and the lifetime; None for no end."""

    principal: str
    allow: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RevokeParams:
    """The id of a credential, or the principal whose credentials are revoked."""

    named: str


@method("issue_token", IssueParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("token", "principal"))
async def _issue(app: App, caller: Session, params: IssueParams) -> Any:
    """Issue a credential. `secret` is its proof and is returned only here.

    With `seconds` None it is valid until it is revoked.
    """
    principal = parse_principal(params.principal)
    credential, secret = await blocking(app.tokens.issue, principal, list(params.allow), params.seconds)
    app.policy.reload()
    return {**_credential_record(credential), "secret": secret}


@method("tokens", NoParams, needs=Check.ADMINISTRATORS)
async def _list(app: App, caller: Session, params: NoParams) -> Any:
    return [_credential_record(credential) for credential in await blocking(app.tokens.load)]


@method("revoke_token", RevokeParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("token", "named"))
async def _revoke(app: App, caller: Session, params: RevokeParams) -> Any:
    """Revoke credentials and return them."""
    revoked = await blocking(app.tokens.revoke, params.named)
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
