"""The stream of a git pack (`gitformat-pack`, version 2) of whole objects, without deltas, which git then indexes."""

import hashlib
import struct
import zlib
from collections.abc import Collection, Iterator

from ctxfs.versions.objects.object_memory import StoredObject

_TYPES = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_LEVEL = 1


def encode_pack_stream(objects: Collection[StoredObject]) -> Iterator[bytes]:
    """Yield the pieces of a pack: its header, the objects, and the SHA-1 of all before."""
    digest = hashlib.sha1(usedforsecurity=False)
    for piece in _pieces(objects):
        digest.update(piece)
        yield piece
    yield digest.digest()


def _pieces(objects: Collection[StoredObject]) -> Iterator[bytes]:
    yield struct.pack(">4sII", b"PACK", 2, len(objects))
    for kind, data in objects:
        yield _object_header(_TYPES[kind], len(data)) + zlib.compress(data, _LEVEL)


def _object_header(kind: int, size: int) -> bytes:
    """Return the type and the size: four bits of it in the first byte, seven in each that follows, the lowest first."""
    header, byte, size = bytearray(), kind << 4 | size & 15, size >> 4
    while size:
        header.append(byte | 128)
        byte, size = size & 127, size >> 7
    header.append(byte)
    return bytes(header)
