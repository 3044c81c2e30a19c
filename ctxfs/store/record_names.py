"""Names of the delivery records of a task. The first stores had them beside the request, where versions recorded them."""

ANSWERED = "response.context.json"  # sorts after evaluation.json, so that `rm -r` removes that first
LOADS = "loads.jsonl"


def is_record(name: str) -> bool:
    """Return True for the names of records, which only ctxfs writes."""
    return name in (ANSWERED, LOADS) or (name.startswith("window-") and name.endswith(".json"))


def is_old_record(parts: tuple[bytes, ...]) -> bool:
    """Return True for the path of a record in the work tree, from the root of the tree: `context/<task>/<record>`."""
    return len(parts) == 3 and parts[0] == b"context" and is_record(parts[2].decode("utf-8", "replace"))
