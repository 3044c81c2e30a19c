"""The records of one policy on all nodes: the rules of policy.toml, credentials, and approvals of tools.

An entry of another node is checked as strictly as the files: no record gives an agent the rights of a person, and a
credential is for agents and groups only.
"""

import json
import logging
import os
import re
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path as HostPath
from typing import Any

from ctxfs.exec.approvals import Approval, Approvals
from ctxfs.model.errors import CommandError
from ctxfs.model.principal import parse_principal
from ctxfs.model.toml import parse_toml
from ctxfs.policy.credentials import MAX_ALLOWANCES, Credential
from ctxfs.policy.rule_history import RuleHistory
from ctxfs.policy.rules import Rule, default_rules, parse_allowance, parse_policy
from ctxfs.shared.log import EntryKind
from ctxfs.shared.records_topic import Changes, RecordsTopic
from ctxfs.shared.topics import Topic
from ctxfs.store.credential_store import CredentialStore
from ctxfs.store.durable_file import replace_file
from ctxfs.store.layout import Layout
from ctxfs.store.lock import exclusive_folder
from ctxfs.store.registry import check_confirmed, confirm_store

log = logging.getLogger(__name__)

RULES_NAME = "policy.toml"
_SETTLE_SECONDS = 0.5  # an editor may replace the file in several writes
_ABSENT = (0, 0, 0)
_MAX_TIME_NS = 1 << 63
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CREDENTIAL_ID = re.compile(r"[0-9a-f]{8}")
_CREDENTIAL_FIELDS = frozenset(("id", "principal", "allow", "issued_ns", "expires_ns", "sha256"))


