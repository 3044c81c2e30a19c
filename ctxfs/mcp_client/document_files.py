"""The stored documents of an MCP server: files below one folder, marked as untrusted."""

import contextlib
import os
from pathlib import Path as HostPath

from ctxfs.store.rooted_fs import temporary_name
from ctxfs.store.untrusted import mark_untrusted


def store_document(folder: HostPath, parts: tuple[str, ...], data: bytes, uri: str) -> None:
    """Replace a file atomically, marked as untrusted and with its source."""
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_bytes() == data:
        return
    temporary = path.with_name(os.fsdecode(temporary_name()))
    try:
        temporary.write_bytes(data)
        mark_untrusted(temporary, uri)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_folder(folder: HostPath, parts: tuple[str, ...]) -> None:
    """Create the folder of a document that lists other documents."""
    folder.joinpath(*parts).mkdir(parents=True, exist_ok=True)


def delete_unlisted(folder: HostPath, documents: set[tuple[str, ...]]) -> None:
    """Delete documents that the server does not list any more.

    Documents that were fetched through a template are deleted as well, and fetched again on demand.
    """
    for walked, folders, names in os.walk(folder, topdown=False):
        directory = HostPath(walked)
        for name in names:
            if directory.joinpath(name).relative_to(folder).parts not in documents:
                (directory / name).unlink(missing_ok=True)
        for name in folders:
            with contextlib.suppress(OSError):
                (directory / name).rmdir()
