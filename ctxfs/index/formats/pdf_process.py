"""Reads a PDF from stdin and writes a JSON string a page: `python -m ctxfs.index.formats.pdf_process`. Bounded in time and memory.

The only file that knows pdfium.
"""

import json
import os
import resource
import sys

_CPU_SECONDS = 30
_MEMORY = 2 << 30
_PAGES = 5000
_CHARACTERS = 5_000_000


def main() -> None:
    """Serve one file; the exit status is 1, and the reason is on stderr, if it cannot be read."""
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    import pypdfium2

    left = _CHARACTERS
    try:
        document = pypdfium2.PdfDocument(sys.stdin.buffer.read())
        for number in range(min(len(document), _PAGES)):
            page = document[number]
            text = page.get_textpage().get_text_bounded()[:left]
            page.close()
            left -= len(text)
            sys.stdout.write(json.dumps(text) + "\n")
            sys.stdout.flush()
            if left <= 0:
                break
    except (pypdfium2.PdfiumError, MemoryError) as error:
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        sys.stdout.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)  # its destructors are of no use to anybody


if __name__ == "__main__":
    main()
