"""Pins of a context: files that the request names, and memories whose attribute `pinned` puts them in every context."""

import errno
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from ctxfs.context.build.piece import Piece
from ctxfs.context.build.request import Pin, Request
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.index.query import Query, parse_query, parse_when
from ctxfs.index.search.file_status import FileStatus
from ctxfs.index.search.results import SearchResults
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.path import Path, printable
from ctxfs.threads import blocking

MAX_PINNED_FILES = 50
_SHARED = "shared"
_PINNED = "pinned:true"


class PinTree(Protocol):
    """The part of a tree view that pins need."""

    async def search(self, query: Query, below: Path, limit: int) -> SearchResults:
        """Return the best `limit` chunks below a directory."""
        ...

    async def read(self, path: Path) -> bytes:
        """Return the content of a file; raise OSError."""
        ...

    async def statuses(self, paths: Collection[str]) -> Mapping[str, FileStatus]:
        """Return the search-relevant status of those of these files that have one."""
        ...


async def read_pin(view: PinTree, pin: Pin) -> Piece:
    """Return the lines of a pin.

    Raise OSError: ENOENT for a missing file, EINVAL for a binary one and for lines that it does not have.
    """
    try:
        data = await view.read(pin.path)
    except FileNotFoundError as error:
        raise path_error(errno.ENOENT, pin.path, f"pinned file '{printable(str(pin.path))}' does not exist") from error
    except OSError as error:
        raise path_error(
            error.errno or errno.EIO,
            pin.path,
            f"pinned file '{printable(str(pin.path))}' cannot be read: {error.strerror}",
        ) from error
    text = await blocking(read_text, data)
    if text is None:
        raise invalid("pins", f"pinned file '{printable(str(pin.path))}' is binary: a text is needed")
    lines = text.split("\n")
    if pin.first > len(lines):
        raise invalid("pins", f"pin '{pin}': the file has {len(lines)} lines")
    last = min(pin.last or len(lines), len(lines))
    return Piece(
        str(pin.path),
        pin.first,
        last,
        pinned_text(lines, pin.first, last),
        sha256=hashlib.sha256(data).hexdigest(),
        why="pin",
    )


def pinned_text(lines: Sequence[str], first: int, last: int) -> str:
    """Return the text of a pin of these lines."""
    return "\n".join(lines[first - 1 : last]).strip("\n")


def restrict(query: Query, request: Request) -> Query:
    """Return a query with the kinds and states of a request, and its time of validity."""
    kinds, states = (*query.kinds, *request.kinds), (*query.states, *request.states)
    return replace(query, kinds=kinds, states=states, valid=query.valid or parse_when(request.when))


async def read_pinned(view: PinTree, request: Request, principal: str) -> list[Piece]:
    """Return the pinned memories of the principal (`human:ada`) and of all, newest first, each as a whole.

    A file that is not trusted is not among them: it would be in every context.
    """
    query, pieces = restrict(parse_query(_PINNED), request), dict[str, Piece]()
    for folder in _folders(request.paths, principal.partition(":")[2]):
        for hit in (await view.search(query, folder, MAX_PINNED_FILES)).hits:
            chunk = hit.chunk
            if chunk.path in pieces or len(pieces) >= MAX_PINNED_FILES:
                continue
            try:
                piece = await read_pin(view, Pin(Path.parse(chunk.path)))
            except OSError:
                continue  # removed meanwhile, or binary
            pieces[chunk.path] = replace(piece, why="pinned", kind=chunk.kind, mtime_ns=chunk.mtime_ns, day=chunk.day)
    statuses = await view.statuses(pieces.keys()) if pieces else {}
    return [
        piece
        for path, piece in sorted(pieces.items(), key=lambda item: (-item[1].mtime_ns, item[0]))
        if not ((status := statuses.get(path)) is not None and status.untrusted)
    ]


def _folders(paths: Sequence[Path], name: str) -> list[Path]:
    """Return the directories of pinned memories that a request with these paths covers."""
    scopes = [Path(("memory", owner)) for owner in dict.fromkeys((name, _SHARED)) if owner]
    if not paths:
        return scopes
    pairs = [(scope, path) for scope in scopes for path in paths]
    narrowed = [
        path if path.is_below(scope) or path == scope else scope for scope, path in pairs if _overlap(scope, path)
    ]
    return list(dict.fromkeys(narrowed))


def _overlap(first: Path, second: Path) -> bool:
    return first == second or first.is_below(second) or second.is_below(first)
