"""Stray files: written to the directory below a mount point while nothing was mounted, and moved into the store."""

import logging
import os
import shutil
import time
from pathlib import Path as HostPath

from ctxfs.fuse import mount_calls
from ctxfs.store.lost_and_found import make_stray_folder

log = logging.getLogger(__name__)

_ATTEMPTS = 3


def open_directory(at: str) -> int | None:
    """Return a descriptor of the directory at `at`, None if it cannot be opened.

    It must be opened before a file system is mounted there.
    """
    try:
        return os.open(at, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None


def open_covered(at: str) -> int | None:
    """Return a descriptor of a directory that a mount covers, None if this process lacks the capability."""
    try:
        parent = mount_calls.open_uncovered(os.path.dirname(at))
    except OSError:
        return None
    try:
        return os.open(os.path.basename(at), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return None
    finally:
        os.close(parent)


def move_stray_files(directory: int, at: str, store: HostPath) -> HostPath | None:
    """Move all files of a directory, a descriptor, below the mount point `at` into the store, and log it.

    Return the folder that contains them; None if there were none. Files that cannot be moved stay, and are logged, too.
    """
    names = os.listdir(directory)
    if not names:
        return None
    folder = make_stray_folder(store, at)
    faults: dict[str, str] = {}
    for _ in range(_ATTEMPTS):  # a writer may have the directory open, and create more files for a moment
        faults = {name: fault for name in names if (fault := _move_entry(directory, name, folder))}
        names = os.listdir(directory)
        if not names or faults:
            break
    log.error("files were written to '%s' while nothing was mounted there; they are in '%s'", at, folder)
    for name, fault in faults.items():
        log.error("'%s' lies under the mount at '%s' and cannot be moved: %s", name, at, fault)
    return folder


def _move_entry(directory: int, name: str, folder: HostPath) -> str:
    """Move one file, by rename or by copy. Return the reason for a failure, or an empty text."""
    target = folder / name
    if os.path.lexists(target):
        target = folder / f"{name}.{time.time_ns()}"
    try:
        os.rename(name, target, src_dir_fd=directory)
        return ""
    except OSError as error:
        if os.stat(name, dir_fd=directory, follow_symlinks=False).st_dev != os.fstat(directory).st_dev:
            return "something is mounted there"
        rename_error = error
    source = f"/proc/self/fd/{directory}/{name}"
    try:
        if os.path.isdir(source) and not os.path.islink(source):
            shutil.copytree(source, target, symlinks=True)
            shutil.rmtree(source)
        else:
            shutil.copy2(source, target, follow_symlinks=False)
            os.unlink(source)
    except OSError as error:  # shutil.Error is an OSError
        return error.strerror or rename_error.strerror or str(error)
    return ""
