"""Principals: a person, an agent or a group, by name."""

import getpass
import re
from dataclasses import dataclass

from ctxfs.model.errors import CommandError

_PRINCIPAL_PATTERN = re.compile(r"(human|agent|group):([a-z0-9][a-z0-9._-]{0,62})(?:#([0-9a-f]{8}))?")


@dataclass(frozen=True, slots=True)
class Principal:
    """`human:ada`, `agent:alice` or `group:writers`; each session is bound to exactly one.

    `grant` is the number of the credential that it uses, if any, which limits its permissions.
    """

    kind: str
    name: str
    grant: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def bound(self) -> str:
        """The text that `parse_principal` parses to an equal principal, including the credential."""
        return f"{self}#{self.grant}" if self.grant else str(self)

    @property
    def is_person(self) -> bool:
        """True for people, who alone may read quarantined files."""
        return self.kind == "human"


def parse_principal(text: str) -> Principal:
    """Parse `human:NAME`, `agent:NAME` or `group:NAME`. Raise CommandError if it is malformed.

    Names consist of lower-case letters, digits, `.`, `_` and `-`. `#` and the number of a credential may follow, which
    only ever reduces permissions.
    """
    match = _PRINCIPAL_PATTERN.fullmatch(text)
    if not match:
        raise CommandError(
            f"'{text}' is not a principal", "write human:NAME, agent:NAME or group:NAME, such as agent:alice", code=2
        )
    return Principal(match[1], match[2], match[3] or "")


def current_person() -> Principal:
    """Return the person who runs this process, by login name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a uid without a passwd entry
        name = "nobody"
    return Principal("human", re.sub(r"[^a-z0-9._-]", "-", name.lower()).lstrip("-._") or "nobody")
