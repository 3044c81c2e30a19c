"""The text of a PDF, page by page, read in a process of its own: a file that is broken, or made to break a reader, costs only that."""

import json
import subprocess
import sys
from collections.abc import Iterator

from ctxfs.index.chunks import Chunk
from ctxfs.index.formats import Unreadable

_SECONDS = 60


def read_pdf(data: bytes) -> Iterator[Chunk]:
    """The pages as passages; "lines" are pages. Unreadable if there is no text to be had."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ctxfs.index.formats.pdf_process"], input=data, capture_output=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Unreadable("PDF: takes too long to read") from None
    pages = [json.loads(line) for line in done.stdout.splitlines()] if done.stdout.endswith(b"\n") else []
    if done.returncode and not pages:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1][-120:] if done.returncode > 0 and said else "its reader died"
        raise Unreadable(f"PDF: cannot be read ({reason})")
    if not any(page.strip() for page in pages):
        raise Unreadable("PDF: no text in it (scanned pages?)")
    for number, page in enumerate(pages, 1):
        for paragraph in page.replace("\r\n", "\n").split("\n\n"):
            if paragraph.strip():
                yield Chunk(paragraph, number, number, f"page {number}")
