"""What the C library keeps of freed memory: as little as may be, in processes that live for weeks.

glibc gives each thread an arena of its own, and raises the size from which memory goes straight back to the system whenever a larger
piece was freed; then little is ever given back. Elsewhere (musl, macOS) nothing of this is needed, and nothing is done.
"""

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of <malloc.h>
_LARGE = 128 * 1024
_ARENAS = 2


def give_back_early() -> None:
    """From now on. To be called before threads are started."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_ARENA_MAX, _ARENAS), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _LARGE)):
            mallopt(option, value)


def give_back() -> None:
    """What is free now."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
