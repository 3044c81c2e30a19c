"""The place of a store: its discovery, and who may write it. It imports few modules, so that commands start fast."""

from __future__ import annotations

import os
import stat

from ctxfs.model.errors import CommandError
from ctxfs.store.user_folders import data_folder

CONFIG_NAME = "ctxfs.toml"
STORE_NAME = ".ctxfs"
_FOREIGN_WRITE = stat.S_IWGRP | stat.S_IWOTH


def named_root(named: str | None) -> str:
    """Return the root of the store `named`, or of $CTXFS_STORE; empty if neither is set."""
    chosen = named or os.environ.get("CTXFS_STORE")
    return os.path.abspath(os.path.expanduser(chosen)) if chosen else ""


def default_root() -> str:
    """Return the default store of a user: $XDG_DATA_HOME/ctxfs/store. Raise CommandError without a home folder."""
    return os.path.join(data_folder(), "ctxfs", "store")


def discover_root() -> str:
    """Return the nearest `.ctxfs` folder of a store, here or above, unconfirmed; empty if there is none.

    A `.ctxfs` in a mounted tree or in a store is content, and is skipped.
    """
    folder, parent = "", _working_directory()
    while folder != parent:
        folder, parent = parent, os.path.dirname(parent)
        # A mounted tree has a `.ctxfs` of its own at its root, but only a store has the settings file.
        root = os.path.join(folder, STORE_NAME)
        if os.path.lexists(os.path.join(root, CONFIG_NAME)) and not is_inside_tree(root):
            return root
    return ""


def _working_directory() -> str:
    """Return the working directory; empty if the kernel has no path for it, as in a recently changed mount."""
    try:
        return os.getcwd()
    except OSError:
        named = os.environ.get("PWD", "")
        try:
            return named if os.path.isabs(named) and os.path.samefile(named, ".") else ""
        except OSError:
            return ""


def check_location(root: str | os.PathLike[str]) -> None:
    """Raise CommandError for a store that another user may have created or changed, or in a tree that agents write."""
    settings = os.path.join(root, CONFIG_NAME)
    try:
        folder, config = os.stat(root), os.lstat(settings)
    except OSError as error:
        raise CommandError(f"cannot read the store '{root}': {error.strerror}", "check its permissions") from error
    if not stat.S_ISREG(config.st_mode):
        raise CommandError(f"'{settings}' is no regular file", "put the settings themselves there")
    for path, file_stat in ((root, folder), (settings, config)):
        if file_stat.st_uid != os.geteuid():
            remedy = f"run ctxfs as its owner: sudo -u '#{file_stat.st_uid}' ctxfs …"
            raise CommandError(f"'{path}' belongs to user {file_stat.st_uid}, and its settings start programs", remedy)
    is_private = not folder.st_mode & (stat.S_IXGRP | stat.S_IXOTH)
    for path, file_stat in ((root, folder), (settings, config)):
        if file_stat.st_mode & _FOREIGN_WRITE and not (is_private and path != root):
            raise CommandError(f"'{path}' can be written by other users", f"look at it, then: chmod go-w '{path}'")
    if is_inside_tree(root):
        raise CommandError(f"the store '{root}' lies in a tree that agents write", "move it out, or use another one")


def is_inside_tree(root: str | os.PathLike[str]) -> bool:
    """Return True for a folder in a mounted tree, or below the folder of another store."""
    real = parent = os.path.realpath(root)
    while parent != (parent := os.path.dirname(parent)):
        if os.path.isfile(os.path.join(parent, CONFIG_NAME)) and os.path.isdir(os.path.join(parent, "tree")):
            return True
    try:
        device = os.stat(real).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            mounts = [line.partition(" - ") for line in table]
    except OSError:
        return False
    device_number = f"{os.major(device)}:{os.minor(device)}"
    return any(
        left.split(" ", 3)[2] == device_number and right.split(" ", 1)[0].startswith("fuse.ctxfs")
        for left, _, right in mounts
    )
