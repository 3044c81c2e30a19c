"""The store for contents too large for git: files named by their sha256, written once, shared by all versions."""

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path as HostPath
from typing import overload

from ctxfs.model.errors import path_error
from ctxfs.store import rooted_fs
from ctxfs.versions.objects.sidecar import Large, is_sha256

_MAX_READ_BYTES = 1 << 30


def pointer_text(large: Large) -> bytes:
    """Return the text that git stores in place of the content.

    Only the side-car decides if such a text is a pointer; a file may contain the same text.
    """
    return f"ctxfs large file\nsha256 {large.sha256}\nsize {large.size}\n".encode()


class LargeStore:
    """The folder of large contents, `<folder>/ab/cd/<sha256>`. A file that exists there is complete."""

    def __init__(self, folder: HostPath) -> None:
        self._folder = folder

    def path(self, sha256: str) -> HostPath:
        """Return the path of a content.

        Raise OSError EIO for an invalid sha256, which could be a path out of the folder.
        """
        if not is_sha256(sha256):
            raise path_error(errno.EIO, sha256, "not the sha256 of a large file")
        return self._folder / sha256[:2] / sha256[2:4] / sha256

    @overload
    def add(self, source: int) -> Large: ...

    @overload
    def add(self, source: int, is_wanted: Callable[[], bool]) -> Large | None: ...

    def add(self, source: int, is_wanted: Callable[[], bool] = lambda: True) -> Large | None:
        """Copy the current content of the open file `source`, from its start, into the store.

        Return None, and keep nothing, if `is_wanted` returns False after the copy.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f"tmp-{secrets.token_hex(8)}"
        try:
            with open(temporary, "xb", buffering=0) as out:
                large = _copy_and_hash(source, out.fileno())
                os.fchmod(out.fileno(), 0o444)
            if not is_wanted():
                temporary.unlink()
                return None
            target = self.path(large.sha256)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return large

    @staticmethod
    def compute_large(source: int) -> Large:
        """Return the result that `add` would have for an open file, without storing it."""
        return _copy_and_hash(source, None)

    def add_bytes(self, data: bytes) -> Large:
        """Store `data`."""
        fd = os.memfd_create("ctxfs-large")
        try:
            with open(fd, "wb", closefd=False) as out:
                out.write(data)
            return self.add(fd)
        finally:
            os.close(fd)

    def read(self, large: Large) -> bytes:
        """Return the whole content, in memory.

        Raise OSError EIO if it is missing or has another length, EFBIG if it is too large to be shown.
        """
        if large.size > _MAX_READ_BYTES:
            raise path_error(errno.EFBIG, large.sha256, "it is too large to be shown: restore it (ctxfs restore)")
        try:
            data = self.path(large.sha256).read_bytes()
        except OSError as error:
            raise path_error(
                errno.EIO, large.sha256, f"the large file is not in the store: {error.strerror}"
            ) from error
        if len(data) != large.size:
            raise path_error(errno.EIO, large.sha256, "the large file in the store is damaged")
        return data

    def names(self) -> Iterator[str]:
        """Yield every stored sha256."""
        for folder in self._folder.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]"):
            yield from filter(is_sha256, os.listdir(folder))

    def verify(self, sha256: str) -> bool:
        """Return True if the content has the hash in its name."""
        with contextlib.suppress(OSError), open(self.path(sha256), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        return False

    def remove(self, sha256: Iterable[str]) -> int:
        """Remove contents and return the number of those that were stored."""
        count = 0
        for name in sha256:
            with contextlib.suppress(FileNotFoundError):
                self.path(name).unlink()
                count += 1
        return count

    def clear_temporaries(self) -> None:
        """Remove the partly written files of killed processes."""
        for path in self._folder.glob("tmp-*"):
            path.unlink(missing_ok=True)


def _copy_and_hash(source: int, target: int | None) -> Large:
    digest = hashlib.sha256()
    size = rooted_fs.copy_content(source, target, digest.update)
    return Large(digest.hexdigest(), size)
