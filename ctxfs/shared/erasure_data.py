"""The data of an erasure's entry: a zlib stream of a JSON object, parsed as strictly as a file of a hostile machine."""

import json
import re
import zlib
from typing import Any

from ctxfs.model.errors import CommandError
from ctxfs.model.principal import parse_principal
from ctxfs.shared.entries import MAX_DATA_BYTES
from ctxfs.store.layout import AREAS
from ctxfs.versions.history_rewrite import ErasurePlan
from ctxfs.versions.objects.git import is_oid
from ctxfs.versions.objects.name_encoding import MAX_PATH_NAMES, is_valid_name, path_bytes, path_text, split_path
from ctxfs.versions.objects.sidecar import is_sha256
from ctxfs.versions.shared_erasure import SharedPlan

MAX_UNPACKED_BYTES = 16_000_000
_FORMAT = 1
_KEYS = frozenset(("format", "places", "contents", "principal", "large", "blobs", "note", "gone", "by"))
_NOTE = re.compile(rb"\(forgotten \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ by [a-z0-9:._#@-]{1,200}\)")
_PRINCIPAL = re.compile(r"(sha256:[0-9a-f]{64})?")


def encode_plan(shared: SharedPlan) -> bytes:
    """Return the data of a plan. Raise CommandError if it is too large for an entry."""
    plan = shared.plan
    values = {
        "format": _FORMAT,
        "places": sorted(map(path_text, plan.places)),
        "contents": {path_text(path): sorted(oids) for path, oids in sorted(plan.contents.items())},
        "principal": plan.principal,
        "large": sorted(plan.large),
        "blobs": sorted(plan.blobs),
        "note": path_text(plan.note),
        "gone": sorted(shared.gone),
        "by": shared.by,
    }
    text = json.dumps(values).encode()
    data = zlib.compress(text)
    if len(data) > MAX_DATA_BYTES or len(text) > MAX_UNPACKED_BYTES:
        raise CommandError(
            f"{len(plan.blobs)} contents are too many for one erasure in a shared store", "forget them in parts"
        )
    return data


def decode_plan(data: bytes) -> SharedPlan:
    """Return the plan in an entry's data. Raise ValueError for data that `encode_plan` cannot have made."""
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(data, MAX_UNPACKED_BYTES)
        if not decompressor.eof or decompressor.unused_data:
            raise ValueError("the data is truncated or too large")
        values: Any = json.loads(text.decode("ascii"))
    except (zlib.error, RecursionError) as error:
        raise ValueError("the data is damaged") from error
    if not isinstance(values, dict) or set(values) != _KEYS or values["format"] != _FORMAT:
        raise ValueError("it is not a plan; a newer ctxfs may read it")
    contents = values["contents"]
    if not isinstance(contents, dict):
        raise ValueError("its contents are not a table")
    note, principal, by = values["note"], values["principal"], values["by"]
    if not all(isinstance(value, str) for value in (note, principal, by)):
        raise ValueError("its names are not texts")
    if not _NOTE.fullmatch(path_bytes(note)) or not _PRINCIPAL.fullmatch(principal):
        raise ValueError("its tombstone or principal is invalid")
    try:
        parse_principal(by)
    except CommandError as error:
        raise ValueError(error.message) from error
    plan = ErasurePlan(
        frozenset(map(_parse_path, _texts(values["places"]))),
        {_parse_path(path): _parse_oids(oids) for path, oids in contents.items()},
        principal,
        _parse_hashes(values["large"]),
        _parse_oids(values["blobs"]),
        path_bytes(note),
        True,
    )
    gone = _parse_oids(values["gone"])
    if not gone <= plan.blobs:
        raise ValueError("it erases contents that it does not plan")
    return SharedPlan(plan, gone, by)


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("it is not a list of texts")
    return value


def _parse_path(text: str) -> bytes:
    """Return a path inside of an area: a whole area is never erased."""
    path = path_bytes(text)
    parts = split_path(path)
    if (
        not 2 <= len(parts) <= MAX_PATH_NAMES
        or parts[0].decode("ascii", "replace") not in AREAS
        or not all(map(is_valid_name, parts))
        or b"/".join(parts) != path
    ):
        raise ValueError(f"{text[:100]!r} is not a path of a file")
    return path


def _parse_oids(value: object) -> frozenset[str]:
    oids = _texts(value)
    if not all(map(is_oid, oids)):
        raise ValueError("it names what is no object")
    return frozenset(oids)


def _parse_hashes(value: object) -> frozenset[str]:
    hashes = _texts(value)
    if not all(map(is_sha256, hashes)):
        raise ValueError("it names what is no content")
    return frozenset(hashes)
