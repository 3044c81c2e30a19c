"""Reconstruction of a context from its manifest. Pure except for fetched and read sources."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ctxfs.context.build.manifest import Manifest, digest, text_sha256
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.pins import pinned_text
from ctxfs.context.build.record_pieces import texts_of_record
from ctxfs.context.build.render import render
from ctxfs.context.build.secrets import split_at_remarks
from ctxfs.eventlog.record_marks import is_record_path
from ctxfs.index.extract.extractor import ExtractChunks
from ctxfs.index.extract.formats import UnreadableFile
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.threads import blocking

# (path, sha256 of the content, version) → the content, current or from a version; None if it no longer exists.
Fetch = Callable[[str, str, str], Awaitable[bytes | None]]


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """The result of a reconstruction.

    `text` is the rebuilt context, None if a source is `missing`. `same` means that it equals the manifest's context
    byte for byte.
    """

    same: bool
    text: str | None
    missing: Sequence[str]


async def restore(manifest: Manifest, fetch: Fetch, extract: ExtractChunks) -> tuple[list[Piece], list[str]]:
    """Return the pieces with their texts, and the ranges whose text no source has any more.

    The content of a changed file is taken from its versions.
    """
    contents: dict[str, bytes | None] = {}
    pieces, missing = [], dict[str, None]()
    for piece, expected in zip(manifest.pieces, manifest.digests, strict=True):
        if piece.path and piece.path not in contents:
            sha256 = "" if is_record_path(piece.path) else piece.sha256  # the file has grown since
            contents[piece.path] = await fetch(piece.path, sha256, manifest.revisions.get(piece.path, ""))
        filled = await blocking(_fill_text, piece, expected, contents.get(piece.path), extract)
        if filled is None:
            missing[f"{piece.path}:{piece.first}-{piece.last}"] = None
        else:
            pieces.append(filled)
    return pieces, list(missing)


async def rebuild(manifest: Manifest, fetch: Fetch, extract: ExtractChunks) -> RebuildResult:
    """Rebuild the context from its original sources and compare it byte for byte."""
    pieces, missing = await restore(manifest, fetch, extract)
    if missing:
        return RebuildResult(False, None, missing)
    request = manifest.request
    text = render(request.title, manifest.notes, pieces, request.format, request.order)
    return RebuildResult(text_sha256(text) == manifest.sha256, text, ())


def _fill_text(piece: Piece, expected: str, data: bytes | None, extract: ExtractChunks) -> Piece | None:
    """Return the piece with its text; None if the source does not have it."""
    if not piece.path:
        return piece
    if data is None:
        return None
    if piece.text:
        return piece if digest(piece.text) == expected else None
    if piece.is_whole:
        text = pinned_text((read_text(data) or "").split("\n"), piece.first, piece.last)
        return replace(piece, text=text) if digest(text) == expected else None
    if is_record_path(piece.path):
        texts = texts_of_record(data, piece.first)
        return next((replace(piece, text=text) for text in texts if digest(text) == expected), None)
    try:
        chunks = extract(piece.path, data)
    except UnreadableFile:
        return None
    texts = [chunk.text for chunk in chunks if (chunk.first, chunk.last) == (piece.first, piece.last)]
    # Another version of the chunker may have cut the same lines elsewhere.
    texts.append("\n".join((read_text(data) or "").split("\n")[piece.first - 1 : piece.last]))
    return next((replace(piece, text=text) for text in texts if digest(text) == expected), None)


async def changed_since(manifest: Manifest, current: Callable[[str], Awaitable[str]]) -> list[str]:
    """Return the changed sources, sorted. `current`: path → sha256 of the file at present. Records do not change."""
    named = {piece.path: piece.sha256 for piece in manifest.pieces if piece.path and not is_record_path(piece.path)}
    return [path for path, sha256 in sorted(named.items()) if await current(path) != sha256]


def relocate_piece(piece: Piece, data: bytes | None, extract: ExtractChunks) -> Piece | None:
    """Return the piece at the present position of its text; None if its source no longer contains it."""
    if not piece.path:
        return piece
    if data is None:
        return None
    if is_record_path(piece.path) and not piece.is_whole:
        content = " ".join(" ".join(texts_of_record(data, piece.first)).split())
        return replace(piece, above=0) if _has_parts(content, piece) else None
    if not piece.is_whole and not piece.cut:
        try:
            chunks = extract(piece.path, data)
        except UnreadableFile:
            return None
        same = [chunk for chunk in chunks if chunk.text == piece.text]
        if same:
            nearest = min(same, key=lambda chunk: abs(chunk.first - piece.first))
            return replace(piece, first=nearest.first, last=nearest.last, above=0)
        return None
    content = " ".join((read_text(data) or "").split())
    return piece if _has_parts(content, piece) else None


def _has_parts(content: str, piece: Piece) -> bool:
    """Return True if a content has each part of a text that was shortened or has remarks in place of secrets."""
    body = piece.body.removesuffix(" …")
    parts = (part.strip() for section in split_at_remarks(body) for part in section.split(" … "))
    return all(part in content for part in parts)


def explain_path(manifest: Manifest, path: str) -> list[dict[str, Any]]:
    """Return all manifest entries of a path or of the files below it: items first, then exclusions."""
    folder = path.strip("/")
    entries: list[dict[str, Any]] = []
    for entry in manifest.body["items"]:
        if _is_under(str(entry["path"]), folder):
            entries.append({**entry, "in": True})
    for entry in manifest.body["excluded"]:
        if _is_under(str(entry["path"]), folder):
            entries.append({**entry, "in": False})
    return entries


def _is_under(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
