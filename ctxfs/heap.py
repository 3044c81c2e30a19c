"""Memory of long-running processes: the allocator's retained memory, and the frequency of Python's cycle collection.

glibc gives each thread an arena of its own. It raises the size from which memory is returned to the system at once
whenever a larger block is freed, so that little is ever returned. Other C libraries (musl, macOS) need none of this,
and nothing is done there.
"""

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of <malloc.h>
_LARGE_BLOCK_BYTES = 128 * 1024
_MAX_ARENAS = 2
# For gc.set_threshold: new objects before a collection of generation 0; collections before those of 1 and 2.
_MAX_NEW_OBJECTS, _MAX_COLLECTIONS = 50_000, (20, 20)


def give_back_early() -> None:
    """Have the allocator return freed memory early. Call this before threads are started."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in (
            (_ARENA_MAX, _MAX_ARENAS),
            (_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES),
            (_TRIM_THRESHOLD, _LARGE_BLOCK_BYTES),
        ):
            mallopt(option, value)


def look_for_cycles_rarely() -> None:
    """Exempt the current objects from cycle collection, and collect the new ones less often.

    Few objects are in cycles: nearly all nodes of a tree live as long as the tree.
    """
    gc.freeze()
    gc.set_threshold(_MAX_NEW_OBJECTS, *_MAX_COLLECTIONS)


def give_back() -> None:
    """Return free memory to the system now."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
