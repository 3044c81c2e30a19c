"""Comparison of two contexts, by their manifests as `json.loads` returns them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxfs.context.build.manifest_items import item_path


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two contexts; ranges are `path:first-last`."""

    added: Sequence[str]
    dropped: Sequence[str]
    changed: Sequence[str]
    kept: int
    request: Mapping[str, tuple[object, object]]


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """Compare items by their lines; `changed` are lines with another text."""
    before, after = _digests(old), _digests(new)
    shared = before.keys() & after.keys()
    requests = (old["request"], new["request"])
    return Difference(
        sorted(after.keys() - before.keys()),
        sorted(before.keys() - after.keys()),
        sorted(span for span in shared if before[span] != after[span]),
        sum(before[span] == after[span] for span in shared),
        {
            name: (requests[0].get(name), requests[1].get(name))
            for name in sorted({*requests[0], *requests[1]})
            if requests[0].get(name) != requests[1].get(name)
        },
    )


def _digests(manifest: Mapping[str, Any]) -> Mapping[str, str]:
    return {_span_of(item): str(item["digest"]) for item in manifest["items"]}


def _span_of(item: Mapping[str, Any]) -> str:
    path = item_path(item)
    return f"{path}:{item['first']}-{item['last']}" if path else "(derived)"
