"""The changes of a tree, as the calling principal may see them."""

from collections.abc import Generator, Sequence

from ctxfs.library import requests
from ctxfs.library.connection import Connection
from ctxfs.model.path import Path
from ctxfs.rpc.client import Client
from ctxfs.rpc.tree_changes import TreeChanges


def watch_paths(connection: Connection, below: str, timeout: float | None) -> Generator[Sequence[str], None, None]:
    """Yield the paths that change at and below a path, see `Store.watch`. Changes since this call are seen."""
    prefix, changes = Path.parse(below), TreeChanges()
    client = Client(connection.layout.run)  # of its own: requests of the store go on meanwhile
    try:
        changes.set_mount_table(client.call("watch"))
    except BaseException:
        client.close()
        raise
    return _iterate(client, connection, changes, prefix, timeout)


def _iterate(
    client: Client, connection: Connection, changes: TreeChanges, prefix: Path, timeout: float | None
) -> Generator[Sequence[str], None, None]:
    try:
        while True:
            pushes = client.wait_for_pushes(timeout)
            paths = {path for topic, value in pushes for path in changes.paths_of(topic, value)}
            paths = {prefix if prefix.is_below(path) else path for path in paths if _concerns(path, prefix)}
            visible = [str(path) for path in sorted(paths) if _is_visible(connection, path)]
            if visible or not pushes:
                yield visible
    finally:
        client.close()


def _concerns(path: Path, prefix: Path) -> bool:
    return path.is_below(prefix) or prefix.is_below(path)


def _is_visible(connection: Connection, path: Path) -> bool:
    """Return True for a visible path, and for a deleted one in a directory of which all entries are visible.

    The tree gives no times of other directories.
    """
    try:
        connection.send(requests.stat(str(path)))
    except OSError:
        try:
            directory = connection.send(requests.stat(str(path.parent)))
        except OSError:
            return False
        return directory.is_dir and bool(directory.mtime_ns)
    return True
