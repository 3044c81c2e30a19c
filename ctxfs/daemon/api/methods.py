"""RPC methods on an opened store: plain values in, plain values out.

The daemon serves them over its socket. A command that opens the store itself calls them directly.
"""

import errno
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ctxfs.app import App
from ctxfs.context.build.copied_text import CopiedText
from ctxfs.context.build.secrets import find_secrets
from ctxfs.daemon.api.contexts import CONTEXT_METHODS
from ctxfs.daemon.api.credentials import TOKEN_METHODS
from ctxfs.daemon.api.events import HISTORY_METHODS
from ctxfs.daemon.api.permissions import check_method
from ctxfs.daemon.api.request_audit import audited
from ctxfs.daemon.api.skills import SKILL_METHODS
from ctxfs.daemon.api.tools import TOOL_METHODS
from ctxfs.daemon.api.versions import VERSION_METHODS
from ctxfs.index.search.grep import GrepOutput, Matcher
from ctxfs.model.change import Append, Put, SetMeta
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.metadata import distrust_label
from ctxfs.model.mount import Backing
from ctxfs.model.path import ROOT, Path, printable
from ctxfs.model.principal import parse_principal
from ctxfs.policy.rules import Verb
from ctxfs.rpc.wire import change_from_wire, entry_to_wire
from ctxfs.store import rooted_fs
from ctxfs.threads import blocking
from ctxfs.versions.objects.fingerprint import blob_id
from ctxfs.versions.objects.name_encoding import path_bytes
from ctxfs.vfs.access_control import WITHHELD
from ctxfs.vfs.caller_context import acting
from ctxfs.vfs.session import Session
from mounts.search import hit_record

Method = Callable[[App, Session, Mapping[str, Any]], Awaitable[Any]]


