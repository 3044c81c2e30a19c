"""`explain`: a page in Markdown on a path, for an agent that has not seen the tree."""

from collections.abc import Sequence

from ctxfs.http.tree import Tree
from ctxfs.library import requests
from ctxfs.model.entry import Entry
from ctxfs.model.path import Path, one_line
from ctxfs.serve.afs.actions import ACTIONS, ACTIONS_DIRECTORY
from ctxfs.serve.afs.entries import PathMapping, Record

OPERATIONS = ("list", "read", "stat", "explain", "search", "write", "delete", "rename", "exec")
_MAX_ENTRIES = 100
# The heading by which clients of the interface find the list of the root.
_ROOT_HEADING = "Mounted Providers"


async def explain_path(tree: Tree, paths: PathMapping, path: object) -> Record:
    """Return the page on a path. Raise ENOENT for one that does not exist for the client."""
    tree_path = paths.to_tree(path)
    entry = await tree.send(requests.stat(str(tree_path)))
    name = one_line(paths.to_interface(tree_path))
    lines = (
        await _directory_lines(tree, paths, tree_path) if entry.is_dir else await _file_lines(tree, tree_path, entry)
    )
    return {"format": "markdown", "content": "\n".join([f"# {name}", "", *lines, ""])}


async def _directory_lines(tree: Tree, paths: PathMapping, path: Path) -> Sequence[str]:
    entries = await tree.send(requests.list_directory(str(path)))
    heading = _ROOT_HEADING if paths.is_root(path) else f"Entries ({len(entries)})"
    shown = [f"- `{one_line(entry.name)}{'/' if entry.is_dir else ''}`" for entry in entries[:_MAX_ENTRIES]]
    rest = [f"- … and {len(entries) - _MAX_ENTRIES} more"] if len(entries) > _MAX_ENTRIES else []
    actions = [f"- `{ACTIONS_DIRECTORY}/{name}`: {action.summary}" for name, action in ACTIONS.items()]
    operations = ", ".join(f"`{name}`" for name in OPERATIONS)
    return [f"## {heading}", "", *shown, *rest, "", "## Operations", "", operations, "", "## Actions", "", *actions]


async def _file_lines(tree: Tree, path: Path, entry: Entry) -> Sequence[str]:
    attributes = await tree.send(requests.meta(str(path)))
    rows = [f"| {one_line(name)} | {one_line(value)} |" for name, value in sorted(attributes.items())]
    return [f"A {entry.kind} of {entry.size or 0} bytes.", "", "| attribute | value |", "|---|---|", *rows]
