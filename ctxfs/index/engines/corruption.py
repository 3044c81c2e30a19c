"""Detection and repair of damaged index files, which are derived data.

Readers only write a mark. The indexer repairs when it starts, because no other process writes then.
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path as HostPath

from ctxfs.index.engines.catalog import Catalog
from ctxfs.store.derived_db import damage_message, is_sound

_MARK_NAME = "damaged"
_LIBRARY_ERRORS = (ValueError, RuntimeError, OSError)
_DISK_FULL_TEXTS = ("No space left", "no space left")


class CorruptIndex(OSError):
    """An index file cannot be used, so that the request could not be served."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EIO, f"the index is damaged ({reason}): it is made again by itself, try again soon")
        self.reason = reason


@contextlib.contextmanager
def detect_corruption(engine: str) -> Iterator[None]:
    """Convert the errors that a search library raises in this block into CorruptIndex for `what`."""
    try:
        yield
    except CorruptIndex:
        raise
    except BaseException as error:
        # tantivy trusts its files and panics on a flipped bit; the panic is a BaseException, not an Exception.
        if isinstance(error, _LIBRARY_ERRORS) or type(error).__name__ == "PanicException":
            raise CorruptIndex(f"{engine}: {str(error)[:200]}") from error
        raise


def describe_damage(error: BaseException) -> str:
    """Return a description of the damage that an error reports; empty for other errors, such as a full disk."""
    if isinstance(error, CorruptIndex):
        return "" if any(text in error.reason for text in _DISK_FULL_TEXTS) else error.reason
    reason = damage_message(error)
    return f"catalog: {reason}" if reason else ""


def mark_damaged(folder: HostPath, reason: str) -> None:
    """Mark the index, so that the indexer repairs it at its next start."""
    with contextlib.suppress(OSError):
        (folder / _MARK_NAME).write_text(reason, encoding="utf-8")


def repair(folder: HostPath) -> str:
    """Delete the damaged files of a marked index, so that they are rebuilt. Return the reason, or the empty string.

    If the catalog is sound, only the full-text index and the graph are rebuilt; otherwise everything is.
    """
    mark = folder / _MARK_NAME
    if not mark.exists():
        return ""
    reason = mark.read_text(encoding="utf-8", errors="replace")
    if is_sound(folder / "catalog.db"):
        catalog = Catalog(folder)
        catalog.reset_words()  # before the files are deleted: otherwise a concurrent reader reports damage again
        catalog.close()
    else:
        for file in folder.glob("catalog.db*"):
            file.unlink(missing_ok=True)
    for file in folder.glob("graph*"):
        file.unlink(missing_ok=True)
    shutil.rmtree(folder / "words", ignore_errors=True)
    mark.unlink(missing_ok=True)
    return reason
