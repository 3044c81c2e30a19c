"""Worker process of a `Renderer`: requests on stdin, HTML on stdout, as frames of `rpc.frames`.

A request is ["code", name, text] or ["markdown", text, base, address of files]. The response is its HTML. The process
ends when a request takes too much time or memory.
"""

import os
import resource
import signal
from contextlib import suppress

from ctxfs.rpc.frames import FrameReader, pack_frame
from ctxfs.web.rendering import render_code, render_markdown

CPU_SECONDS = 1.0
_MAX_MEMORY_BYTES = 512 << 20
_CHUNK_BYTES = 1 << 16


def main() -> None:
    """Serve requests until stdin ends."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    output = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not end up among the frames
    reader = FrameReader()
    while data := os.read(0, _CHUNK_BYTES):
        for kind, *arguments in reader.feed(data):
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            html = render_code(*arguments) if kind == "code" else render_markdown(*arguments)
            signal.setitimer(signal.ITIMER_PROF, 0)
            frame = memoryview(pack_frame([html]))
            while frame:
                frame = frame[os.write(output, frame) :]


if __name__ == "__main__":
    main()
