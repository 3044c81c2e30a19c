"""Worker process of an `Extractor`: requests on stdin, chunks on stdout, as frames of `rpc.frames`.

A request is [name, content, processor seconds]. A response is ["chunks", rows, processor seconds used] or
["unreadable", reason, processor seconds used]. The process opens no files except those that libraries are loaded from.
"""

import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

from ctxfs.index.extract.extractor import pack_chunks
from ctxfs.index.extract.formats import UnreadableFile, extract_chunks, format_of, is_slow
from ctxfs.rpc.frames import FrameReader, pack_frame

MAX_MEMORY_BYTES = 1 << 30
MAX_SLOW_MEMORY_BYTES = 2 << 30
_MAX_RESIDENT_KILOBYTES = 400 * 1024  # above it the worker exits, and a fresh one replaces it
_IDLE_SECONDS = 60.0
_PIPE_BYTES = 1 << 20


def main() -> None:
    """Serve requests until stdin ends, or until no request arrives for a minute."""
    with suppress(OSError):
        os.nice(5)
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    _limit_memory(MAX_MEMORY_BYTES)
    output_fd = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not end up among the frames
    reader = FrameReader()
    while select.select([0], [], [], _IDLE_SECONDS)[0] and (data := os.read(0, _PIPE_BYTES)):
        for name, content, cpu in reader.feed(data):
            start = time.process_time()
            _write_frame(output_fd, pack_frame([*_handle_request(name, content, cpu), time.process_time() - start]))
            if _peak_resident_kilobytes() > _MAX_RESIDENT_KILOBYTES:
                os._exit(0)
    os._exit(0)  # skips the destructors of libraries, which have no effect that matters here


def _handle_request(name: str, data: bytes, cpu: float) -> list[Any]:
    """Extract one file within `cpu` processor seconds; after that the kernel ends the process by SIGPROF."""
    _limit_memory(MAX_SLOW_MEMORY_BYTES if is_slow(name) else MAX_MEMORY_BYTES)
    signal.setitimer(signal.ITIMER_PROF, cpu)
    try:
        return ["chunks", pack_chunks(extract_chunks(name, data))]
    except UnreadableFile as reason:
        return ["unreadable", str(reason)]
    except MemoryError:
        return ["unreadable", f"{format_of(name)}: needs too much memory to be read"]
    except Exception as error:
        message = " ".join(str(error).split())[:100]
        cause = f"{type(error).__name__}: {message}".encode("ascii", "backslashreplace").decode()
        return ["unreadable", f"{format_of(name)}: cannot be read ({cause})"]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _peak_resident_kilobytes() -> int:
    """Return the peak resident memory of this program. `ru_maxrss` would include the peak of the forking process."""
    with open("/proc/self/status", "rb") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(b"VmHWM:")), 0)


def _limit_memory(size: int) -> None:
    with suppress(ValueError, OSError):  # a lower hard limit may be inherited from the parent process
        resource.setrlimit(resource.RLIMIT_AS, (size, MAX_SLOW_MEMORY_BYTES))


def _write_frame(fd: int, frame: bytes) -> None:
    remaining = memoryview(frame)
    try:
        while remaining:
            remaining = remaining[os.write(fd, remaining) :]
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main()
