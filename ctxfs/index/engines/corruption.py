"""Derived files that are not what was written: noticed, marked, and made again before the indexer next looks at them.

Whoever reads only marks; the indexer repairs when it starts, while nobody else writes.
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path as HostPath

from ctxfs.index.engines.catalog import Catalog
from ctxfs.store.derived_db import damage_of, is_sound

_MARK = "damaged"
_LIBRARY_ERRORS = (ValueError, RuntimeError, OSError)
_FULL = ("No space left", "no space left")


class CorruptIndex(OSError):
    """A derived file cannot be used; what was asked could not be looked at."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EIO, f"the index is damaged ({reason}): it is made again by itself, try again soon")
        self.reason = reason


@contextlib.contextmanager
def noticing(what: str) -> Iterator[None]:
    """Whatever a search library raises in here is taken for damage to `what`."""
    try:
        yield
    except CorruptIndex:
        raise
    except BaseException as error:
        # A library that trusts its files panics on a flipped bit; the panic is no Exception.
        if isinstance(error, _LIBRARY_ERRORS) or type(error).__name__ == "PanicException":
            raise CorruptIndex(f"{what}: {str(error)[:200]}") from error
        raise


def damage(error: BaseException) -> str:
    """What an error says is damaged; empty if it is about something else, as a full disk."""
    if isinstance(error, CorruptIndex):
        return "" if any(text in error.reason for text in _FULL) else error.reason
    found = damage_of(error)
    return f"catalog: {found}" if found else ""


def mark_damaged(folder: HostPath, reason: str) -> None:
    """Have the index repaired when the indexer starts next."""
    with contextlib.suppress(OSError):
        (folder / _MARK).write_text(reason, encoding="utf-8")


def repair(folder: HostPath) -> str:
    """Delete what is damaged of a marked index, so that it is made again; says what it was, or nothing.

    Of a sound catalog the words are indexed again; without one everything is.
    """
    mark = folder / _MARK
    if not mark.exists():
        return ""
    reason = mark.read_text(encoding="utf-8", errors="replace")
    if is_sound(folder / "catalog.db"):
        catalog = Catalog(folder)
        catalog.reset_words()  # before they go: else whoever looks meanwhile takes them for lost again
        catalog.close()
    else:
        for file in folder.glob("catalog.db*"):
            file.unlink(missing_ok=True)
    for file in folder.glob("graph*"):
        file.unlink(missing_ok=True)
    shutil.rmtree(folder / "words", ignore_errors=True)
    mark.unlink(missing_ok=True)
    return reason
