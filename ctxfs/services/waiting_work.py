"""Work that waits for a person, from the report of the method `status`. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ctxfs.index.indexer_status import index_fault


class Waiting(NamedTuple):
    """Work that waits for a person, and the command for it."""

    text: str
    command: str


def waiting_work(report: Mapping[str, Any]) -> Sequence[Waiting]:
    """Return the work that the status of a store names, with the command for each."""
    rows = []
    if fault := index_fault(report["index"]):
        rows.append(Waiting(f"the index: {fault}", "ctxfs doctor"))
    shared = report.get("shared") or {}
    if conflicts := shared.get("conflicts"):
        rows.append(Waiting(f"{len(conflicts)} contents of other machines, as {conflicts[0]}", "ctxfs review"))
    if shared.get("fault"):
        rows.append(Waiting(f"shared: {shared['fault']}", "ctxfs doctor"))
    if count := report["citations"]["broken"]:
        rows.append(Waiting(f"the cited sources of {count} files no longer hold", "ctxfs check"))
    for name, command in (("policy", "ctxfs policy edit"), ("memory", "ctxfs doctor")):
        if fault := report[name]["fault"]:
            rows.append(Waiting(f"{name}.toml: {fault}", command))
    if reason := report["versions"].get("unrecorded"):
        rows.append(Waiting(f"the newest changes have no version yet: {reason}", "ctxfs doctor"))
    if report["versions"]["state"] not in ("ok", "closed"):
        rows.append(Waiting(f"versions: {report['versions']['state']}", "ctxfs doctor"))
    rows += [
        Waiting(f"{source['at']}: {source['state']}", "ctxfs status")
        for source in report["sources"]
        if source["state"] != "ok"
    ]
    rows += [
        Waiting(f"{mount['at']}: {mount['fault']}", "ctxfs doctor") for mount in report["mounts"] if mount["fault"]
    ]
    rows += [
        Waiting(f"a secret? {path}, {'; '.join(lines[:3])}", "ctxfs doctor")
        for path, lines in report["secrets"].items()
    ]
    rows += [Waiting(f"{path}: {remark}", "ctxfs doctor") for path, remark in report["memory"]["remarks"].items()]
    return [*rows, *(Waiting(str(text), "ctxfs doctor") for text in report["found"])]