async def _stat(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return entry_to_wire(await caller.tree.stat(Path.parse(args["path"])))


async def _list(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return [entry_to_wire(entry) for entry in await caller.tree.list(Path.parse(args["path"]))]


async def _read(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return await caller.tree.read(Path.parse(args["path"]))


async def _read_labelled(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Read a file; `label` is the warning to show beside its text, see `distrust_label`."""
    path = Path.parse(args["path"])
    return {"data": await caller.tree.read(path), "label": await _label(app, path)}


async def _label(app: App, path: Path) -> str:
    try:
        return distrust_label(await app.tree.metadata(path))
    except OSError:  # removed after the caller has read it
        return ""


async def _labels(app: App, paths: Iterable[str]) -> dict[str, str]:
    """Return {path: label} of those files that have a label; the caller may read all of them."""
    folders, labels = dict[str, Backing](), dict[str, str]()
    for path in dict.fromkeys(paths):
        tree_path = Path.parse(path)
        if (backing := app.tree.backing(tree_path)) is not None:
            folders[path] = backing
        else:
            labels[path] = await _label(app, tree_path)
    labels |= await blocking(_labels_of_files, folders)  # one switch to a thread takes as long as reading ten labels
    return {path: label for path, label in labels.items() if label}


def _labels_of_files(files: Mapping[str, Backing]) -> dict[str, str]:
    labels = dict[str, str]()
    for path, backing in files.items():
        with suppress(OSError), rooted_fs.directory_of(backing.root, backing.relative.parts) as (parent, name):
            labels[path] = distrust_label(rooted_fs.read_xattrs(rooted_fs.magic_path(parent, name)))
    return labels


async def _apply(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Apply a change.

    `warnings` lists likely secrets and text that is copied from the tree; neither prevents the write.
    """
    change = change_from_wire(args["change"])
    recalled: Sequence[CopiedText] = ()
    marks: Mapping[str, bytes] = {}
    if isinstance(change, Put):
        recalled, marks = await app.contexts.copied(change)
        if app.policy.is_allowed(caller.principal, Verb.META, change.path):
            change = replace(change, attributes={**marks, **change.attributes})
            marks = {}
        existing = await blocking(_existing_marks, app, change)
        marks = {**marks, **{name: value for name, value in existing.items() if change.attributes.get(name) != value}}
    await caller.tree.apply(change)
    for name, value in marks.items():  # a caller with permission to write, but not `meta`, cannot remove a mark
        await app.namespace.apply(SetMeta(change.path, name, value))
    data = change.data if isinstance(change, Put | Append) else b""
    secrets = await blocking(find_secrets, data.decode("utf-8", "replace")) if data else []
    warnings = [f"line {secret.line} looks like a secret ({secret.kind})" for secret in secrets]
    return {"warnings": [*warnings, *map(str, recalled)]}


def _existing_marks(app: App, change: Put) -> Mapping[str, bytes]:
    """Return the marks that the path of a change, or its content, has already. Blocks."""
    return app.archive.marks.required_marks(path_bytes(str(change.path)), blob_id(change.data), change.data)


async def _content_of(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Return the current or former content of a file whose sha256 begins with these digits.

    `data` is None if no version has it.
    """
    digits = str(args["sha256"])
    if len(digits) < 8:
        raise invalid(digits, "give at least 8 digits of the sha256")
    path = Path.parse(args["path"])
    data = await app.resolver.fetch(str(path), digits, "")
    if data is not None and await blocking(lambda: app.scope.is_withheld(path, data)):
        raise path_error(errno.EACCES, path, WITHHELD)
    return {"data": data}


async def _metadata(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return await app.metadata.read(Path.parse(args["path"]))


def tree_shape(app: App) -> dict[str, Any]:
    """Return the mount table as an adapter needs it.

    `backings` are [path, host root, writable, hidden paths, versioned]. Mount points and views in `sealed` accept no
    change.
    """
    table = app.namespace.mountpoints
    backings = []
    for path, mount in table.items():
        backing = mount.backing(ROOT)
        if backing is not None and backing.relative.is_root:
            hidden = [list(parts) for parts in backing.hidden]
            backings.append([str(path), backing.root, backing.writable, hidden, backing.versioned])
    sealed = [str(path) for path, mount in table.items() if mount.sealed]
    return {
        "policy": app.policy.wire,
        "grows": [str(path) for path, mount in table.items() if mount.grows],
        "sealed": [*sealed, *app.namespace.sealed_views],
        "backings": backings,
        "mountpoints": [str(path) for path in table],
        "views": sorted(app.namespace.view_names),
    }


async def _status(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return await app.status.read()


async def _mountpoints(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return [mounted["at"] for mounted in app.daemon.mountpoints()]


async def _search(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    limit = int(args.get("limit", app.settings.search.results))
    question = str(args["question"])
    answer = await app.search.ask(question, Path.parse(args.get("below", "")))
    if answer.query.is_empty:
        raise invalid(question[:80], "the question has no words to look for")
    hits = answer.hits[:limit]
    labels = await _labels(app, (hit.chunk.path for hit in hits)) if args.get("labels") else {}
    return {
        "notes": list(answer.notes),
        "remarks": list(answer.remarks),
        "complete": answer.is_complete,
        "hits": [{**hit_record(hit), "text": printable(hit.chunk.text)} for hit in hits],
        "labels": {printable(path): label for path, label in labels.items()},
    }


async def _find(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    below, limit = Path.parse(str(args.get("below", ""))), max(1, min(int(args.get("limit", 1000)), 100_000))
    return await app.search.find(str(args["filters"]), below, limit)


async def _grep(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    matcher = Matcher(
        str(args["pattern"]),
        fixed=bool(args.get("fixed")),
        word=bool(args.get("word")),
        ignore_case=bool(args.get("ignore_case")),
    )
    below, limit = Path.parse(str(args.get("below", ""))), max(1, min(int(args.get("limit", 10_000)), 1_000_000))
    mode = str(args.get("only", "lines"))
    only: GrepOutput = "first" if mode == "first" else "count" if mode == "count" else "lines"
    await caller.tree.stat(below)
    result = await app.search.grep(matcher, below, limit, only, hidden=bool(args.get("hidden")))
    labels = await _labels(app, (path for path, *_ in result.lines)) if args.get("labels") else {}
    return {
        "lines": [list(line) for line in result.lines],
        "faults": result.faults,
        "more": result.more,
        "labels": labels,
    }


async def _glob(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    below, limit = Path.parse(str(args.get("below", ""))), max(1, min(int(args.get("limit", 1000)), 1_000_000))
    await caller.tree.stat(below)
    paths = await app.search.glob(str(args["pattern"]), below, limit)
    behind = app.searcher.coverage_note()
    return {"paths": paths, "faults": [behind] if behind else []}


async def _decide_policy(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Return whether a principal has a permission at a path, with the deciding rule and all matching rules."""
    principal, path = parse_principal(str(args["principal"])), Path.parse(str(args["path"]))
    verb = Verb[str(args["verb"]).upper()]
    decision = app.policy.decide(principal, verb, path)
    return {"allowed": decision.allowed, "why": decision.why, "matched": [str(rule) for rule in decision.matched]}


async def _policy(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    app.policy.reload()
    return {"rules": [str(rule) for rule in app.policy.rules], "fault": app.policy.fault}


async def _whoami(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return {"principal": str(caller.principal), "session": caller.actor.session}


async def run_method(
    app: App, caller: Session, name: str, args: Mapping[str, Any], first: Callable[[], Awaitable[None]] | None = None
) -> Any:
    """Run a method on behalf of the caller, if the policy permits it; `first` runs between the check and the method."""
    with audited(app, caller, name, args):
        check_method(app, caller.principal, name, args)
        if first is not None:
            await first()
        with acting(caller.principal, caller.actor.session):
            return await METHODS[name](app, caller, args)


METHODS: Mapping[str, Method] = {
    "whoami": _whoami,
    "policy": _policy,
    "decide_policy": _decide_policy,
    "stat": _stat,
    "list": _list,
    "read": _read,
    "read_labelled": _read_labelled,
    "apply": _apply,
    "content_of": _content_of,
    "metadata": _metadata,
    "status": _status,
    "mountpoints": _mountpoints,
    "search": _search,
    "find": _find,
    "grep": _grep,
    "glob": _glob,
    **CONTEXT_METHODS,
    **HISTORY_METHODS,
    **SKILL_METHODS,
    **TOKEN_METHODS,
    **TOOL_METHODS,
    **VERSION_METHODS,
}
