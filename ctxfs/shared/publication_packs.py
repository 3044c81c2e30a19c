"""The packs of a publication: large ones are stored in the engine before the turn, small ones are a part of the entry."""

from dataclasses import dataclass

from ctxfs.shared.entries import MAX_INLINE_BYTES
from ctxfs.shared.log import SharedLog
from ctxfs.shared.object_pack import encode_packs
from ctxfs.shared.snapshots import put_pack
from ctxfs.versions.remotes.shared_heads import Publication, SharedHeads

MAX_TURN_OBJECTS = 12  # that are read and packed in a turn without a look at their sizes


@dataclass(frozen=True, slots=True)
class Sent:
    """The packs that the engine has already, the ids of the objects in them, and a small pack for the entry itself."""

    packs: tuple[str, ...] = ()
    objects: frozenset[str] = frozenset()
    inline: bytes = b""


def send(engine: SharedLog, heads: SharedHeads, publication: Publication, *, is_turn: bool = False) -> Sent:
    """Store large contents and packs in the engine, so that the entry is small.

    Before a turn, objects that fit into the entry are left to it. An interrupted call can be repeated: contents that the
    engine has are not sent again.
    """
    for large in publication.large:
        with heads.open_large(large) as file:
            engine.put(large.sha256, file)
    if not is_turn and len(publication.objects) <= MAX_TURN_OBJECTS:
        return Sent()
    packs = encode_packs(heads.read_objects(publication.objects))
    first, second = next(packs, b""), next(packs, None)
    if second is None and len(first) <= MAX_INLINE_BYTES:
        return Sent(inline=first if is_turn else b"")
    names = [put_pack(engine, pack) for pack in (first, *([] if second is None else [second]))]
    names += [put_pack(engine, pack) for pack in packs]
    return Sent(tuple(names), frozenset(oid for _, oid in publication.objects))
