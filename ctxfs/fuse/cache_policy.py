"""The caching policy of a mount: the content, names and attributes that the kernel may cache, and for how long."""

from ctxfs.fuse.inodes import Area, Node
from ctxfs.fuse.interfaces import Caches
from ctxfs.fuse.null_interfaces import NullCaches
from ctxfs.fuse.open_file_cache import OpenFileCache


class CachePolicy:
    """The validity of names, attributes and pages in the kernel's caches. Used by the thread of the handlers."""

    def __init__(self, open_file_cache: OpenFileCache, store: str, cache_seconds: float) -> None:
        """Create the policy of a mount of `store`, a folder; `cache_seconds` is the longest validity."""
        self.caches: Caches = NullCaches()  # until `connect`
        self.direct_io_fds: set[int] = set()  # handles with direct I/O, without page cache
        self.is_writable_elsewhere = False
        self.cache_seconds = self.writable_cache_seconds = cache_seconds
        self._open_file_cache = open_file_cache
        self._store_prefix = store + "/"
        self._max_cache_seconds = cache_seconds
        self._is_connected = True

    def connect(self, caches: Caches) -> None:
        """Use the caches of the kernel from now on."""
        self.caches = caches

    def set_connected(self, is_connected: bool) -> None:
        """Let the kernel cache only while the daemon is connected, because it sends the change notices."""
        self._is_connected = is_connected
        self._set_cache_seconds()

    def set_writable_elsewhere(self, is_writable: bool) -> None:
        """Set whether other mount points write to the same files.

        If so, their writes must be visible at once, and writable files are not cached.
        """
        self.is_writable_elsewhere = is_writable
        self._open_file_cache.evict_all()
        self._set_cache_seconds()

    def _set_cache_seconds(self) -> None:
        self.cache_seconds = self._max_cache_seconds if self._is_connected else 0.0
        self.writable_cache_seconds = 0.0 if self.is_writable_elsewhere else self.cache_seconds

    def area_cache_seconds(self, area: Area) -> float:
        """Return how many seconds the kernel may cache names and attributes of an area."""
        return self.writable_cache_seconds if area.writable else self.cache_seconds

    def is_shared(self, area: Area) -> bool:
        """Return True if other mount points write to the area: its files then bypass this mount's page cache."""
        return self.is_writable_elsewhere and area.writable

    def needs_direct_io(self, area: Area, *, maps_writable: bool) -> bool:
        """Return True if a mapping through this mount's page cache could differ from another mapping of the same file.

        Other mount points may map the files, and any program may map those of a source. Such a handle gets no page
        cache: the kernel then refuses to map it with MAP_SHARED.
        """
        if not area.writable:
            return False
        return self.is_writable_elsewhere or (maps_writable and not area.root.startswith(self._store_prefix))

    def mark_stale(self, node: Node) -> None:
        """Mark the kernel's cached pages of a node as stale."""
        node.cached_version = None
        self._open_file_cache.evict(node)
