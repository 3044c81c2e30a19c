"""Who acts: a person or an agent, by name."""

import getpass
import re
from dataclasses import dataclass

from ctxfs.model.errors import CommandError

_PATTERN = re.compile(r"(human|agent):([a-z0-9][a-z0-9._-]{0,62})")


@dataclass(frozen=True, slots=True)
class Principal:
    """`human:ada` or `agent:alice`; each session is bound to exactly one."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_principal(text: str) -> Principal:
    """Read `human:NAME` or `agent:NAME`; names are lower-case letters, digits, `.`, `_` and `-`."""
    found = _PATTERN.fullmatch(text)
    if not found:
        raise CommandError(
            f"'{text}' is not a principal", "write human:NAME or agent:NAME, such as agent:alice", code=2
        )
    return Principal(found[1], found[2])


def current_person() -> Principal:
    """The person who runs this process, by login name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a uid without a passwd entry
        name = "nobody"
    return Principal("human", re.sub(r"[^a-z0-9._-]", "-", name.lower()).lstrip("-._") or "nobody")
