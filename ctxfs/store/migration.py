"""Migration of a store of an older format: a snapshot of it first, then a step for each format between.

A step has to be idempotent, because it runs again after a kill. The holder of the store lock migrates. The snapshot
`<store>/before/format-N` is complete once it has that name, and is not taken again.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as HostPath
from types import MappingProxyType

from ctxfs.model.errors import CommandError
from ctxfs.store import store_format

SNAPSHOTS_NAME = "before"
_PARTIAL_NAME = ".partial"
_DERIVED_NAMES = frozenset(("index", "run", SNAPSHOTS_NAME))
_REPO_NAME = "repo.git"
_IMMUTABLE_NAMES = ("large", f"{_REPO_NAME}/objects")  # their files are never changed, so links are copies

Step = Callable[[HostPath], None]
STEPS: Mapping[int, Step] = MappingProxyType({})  # format N → the step that changes a store from N to N + 1


def migrate(root: HostPath) -> None:
    """Migrate a store to the present format, if it has an older one. The caller holds the store lock.

    Raise CommandError with the place of the snapshot if a step fails, and without one if there is no room for it.
    """
    number = store_format.read_format(root)
    if number >= store_format.FORMAT:
        return
    snapshot = take_snapshot(root, number)
    try:
        for step in range(number, store_format.FORMAT):
            STEPS[step](root)
            store_format.set_format(root, step + 1)
    except OSError as error:
        raise CommandError(
            f"the store '{root}' cannot be migrated from format {number}: {error}",
            f"remove the cause and repeat the command; the store before it is in '{snapshot}'",
        ) from error


def take_snapshot(root: HostPath, number: int) -> HostPath:
    """Copy all but derived files of a store of format `number`; return the folder. An earlier copy stays."""
    folder = root / SNAPSHOTS_NAME
    target, partial = folder / f"format-{number}", folder / _PARTIAL_NAME
    if target.exists():
        return target
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / _REPO_NAME).mkdir(parents=True)
        folder.chmod(0o700)
        _copy(
            [path for path in sorted(root.iterdir()) if path.name not in _DERIVED_NAMES | {_REPO_NAME, "large"}],
            partial,
        )
        if (root / _REPO_NAME).is_dir():
            _copy(
                [path for path in sorted((root / _REPO_NAME).iterdir()) if path.name != "objects"], partial / _REPO_NAME
            )
        for name in _IMMUTABLE_NAMES:
            if (root / name).is_dir():
                _copy([root / name], (partial / name).parent, "--link")
        os.sync()
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CommandError(
            f"the store '{root}' has the older format {number}, and cannot be copied before its migration: {error}",
            "make room on that disk, or use the ctxfs that made it",
        ) from error
    return target


def drop_snapshots(root: HostPath) -> None:
    """Delete the snapshots of earlier formats: erased content has to leave them, too."""
    shutil.rmtree(root / SNAPSHOTS_NAME, ignore_errors=True)


def list_snapshots(root: HostPath) -> list[HostPath]:
    """Return the folders of complete snapshots."""
    return sorted((root / SNAPSHOTS_NAME).glob("format-*"))


def _copy(sources: Sequence[HostPath], target: HostPath, *options: str) -> None:
    """Copy files and folders with their attributes, times and hard links. Raise OSError on failure."""
    if not sources:
        return
    result = subprocess.run(["cp", "-a", *options, "--", *sources, target], capture_output=True, text=True)
    if result.returncode:
        raise OSError((result.stderr.strip().splitlines() or ["cp failed"])[-1])
