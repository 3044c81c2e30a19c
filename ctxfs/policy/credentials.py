"""Credentials: access tokens that let their bearer act as an agent.

A token expires, can be revoked, and narrows rights. Pure.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctxfs.model.errors import CommandError
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.policy.rules import Rule, parse_allowance

_TOKEN = re.compile(r"ctx_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_DEFAULT_ALLOWANCE = "**:lrwxa"
MAX_ALLOWANCES = 100


@dataclass(frozen=True, slots=True)
class Credential:
    """The stored part of an access token.

    Times are nanoseconds since the epoch; an `expires_ns` of 0 means that it never expires. The secret has 256 random
    bits, and only its SHA-256 is stored.
    """

    id: str
    principal: str
    allow: tuple[str, ...]
    issued_ns: int
    expires_ns: int
    sha256: str

    def is_expired(self, now_ns: int) -> bool:
        """Return True once the credential has expired."""
        return bool(self.expires_ns) and self.expires_ns <= now_ns

    def matches_secret(self, secret: str) -> bool:
        """Return True for the secret that was shown at issue.

        The comparison takes constant time (`hmac.compare_digest`).
        """
        return hmac.compare_digest(self.sha256, _digest(secret))

    @property
    def narrowed_principal(self) -> Principal:
        """The principal that acts with the credential: its own principal, narrowed by the credential's id."""
        return parse_principal(f"{self.principal}#{self.id}")

    @property
    def grant(self) -> tuple[Rule, ...]:
        """The permissions of the credential, as allowing rules that expire with it."""
        name = self.principal.partition(":")[2]
        rules = (parse_allowance(text.replace("{name}", name)) for text in self.allow or (_DEFAULT_ALLOWANCE,))
        return tuple(
            Rule(rule.principal, rule.pattern, rule.verbs, "allow", f"token {self.id}", self.expires_ns)
            for rule in rules
        )


def issue_credential(
    principal: Principal, allow: Sequence[str], now_ns: int, seconds: float | None
) -> tuple[Credential, str]:
    """Return a new credential and the text of its access token.

    Raise `CommandError` for a person, since tokens are for agents and groups, and for allowances that do not parse.
    """
    if principal.is_person:
        raise CommandError(f"{principal} is a person: tokens are for agents and groups", "such as agent:alice", 2)
    if len(allow) > MAX_ALLOWANCES:
        raise CommandError(f"a token allows {MAX_ALLOWANCES} patterns at most", "use * and **", 2)
    for text in allow:
        parse_allowance(text.replace("{name}", principal.name))
    number, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    expires = now_ns + int(seconds * 1e9) if seconds is not None else 0
    token = Credential(number, str(principal), tuple(allow), now_ns, expires, _digest(secret))
    return token, f"ctx_{number}_{secret}"


def parse_access_token(text: str) -> tuple[str, str]:
    """Return the (id, secret) of an access token; two empty texts if it does not have the form of one."""
    match = _TOKEN.fullmatch(text)
    return (match[1], match[2]) if match else ("", "")


def grants_by_id(tokens: Sequence[Credential]) -> Mapping[str, tuple[Rule, ...]]:
    """Return the rules of each credential, by its id."""
    return {token.id: token.grant for token in tokens}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
