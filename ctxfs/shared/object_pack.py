"""Packs of git objects in log entries: a zlib stream of records `kind, length, content`. Other machines make them.

`kind` is one of the letters below, `length` a big-endian u32. An object's id is computed, never read.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator

MAX_PACK_BYTES = 260_000_000  # compressed: one object of the maximum size, which may not shrink
MAX_OBJECT_BYTES = 256_000_000
MAX_UNPACKED_BYTES = 1_000_000_000  # of one pack
TARGET_PACK_BYTES = 8_000_000  # of contents, after which the next pack is begun
_KINDS = {b"b": "blob", b"t": "tree", b"c": "commit"}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}
_RECORD = struct.Struct(">cI")
_STEP_BYTES = 1 << 20
_LEVEL = 1


class PackError(ValueError):
    """Raised for bytes that are not a pack."""


def encode_packs(objects: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """Yield packs of (kind, content), in order. A pack is of about `TARGET_PACK_BYTES` of contents, or one object."""
    compressor, size = zlib.compressobj(_LEVEL), 0
    pieces: list[bytes] = []
    for kind, data in objects:
        if size and size + len(data) > TARGET_PACK_BYTES:
            yield b"".join((*pieces, compressor.flush()))
            compressor, size, pieces = zlib.compressobj(_LEVEL), 0, []
        pieces.append(compressor.compress(_RECORD.pack(_LETTERS[kind], len(data))))
        pieces.append(compressor.compress(data))
        size += len(data) + _RECORD.size
    if size:
        yield b"".join((*pieces, compressor.flush()))


def decode_pack(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the (kind, content) of a pack. Raise PackError for other bytes; the objects before it are valid.

    Memory is bounded by one object and a step, however well the bytes are compressed.
    """
    if not data:
        return
    buffer, total = bytearray(), 0
    for piece in _decompress(data):
        total += len(piece)
        if total > MAX_UNPACKED_BYTES:
            raise PackError(f"it holds more than {MAX_UNPACKED_BYTES} bytes")
        buffer += piece
        yield from _take_objects(buffer)
    if buffer:
        raise PackError("its last object is truncated")


def _decompress(data: bytes) -> Iterator[bytes]:
    decompressor = zlib.decompressobj()
    try:
        while not decompressor.eof:
            piece = decompressor.decompress(data, _STEP_BYTES)
            data = decompressor.unconsumed_tail
            if not piece and not data and not decompressor.eof:
                raise PackError("it is truncated")
            yield piece
    except zlib.error as error:
        raise PackError("it is damaged") from error
    if decompressor.unused_data:
        raise PackError("bytes follow its end")


def _take_objects(buffer: bytearray) -> Iterator[tuple[str, bytes]]:
    """Yield the complete objects at the start of the buffer, and remove them."""
    offset = 0
    while len(buffer) - offset >= _RECORD.size:
        letter, length = _RECORD.unpack_from(buffer, offset)
        if letter not in _KINDS:
            raise PackError("it holds an object of another kind")
        if length > MAX_OBJECT_BYTES:
            raise PackError(f"it holds an object of {length} bytes")
        end = offset + _RECORD.size + length
        if len(buffer) < end:
            break
        yield _KINDS[letter], bytes(buffer[offset + _RECORD.size : end])
        offset = end
    del buffer[:offset]
