"""Kinds of memories, and the fields that a file of each kind must and may have. Pure.

The kind of a file is its attribute `user.ctx.kind`, or follows from its folder: `memory/<agent>/<kind>/…`.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from ctxfs.model.metadata import PREFIX

KIND_ATTRIBUTE = f"{PREFIX}kind"
EPISODIC, FACT, EXPERIENTIAL, PROCEDURAL, USER = "episodic", "fact", "experiential", "procedural", "user"
ANY_FIELD = "*"


@dataclass(frozen=True, slots=True)
class KindRules:
    """A kind: the fields that a file of it must have, and those that it may have (`*`: any)."""

    name: str
    must: tuple[str, ...]
    may: tuple[str, ...] = (ANY_FIELD,)
    description: str = ""


_EPISODE_FIELDS = ("clients", "participants", "place", "principals", "records", "speakers", "summary")
BUILT_IN_KINDS: Mapping[str, KindRules] = {
    kind.name: kind
    for kind in (
        KindRules(EPISODIC, ("session", "time"), _EPISODE_FIELDS, "what happened in a session, and when"),
        KindRules(FACT, ("claim", "source", "confidence"), ("valid_from", "valid_until"), "one claim, with its source"),
        KindRules(
            EXPERIENTIAL,
            ("situation", "action", "outcome"),
            ("lesson", "task", "tool"),
            "an action, and its outcome",
        ),
        KindRules(PROCEDURAL, ("skill",), description="how something is done: a folder with a SKILL.md"),
        KindRules(USER, ("value", "evidence"), description="attributes of a user, each with its evidence"),
    )
}


def kind_of(parts: tuple[str, ...], attributes: Mapping[str, bytes], kinds: Container[str] = BUILT_IN_KINDS) -> str:
    """Return the kind of the file at a path: its attribute, else that of its folder; empty if neither names one."""
    own = attributes.get(KIND_ATTRIBUTE, b"").decode("utf-8", "replace")
    return own or kind_by_folder(parts, kinds)


def kind_by_folder(parts: tuple[str, ...], kinds: Container[str] = BUILT_IN_KINDS) -> str:
    """Return the kind that the folder of a file implies, of those in `kinds`; empty outside of `memory/<agent>/<kind>/`."""
    is_memory = len(parts) >= 4 and parts[0] == "memory"
    return parts[2] if is_memory and parts[2] in kinds else ""
