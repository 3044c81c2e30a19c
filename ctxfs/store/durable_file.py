"""Small files of a store, replaced so that a crash leaves the old or the new content."""

import contextlib
import os
from pathlib import Path as HostPath


def replace_text(file: HostPath, text: str) -> None:
    """Replace a file by text, as `replace_file` does."""
    replace_file(file, text.encode("utf-8"))


def replace_file(file: HostPath, data: bytes, mode: int = 0o644) -> None:
    """Replace a small file atomically and durably: after a crash it has the old or the new content.

    Of several writers at once, one is the last, and its content stays.
    """
    temporary = file.with_name(f".{file.name}.{os.urandom(8).hex()}.new")
    try:
        with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(file.parent)


def sync_folder(folder: HostPath) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
