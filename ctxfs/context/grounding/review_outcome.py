"""The outcome of a review: its record, and whether a person has decided against the suggestion. Pure."""

from datetime import UTC, datetime


def is_override(decision: str, suggested: str) -> bool:
    """Return True for a decision of a person against the suggestion."""
    return decision != "withdraw" and (decision == "reject") != (suggested == "reject")


def outcome_record(decision: str, principal: str, suggested: str, kept: str = "") -> dict[str, object]:
    """Return the record of a decision, with the path of the fact that it has kept."""
    return {
        "decision": decision,
        "by": principal,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "suggested": suggested,
        "override": is_override(decision, suggested),
        "kept": kept,
    }
