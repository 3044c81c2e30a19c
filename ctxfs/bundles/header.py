"""The header of a bundle, `memcube.json`: its three groups, and the path, size, hash and attributes of each file. Pure.

The groups are those of a MemCube (arXiv 2507.03724): `descriptive` (origin, time, number of files), `governance` (trust
and quarantine), `behaviour` (kinds, pins). They describe, and only `files` and `directories` bind. A header from elsewhere
is hostile: `parse_header` refuses it whole, with the fault, unless every path and number in it is sound.
"""

import base64
import binascii
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ctxfs.model.errors import invalid
from ctxfs.model.path import Path, printable

FORMAT = "ctxfs-bundle"
VERSION = 1
HEADER_NAME = "memcube.json"
SIGNATURE_NAME = "memcube.json.sig"
CONTENT_FOLDER = "files"
HISTORY_FIELD = "history_sha256"  # of the descriptive group
MAX_HEADER_BYTES = 64_000_000
MAX_FILES = 1_000_000
MAX_SIGNATURE_BYTES = 16_384
_MAX_SIZE = 1 << 62
_MAX_NAMES = 64  # in a path
_MAX_PATH_BYTES = 3000
_MAX_ATTRIBUTES = 100
_MAX_ATTRIBUTE_BYTES = 65_536
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ATTRIBUTE = re.compile(r"user\.[^\x00/]{1,250}")


@dataclass(frozen=True, slots=True)
class BundleEntry:
    """A file or a directory of a bundle, by its path below the root of the bundle.

    `attributes` have full names. `size` and `sha256` are those of the content; a directory has neither.
    """

    path: Path
    mode: int
    attributes: Mapping[str, bytes] = field(default_factory=dict)
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a bundle. `root` is the path that was exported, at which it is imported unless another is named."""

    root: Path
    files: tuple[BundleEntry, ...]
    directories: tuple[BundleEntry, ...] = ()
    descriptive: Mapping[str, Any] = field(default_factory=dict)
    governance: Mapping[str, Any] = field(default_factory=dict)
    behaviour: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tree_hash(self) -> str:
        """The SHA-256 of the paths, modes and contents of all files and directories: equal for equal trees."""
        lines = sorted(
            (_encode_path(entry.path), f"{entry.mode:04o} {entry.sha256 or 'directory'}")
            for entry in (*self.directories, *self.files)
        )
        return hashlib.sha256(json.dumps(lines).encode()).hexdigest()

    @property
    def history_sha256(self) -> str:
        """The SHA-256 of the list of earlier versions; empty for a bundle without one."""
        return str(self.descriptive.get(HISTORY_FIELD, ""))

    @property
    def total_bytes(self) -> int:
        """The sum of the sizes of all files."""
        return sum(entry.size for entry in self.files)


def encode_header(header: Header) -> bytes:
    """Return the canonical bytes of a header, in ASCII, which a signature signs."""
    body = {
        "format": FORMAT,
        "version": VERSION,
        "descriptive": {
            **header.descriptive,
            "root": str(header.root),
            "files": len(header.files),
            "bytes": header.total_bytes,
            "tree": header.tree_hash,
        },
        "governance": dict(header.governance),
        "behaviour": dict(header.behaviour),
    }
    lines = [
        ",\n".join(f" {json.dumps(_record(entry), sort_keys=True)}" for entry in entries)
        for entries in (header.directories, header.files)
    ]
    head = json.dumps(body, indent=1, sort_keys=True)
    return f'{head[:-2]},\n "directories": [\n{lines[0]}\n ],\n "files": [\n{lines[1]}\n ]\n}}\n'.encode()


def parse_header(data: bytes) -> Header:
    """Return the header in bytes. Raise OSError EINVAL with the first fault."""
    if len(data) > MAX_HEADER_BYTES:
        raise _fault(f"it has {len(data)} bytes, over the limit of {MAX_HEADER_BYTES}")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _fault(f"it is no JSON: {str(error)[:200]}") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise _fault("this is no bundle of ctxfs")
    if body.get("version") != VERSION:
        raise _fault(f"version {str(body.get('version'))[:20]} of bundles is not known here; this is {VERSION}")
    descriptive, governance, behaviour = (_group(body, name) for name in ("descriptive", "governance", "behaviour"))
    files, directories = (_parse_entries(body, name) for name in ("files", "directories"))
    if len(files) + len(directories) > MAX_FILES:
        raise _fault(f"it has more than {MAX_FILES} files")
    history = descriptive.get(HISTORY_FIELD, "")
    if not isinstance(history, str) or not (history == "" or _SHA256.fullmatch(history)):
        raise _fault("the hash of its history is none")
    root = _parse_path(descriptive.get("root"), may_be_root=True)
    header = Header(root, files, directories, descriptive, governance, behaviour)
    _check_paths(header)
    if descriptive.get("tree") != header.tree_hash:
        raise _fault("its list of files does not match its tree hash")
    return header


def _group(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    group = body.get(name)
    if not isinstance(group, dict):
        raise _fault(f"the group '{name}' is missing")
    return group


def _parse_entries(body: Mapping[str, Any], name: str) -> tuple[BundleEntry, ...]:
    entries = body.get(name)
    if not isinstance(entries, list) or len(entries) > MAX_FILES:
        raise _fault(f"the list '{name}' is missing, or has more than {MAX_FILES} entries")
    return tuple(_parse_entry(entry, name) for entry in entries)


def _record(entry: BundleEntry) -> dict[str, Any]:
    record: dict[str, Any] = {"path": _encode_path(entry.path), "mode": f"{entry.mode:04o}"}
    if entry.sha256:
        record |= {"size": entry.size, "sha256": entry.sha256}
    if entry.attributes:
        record["attributes"] = {name: _encode_value(value) for name, value in sorted(entry.attributes.items())}
    return record


def _parse_entry(record: Any, kind: str) -> BundleEntry:
    if not isinstance(record, dict):
        raise _fault("an entry is no object")
    path, mode = _parse_path(record.get("path")), record.get("mode")
    if not isinstance(mode, str) or not re.fullmatch(r"0[0-7]{3}", mode):
        raise _fault(f"'{printable(str(path))}' has no mode of permission bits")
    size, sha256 = record.get("size", 0), record.get("sha256", "")
    if kind == "files" and (not isinstance(sha256, str) or not _SHA256.fullmatch(sha256)):
        raise _fault(f"'{printable(str(path))}' has no sha256")
    if type(size) is not int or not 0 <= size <= _MAX_SIZE or (kind == "directories" and (size or sha256)):
        raise _fault(f"'{printable(str(path))}' has no valid size")
    return BundleEntry(path, int(mode, 8), _parse_attributes(record.get("attributes", {}), path), size, sha256)


def _parse_path(text: Any, *, may_be_root: bool = False) -> Path:
    """Return a path that is written in its one form: relative, without `.`, `..` and empty names."""
    if not isinstance(text, str) or len(text) > _MAX_PATH_BYTES:
        raise _fault("a path is no text, or too long")
    try:
        path = Path.parse(text)
        str(path).encode("utf-8", "surrogateescape")
    except (OSError, UnicodeEncodeError) as error:
        raise _fault(f"'{printable_name(text)}' is no path of a file") from error
    if str(path) != text or not (may_be_root or path.parts) or len(path.parts) > _MAX_NAMES:
        raise _fault(f"'{printable_name(text)}' is no path of a file: it is absolute, or leads out of the bundle")
    return path


def printable_name(text: str) -> str:
    """Return a name from elsewhere as at most 100 printable characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:100])


