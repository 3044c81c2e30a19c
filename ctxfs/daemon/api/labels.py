"""Warnings beside the text of files: distrust marks, cited lines that no longer hold, validity, records of the event log."""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from ctxfs.app import App
from ctxfs.eventlog.record_marks import RECORD_LABEL, is_record_path
from ctxfs.memory.validity import UNTIL, validity_of
from ctxfs.model.metadata import PREFIX, distrust_label
from ctxfs.model.mount import Backing
from ctxfs.model.path import Path, one_line
from ctxfs.services.citations import CITES
from ctxfs.store import rooted_fs
from ctxfs.threads import blocking


async def label_of(app: App, path: Path) -> str:
    """Return the label of a file; empty for none."""
    try:
        attributes = await app.tree.metadata(path)
        label = await blocking(_label, app, str(path), attributes)
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
    labels |= await blocking(
        _labels_of_files, app, folders
    )  # one switch to a thread takes as long as reading ten labels
    return {path: label for path, label in labels.items() if label}


def _labels_of_files(app: App, files: Mapping[str, Backing]) -> dict[str, str]:
    labels = dict[str, str]()
    for path, backing in files.items():
        with suppress(OSError), rooted_fs.directory_of(backing.root, backing.relative.parts) as (parent, name):
            labels[path] = _label(app, path, rooted_fs.read_xattrs(rooted_fs.magic_path(parent, name)))
    return labels


def _label(app: App, path: str, attributes: Mapping[str, bytes]) -> str:
    """Return the warnings of a file: untrusted, resting on lines that no longer hold, no longer valid. Blocks."""
    labels = [distrust_label(attributes)]
    if value := attributes.get(CITES):
        for holdings in app.memory.citations.broken({path: value}).values():
            labels += [f"[source {item.state} since: {one_line(str(item.citation.span))}]" for item in holdings[:1]]
    until = attributes.get(f"{PREFIX}{UNTIL}", b"").decode("utf-8", "replace")
    if validity_of({UNTIL: until}).is_over(time.time()):
        labels.append(f"[valid until {one_line(until)} only]")
    return " ".join(filter(None, labels))
