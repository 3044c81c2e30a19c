"""The number of a store's format, in `<store>/format`: a program that does not know it leaves the store alone.

It is raised by a change after which an older ctxfs would misread the tree, the journal, the versions, the event log or the
settings. Indexes have numbers of their own, because they are rebuilt. Stores without the file have format 1.
`migration` has the steps from older formats. This module imports few others, so that commands start fast.
"""

from __future__ import annotations

import os

from ctxfs import __version__
from ctxfs.model.errors import CommandError

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    from pathlib import Path as HostPath

FORMAT = 1
FORMAT_NAME = "format"
_MAX_BYTES = 32


def check_format(root: HostPath) -> int:
    """Return the format of a store. Raise CommandError for a newer format, or for one that is not readable."""
    if (number := read_format(root)) > FORMAT:
        from ctxfs.model.installation import upgrade_command

        raise CommandError(
            f"the store '{root}' has format {number}, and ctxfs {__version__} knows {FORMAT} at most",
            f"upgrade ctxfs: {upgrade_command()}",
        )
    return number


def read_format(root: str | os.PathLike[str]) -> int:
    """Return the format of a store, 1 without a number. Raise CommandError if it is not readable."""
    file = os.path.join(root, FORMAT_NAME)
    try:
        with open(file, "rb") as stream:
            text = stream.read(_MAX_BYTES)
    except FileNotFoundError:
        return 1
    except OSError as error:
        raise CommandError(f"cannot read '{file}': {error.strerror}", "check its permissions") from error
    if not text.strip().isdigit():
        raise CommandError(f"'{file}' has no number of a format", "restore it from a backup: the first is 1")
    return int(text)


def write_format(root: HostPath, *, is_new: bool) -> None:
    """Write the number into a store that has none: the present format for a new store, and 1 for an older one."""
    if not (root / FORMAT_NAME).exists():
        set_format(root, FORMAT if is_new else 1)


def set_format(root: HostPath, number: int) -> None:
    """Write the number of a store's format, durably."""
    from ctxfs.store.durable_file import replace_file

    replace_file(root / FORMAT_NAME, f"{number}\n".encode())