def _parse_attributes(values: Any, path: Path) -> dict[str, bytes]:
    if not isinstance(values, dict) or len(values) > _MAX_ATTRIBUTES:
        raise _fault(f"the attributes of '{printable(str(path))}' are no object, or too many")
    attributes = {}
    for name, value in values.items():
        try:
            data = value.encode() if isinstance(value, str) else base64.b64decode(value["base64"], validate=True)
        except (TypeError, KeyError, ValueError, binascii.Error) as error:
            raise _fault(f"an attribute of '{printable(str(path))}' is neither text nor base64") from error
        if not _ATTRIBUTE.fullmatch(name) or len(data) > _MAX_ATTRIBUTE_BYTES:
            raise _fault(f"'{printable_name(name)}' of '{printable(str(path))}' is no attribute of a user")
        attributes[name] = data
    return attributes


def _check_paths(header: Header) -> None:
    """Raise OSError EINVAL for paths that are the same in a file system, also in one without case, or exclude each other."""
    check_paths((entry.path for entry in header.files), (entry.path for entry in header.directories))


def check_paths(files: Iterable[Path], directories: Iterable[Path]) -> None:
    """Raise OSError EINVAL for duplicate names, names that differ in case alone, and a file with something below it."""
    spellings: dict[str, str] = {}
    file_set = set[Path]()
    directory_set = set[Path]()
    parents = set[Path]()
    for path, own in (*((path, file_set) for path in files), *((path, directory_set) for path in directories)):
        if path in file_set or path in directory_set:
            raise _fault(f"'{printable(str(path))}' is in it twice")
        own.add(path)
        for depth in range(1, len(path.parts) + 1):
            part = Path(path.parts[:depth])
            if depth < len(path.parts):
                parents.add(part)
            text = str(part)
            folded = unicodedata.normalize("NFC", printable(text)).casefold()
            if spellings.setdefault(folded, text) != text:
                raise _fault(f"'{printable(text)}' and '{printable(spellings[folded])}' differ in case or form alone")
    if clash := next(iter(sorted(file_set & parents)), None):
        raise _fault(f"'{printable(str(clash))}' is a file and a directory")


def _encode_path(path: Path) -> str:
    return str(path)


def _encode_value(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _fault(text: str) -> OSError:
    return invalid(HEADER_NAME, f"the bundle is refused: {text}")