class RuleRecords:
    """The rules of policy.toml: one record, the whole text. Rules in ctxfs.toml stay on their node."""

    def __init__(
        self,
        file: HostPath,
        settings: HostPath,
        history: RuleHistory,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._file = file
        self._settings = settings
        self._history = history
        self._pause = pause
        self._settled: tuple[int, int, int] | None = None

    def stamp(self) -> object:
        """Return the identity of the file's content."""
        return _stamp_of(self._file)

    def read(self) -> Mapping[str, str]:
        """Return the text, once nothing has changed it for half a second."""
        while (stamp := _stamp_of(self._file)) != self._settled:
            age = (time.time_ns() - stamp[0]) / 1e9
            is_missing_since_start = stamp == _ABSENT and self._settled is None
            if not is_missing_since_start and (stamp == _ABSENT or age < _SETTLE_SECONDS):
                self._pause(_SETTLE_SECONDS - max(0.0, age) if 0 < age < _SETTLE_SECONDS else _SETTLE_SECONDS)
            if stamp == _stamp_of(self._file):
                self._settled = stamp
        return {} if stamp == _ABSENT else {RULES_NAME: self._file.read_bytes().decode()}

    def check(self, changes: Changes) -> None:
        """Parse the rules as those of a file that stands alone: its groups must be its own."""
        if set(changes) - {RULES_NAME}:
            raise ValueError(f"'{min(set(changes) - {RULES_NAME})}' is not shared")
        for text in changes.values():
            try:
                parse_policy(parse_toml(text or ""), RULES_NAME, (), alone=True)
            except tomllib.TOMLDecodeError as error:
                raise ValueError(f"'{RULES_NAME}': {error}") from error

    def apply(self, changes: Changes) -> None:
        """Replace the file; the policy engine reads it as if a person had written it here."""
        for text in changes.values():
            with exclusive_folder(self._file.parent):
                data = (text or "").encode()
                if data != (self._file.read_bytes() if self._file.exists() else b""):
                    replace_file(self._file, data, 0o600)
                    self._settled = _stamp_of(self._file)
            self._record(text or "")

    def keep_remote(self, old: Changes, new: Changes, node: str) -> None:
        """Record rules that were in force on other nodes only, so that old versions are judged by them as well."""
        log.warning("the rules of node '%s' were overtaken by later ones of this node; policy.jsonl has both", node)
        for text in (*old.values(), *new.values()):
            self._record(text or "")

    def keep_local(self, old: Changes, node: str) -> None:
        """Keep the text in `policy.toml.overtaken`, and its rules in the history."""
        for text in old.values():
            if text:
                copy = self._file.with_name(f"{self._file.name}.overtaken")
                log.warning("the rules of this node were overtaken by those of node '%s'; they are in '%s'", node, copy)
                replace_file(copy, text.encode(), 0o600)
                self._record(text)

    def _record(self, text: str) -> None:
        try:
            rules, groups = self._parse(self._settings, {})
            more, more_groups = parse_policy(parse_toml(text), str(self._file), groups, alone=True)
        except (OSError, ValueError, CommandError) as error:
            log.warning("shared rules cannot be in force here: %s", error)  # the engine keeps the last good ones
            return
        self._history.record((*default_rules(), *rules, *more), {**groups, **more_groups})

    @staticmethod
    def _parse(file: HostPath, groups: Mapping[str, Any]) -> tuple[tuple[Rule, ...], dict[str, frozenset[str]]]:
        return parse_policy(parse_toml(file.read_text(encoding="utf-8")), str(file), groups)


class CredentialRecords:
    """Credentials by id, with the hash of each secret. A revoked one is removed everywhere."""

    def __init__(self, store: CredentialStore) -> None:
        self._store = store

    def stamp(self) -> object:
        """Return the identity of the file's content."""
        return _stamp_of(self._store.file)

    def read(self) -> Mapping[str, str]:
        """Return the credentials as JSON."""
        return {token.id: json.dumps(asdict(token), sort_keys=True) for token in self._store.load()}

    def check(self, changes: Changes) -> None:
        """Check each credential as its issue does."""
        for number, text in changes.items():
            if not _CREDENTIAL_ID.fullmatch(number):
                raise ValueError(f"'{number[:50]}' is not the id of a token")
            if text and _parse_credential(text).id != number:
                raise ValueError(f"the token '{number}' has another id")

    def apply(self, changes: Changes) -> None:
        """Store the changed credentials."""
        if changes:
            self._store.apply({number: _parse_credential(text) if text else None for number, text in changes.items()})

    def keep_remote(self, old: Changes, new: Changes, node: str) -> None:
        """Do nothing: `ctxfs token list` shows the credentials in force."""

    def keep_local(self, old: Changes, node: str) -> None:
        """Do nothing: `ctxfs token list` shows the credentials in force."""


class ApprovalRecords:
    """Approvals of tools by name. An approval holds for a tool of the same digest only, on each node."""

    def __init__(self, approvals: Approvals, file: HostPath) -> None:
        self._approvals = approvals
        self._file = file

    def stamp(self) -> object:
        """Return the identity of the file's content."""
        return _stamp_of(self._file)

    def read(self) -> Mapping[str, str]:
        """Return the approvals as JSON."""
        return {
            name: json.dumps([approval.digest, approval.definition], sort_keys=True)
            for name, approval in self._approvals.all().items()
        }

    def check(self, changes: Changes) -> None:
        """Check the form of each approval."""
        for text in changes.values():
            if text:
                _parse_approval(text)

    def apply(self, changes: Changes) -> None:
        """Store the changed approvals. A store that its person has confirmed stays confirmed."""
        if not changes:
            return
        root, is_confirmed = self._file.parent, True
        try:
            check_confirmed(root)
        except CommandError:
            is_confirmed = False
        self._approvals.apply({name: _parse_approval(text) if text else None for name, text in changes.items()})
        if is_confirmed:
            confirm_store(root)

    def keep_remote(self, old: Changes, new: Changes, node: str) -> None:
        """Do nothing: `ctxfs tools` shows the approval in force."""

    def keep_local(self, old: Changes, node: str) -> None:
        """Do nothing: `ctxfs tools` shows the approval in force."""


def open_topics(layout: Layout, history: RuleHistory) -> Mapping[EntryKind, Topic]:
    """Return the topics of the policy of a store."""
    return {
        EntryKind.RULES: RecordsTopic("rules", RuleRecords(layout.rules, layout.config, history), layout.repo),
        EntryKind.CREDENTIALS: RecordsTopic(
            "credentials", CredentialRecords(CredentialStore(layout.tokens)), layout.repo
        ),
        EntryKind.APPROVALS: RecordsTopic(
            "approvals", ApprovalRecords(Approvals(layout.approvals), layout.approvals), layout.repo
        ),
    }


def _parse_credential(text: str) -> Credential:
    """Return the credential in a record. Raise ValueError or CommandError for one that was not issued by a store."""
    values = _parse_json(text)
    if not isinstance(values, dict) or set(values) != _CREDENTIAL_FIELDS:
        raise ValueError("a token has other fields")
    allow = values["allow"]
    if not isinstance(allow, list) or len(allow) > MAX_ALLOWANCES or not all(isinstance(item, str) for item in allow):
        raise ValueError("the allowances of a token are no list of texts")
    if not all(isinstance(values[name], str) for name in ("id", "principal", "sha256")):
        raise ValueError("a token is not of texts")
    if not all(type(values[name]) is int and 0 <= values[name] < _MAX_TIME_NS for name in ("issued_ns", "expires_ns")):
        raise ValueError("a token has no valid times")
    principal = parse_principal(values["principal"])
    if principal.is_person or principal.grant:
        raise ValueError(f"{values['principal']} is not an agent or a group: tokens are for these")
    if not _SHA256.fullmatch(values["sha256"]):
        raise ValueError("a token has no hash of its secret")
    for item in allow:
        parse_allowance(item.replace("{name}", principal.name))
    return Credential(**{**values, "allow": tuple(allow)})


def _parse_approval(text: str) -> Approval:
    values = _parse_json(text)
    if (
        not isinstance(values, list)
        or len(values) != 2
        or not isinstance(values[0], str)
        or not _SHA256.fullmatch(values[0])
        or not isinstance(values[1], dict)
    ):
        raise ValueError("an approval is not a digest and a definition")
    return Approval(values[0], values[1])


def _parse_json(text: str) -> Any:
    """Return the value of a record. Raise ValueError for a text that `json.dumps` does not make, in sorted order."""
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair
        if json.dumps(value, sort_keys=True) != text:
            raise ValueError("it is not in the form in which nodes write it")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def _stamp_of(file: HostPath) -> tuple[int, int, int]:
    """Return (mtime, inode, size) of a file, zeros if it is absent."""
    try:
        stat = os.stat(file)
    except OSError:
        return _ABSENT
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
