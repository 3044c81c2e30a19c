"""Memory of processes that live for weeks: what the C library keeps of what was freed, and how often Python looks for cycles.

glibc gives each thread an arena of its own, and raises the size from which memory goes straight back to the system whenever a larger
piece was freed; then little is ever given back. Elsewhere (musl, macOS) nothing of this is needed, and nothing is done.
"""

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of <malloc.h>
_LARGE = 128 * 1024
_ARENAS = 2
# Objects that were made and live since the last look at the young ones; how many such looks before one at the older, and at all.
_NEW, _OLDER = 50_000, (20, 20)


def give_back_early() -> None:
    """From now on. To be called before threads are started."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_ARENA_MAX, _ARENAS), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _LARGE)):
            mallopt(option, value)


def look_for_cycles_rarely() -> None:
    """What is there now stays, and most of what comes is in no cycle: of many nodes of a tree nearly all live as long as it."""
    gc.freeze()
    gc.set_threshold(_NEW, *_OLDER)


def give_back() -> None:
    """What is free now."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
