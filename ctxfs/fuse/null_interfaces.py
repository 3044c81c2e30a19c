"""The interfaces of the kernel while no transport is connected, or where it has none: nothing is cached."""

from ctxfs.fuse.interfaces import BackingFiles, Caches, ExpectedFile, OpenCacheBackend


class NullCaches(Caches):
    """Caches of names, attributes and pages that are always empty."""

    @property
    def can_expire(self) -> bool:
        """Implement `Caches.can_expire`."""
        return False

    def invalidate_inode(self, number: int) -> None:
        """Implement `Caches.invalidate_inode`."""

    def invalidate_attributes(self, number: int) -> None:
        """Implement `Caches.invalidate_attributes`."""

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Implement `Caches.invalidate_entry`."""

    def expire_entry(self, parent: int, name: bytes) -> None:
        """Implement `Caches.expire_entry`."""


class NullOpenCache(OpenCacheBackend):
    """An open file cache that is always empty."""

    def expect(self, directory: int, files: list[ExpectedFile], /) -> None:
        """Implement `OpenCacheBackend.expect`."""

    def unexpect(self, number: int, /) -> None:
        """Implement `OpenCacheBackend.unexpect`."""

    def closed(self, directory: int, /) -> None:
        """Implement `OpenCacheBackend.closed`."""

    def bare(self, number: int, /) -> None:
        """Implement `OpenCacheBackend.bare`."""

    def answer_acls(self) -> None:
        """Implement `OpenCacheBackend.answer_acls`."""

    def watch_closes(self, watches: bool, /) -> None:
        """Implement `OpenCacheBackend.watch_closes`."""

    def ends(self, number: int, cookie: int, /) -> None:
        """Implement `OpenCacheBackend.ends`."""

    def end(self, number: int, /) -> int | None:
        """Implement `OpenCacheBackend.end`."""
        return None

    def end_all(self) -> list[int]:
        """Implement `OpenCacheBackend.end_all`."""
        return []

    def take_notes(self) -> list[tuple[int, int]]:
        """Implement `OpenCacheBackend.take_notes`."""
        return []

    @property
    def noted(self) -> bool:
        """Implement `OpenCacheBackend.noted`."""
        return False


class NullBackingFiles(BackingFiles):
    """A passthrough interface that accepts no file."""

    def open_backing(self, fd: int) -> int:
        """Implement `BackingFiles.open_backing`."""
        return 0

    def close_backing(self, backing: int) -> None:
        """Implement `BackingFiles.close_backing`."""
