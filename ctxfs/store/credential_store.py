"""The credentials of a store, in `<store>/tokens.json`: each with the SHA-256 of its secret, never the secret."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path as HostPath

from ctxfs.model.errors import CommandError, not_permitted
from ctxfs.model.principal import Principal
from ctxfs.policy.credentials import Credential, issue_credential, parse_access_token
from ctxfs.store.durable_file import replace_file
from ctxfs.store.lock import exclusive_folder

_MAX_CREDENTIALS = 1000
MAX_SHARED_CREDENTIALS = 20_000  # of all nodes of a shared store


class CredentialStore:
    """The credentials file. Methods block for a moment; several processes may use the same file."""

    def __init__(self, file: HostPath) -> None:
        self.file = file

    def load(self) -> list[Credential]:
        """Return all unrevoked credentials, including expired ones; raise CommandError for an unreadable file."""
        try:
            data = json.loads(self.file.read_text(encoding="utf-8"))
            return [Credential(**{**record, "allow": tuple(record["allow"])}) for record in data]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CommandError(
                f"'{self.file}' cannot be read ({error}): no token is good until it can",
                f"delete it, and issue tokens anew: rm {self.file}",
            ) from error

    def issue(self, principal: Principal, allow: Sequence[str], seconds: float | None) -> tuple[Credential, str]:
        """Create a credential and return it with its secret text (see `issue_credential`). Expired ones are removed."""
        now = time.time_ns()
        new, text = issue_credential(principal, allow, now, seconds)
        with exclusive_folder(self.file.parent):
            valid = [credential for credential in self.load() if not credential.is_expired(now)]
            if len(valid) >= _MAX_CREDENTIALS:
                raise CommandError(f"there are {_MAX_CREDENTIALS} tokens already", "revoke some: ctxfs token list")
            self._save([*valid, new])
        return new, text

    def revoke(self, named: str) -> list[Credential]:
        """Revoke the credential with this number, or all of a principal, at once; return the revoked ones."""
        with exclusive_folder(self.file.parent):
            tokens = self.load()
            revoked = [token for token in tokens if named in (token.id, token.principal)]
            if revoked:
                self._save([token for token in tokens if token not in revoked])
        return revoked

    def apply(self, changes: Mapping[str, Credential | None]) -> None:
        """Add or replace credentials by id, and remove those with None. Raise CommandError if they become too many."""
        with exclusive_folder(self.file.parent):
            tokens = {token.id: token for token in self.load() if token.id not in changes}
            tokens |= {number: token for number, token in changes.items() if token is not None}
            if len(tokens) > MAX_SHARED_CREDENTIALS:
                raise CommandError(
                    f"there are more than {MAX_SHARED_CREDENTIALS} tokens", "revoke some: ctxfs token list"
                )
            self._save(list(tokens.values()))

    def principal_of(self, text: str) -> Principal:
        """Return the principal of a credential.

        Raise EPERM for an unknown, revoked or expired one; the error does not distinguish these cases.
        """
        number, secret = parse_access_token(text)
        for token in self.load():
            if token.id == number and token.matches_secret(secret) and not token.is_expired(time.time_ns()):
                return token.narrowed_principal
        raise not_permitted("token", "this token is unknown, revoked or expired: ask for another one")

    def _save(self, tokens: Sequence[Credential]) -> None:
        data = json.dumps([asdict(token) for token in tokens], indent=1) + "\n"
        replace_file(self.file, data.encode(), 0o600)
