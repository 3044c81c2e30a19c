"""The settings of the interface: its root in the tree, and the actions that clients may call."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ctxfs.model.path import ROOT, Path

Severity = Literal["ambient", "boundary", "critical"]
ActionPolicy = Literal["safe", "standard", "full"]
UNKNOWN_SEVERITY: Severity = "boundary"  # of an action that declares none, as the interface defines it
PERMITTED: Mapping[ActionPolicy, frozenset[Severity]] = {
    "safe": frozenset({"ambient"}),
    "standard": frozenset({"ambient", "boundary"}),
    "full": frozenset({"ambient", "boundary", "critical"}),
}


@dataclass(frozen=True, slots=True)
class AfsSettings:
    """The directory of the tree that is `/`, the policy of actions, and the names of blocked actions."""

    root: Path = ROOT
    policy: ActionPolicy = "standard"
    blocked: frozenset[str] = frozenset()
