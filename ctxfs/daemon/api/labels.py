"""Warnings beside the text of files with a distrust mark (`distrust_label`), and of records of the event log."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

from ctxfs.app import App
from ctxfs.eventlog.record_marks import RECORD_LABEL, is_record_path
from ctxfs.model.metadata import distrust_label
from ctxfs.model.mount import Backing
from ctxfs.model.path import Path
from ctxfs.store import rooted_fs
from ctxfs.threads import blocking


async def label_of(app: App, path: Path) -> str:
    """Return the label of a file; empty for none."""
    try:
        label = distrust_label(await app.tree.metadata(path))
        return label or (RECORD_LABEL if is_record_path(str(path)) else "")
    except OSError:  # removed after the caller has read it
        return ""


async def labels_of(app: App, paths: Iterable[str]) -> dict[str, str]:
    """Return {path: label} of those files that have a label; the caller may read all of them."""
    folders, labels = dict[str, Backing](), dict[str, str]()
    for path in dict.fromkeys(paths):
        tree_path = Path.parse(path)
        if (backing := app.tree.backing(tree_path)) is not None:
            folders[path] = backing
        else:
            labels[path] = await label_of(app, tree_path)
    labels |= await blocking(_labels_of_files, folders)  # one switch to a thread takes as long as reading ten labels
    return {path: label for path, label in labels.items() if label}


def _labels_of_files(files: Mapping[str, Backing]) -> dict[str, str]:
    labels = dict[str, str]()
    for path, backing in files.items():
        with suppress(OSError), rooted_fs.directory_of(backing.root, backing.relative.parts) as (parent, name):
            labels[path] = distrust_label(rooted_fs.read_xattrs(rooted_fs.magic_path(parent, name)))
    return labels
