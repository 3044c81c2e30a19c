"""Metadata of a file for the index: its stat, its attributes and its kind; and the neighbours of a small chunk."""

import os
from collections.abc import Iterable, Mapping, Sequence

from ctxfs.index.engines.catalog_schema import FileStat
from ctxfs.index.extract.chunks import NEIGHBOUR_CHUNKS, Chunk, detect_text_kind
from ctxfs.index.extract.dialogue import HEAD_CHARACTERS
from ctxfs.index.extract.formats import format_of
from ctxfs.index.extract.formats.mail_detection import is_mail, may_be_mail
from ctxfs.index.extract.formats.slack_users import USERS_LABEL
from ctxfs.index.extract.front_matter_attributes import FRONT_MATTER_LABEL
from ctxfs.index.extract.front_matter_attributes import NAMES as FRONT_MATTER_NAMES
from ctxfs.index.extract.text_decoding import decode
from ctxfs.memory.states import FROZEN
from ctxfs.model.host_numbers import file_numbers
from ctxfs.model.metadata import PREFIX, SETTABLE, is_sound, tags_of
from ctxfs.model.path import printable
from ctxfs.store import rooted_fs

_MEMORY_KINDS = frozenset(("episodic", "fact", "experiential", "procedural", "user"))
MAX_SMALL_CHUNK_CHARACTERS = 400  # characters
_HEAD_BYTES = 2 * HEAD_CHARACTERS
LABEL_PREFIX = "text."
_LISTED_NAMES = frozenset(("tags", "alias", "link"))  # the values of attributes and texts are joined
_UNMATCHED_LABELS = frozenset((FRONT_MATTER_LABEL, USERS_LABEL))
_LABEL_NAMES = frozenset((*_LISTED_NAMES, *FRONT_MATTER_NAMES, *_UNMATCHED_LABELS))
_STRUCTURED_KINDS = frozenset(("code", "markdown", "html", "pdf", "document", "sheet", "slides", "book"))


def to_file_stat(stat: os.stat_result) -> FileStat:
    """Return the numbers by which a change of the file is detected: size, mtime, inode, ctime."""
    numbers = file_numbers(stat)
    return numbers.size, numbers.mtime_ns, numbers.inode, numbers.ctime_ns


def read_attributes(root: str, parts: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return (name, value) of the sound `user.ctx.*` attributes of a file, without the prefix, in order of their names.

    `tags` occurs once for each tag. Unsound attributes are possible, because processes may set them on the host file
    directly.
    """
    try:
        with rooted_fs.directory_of(root, parts) as (folder, name):
            attributes = rooted_fs.read_xattrs(rooted_fs.magic_path(folder, name))
    except OSError:
        return []  # a file system without attributes, or a file that has just been deleted
    return sound_attributes(attributes)


def sound_attributes(attributes: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return (name, value) of the sound `user.ctx.*` attributes in a mapping of full names to values."""
    values = {key.removeprefix(PREFIX): value for key, value in attributes.items() if key.startswith(PREFIX)}
    sound_values = [
        (name, value) for name, value in sorted(values.items()) if name in SETTABLE and is_sound(name, value)
    ]
    return [(name, text) for name, value in sound_values for text in _decode_values(name, value)]


def _decode_values(name: str, value: bytes) -> list[str]:
    return tags_of(value) if name == "tags" else [value.decode("utf-8", "replace")]


def labels_of(chunks: Iterable[Chunk]) -> list[tuple[str, str]]:
    """Return the (name, value) pairs `text.tags`, `text.alias`, … that a text gives to its file.

    A text sets no attribute with an effect for others: only their writers may set trust, pins, marks and `supersedes`.
    """
    labels = {label for chunk in chunks for label in chunk.labels if label[0] in _LABEL_NAMES}
    return sorted((f"{LABEL_PREFIX}{name}", value) for name, value in labels)


def filter_values(attributes: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs that filters match: `tags` has those of the attribute and those of the text.

    Of other names the attribute wins over the text. The pair (`has`, `cites`) selects the files with citations, whose
    values are too long to be matched. `state` is
    `frozen` also for the older spelling of it.
    """
    pairs = list(attributes)
    names = {name for name, _ in pairs} - _LISTED_NAMES
    texts = ((name.removeprefix(LABEL_PREFIX), value) for name, value in pairs if name.startswith(LABEL_PREFIX))
    labels = {(name, value) for name, value in texts if name not in names and name not in _UNMATCHED_LABELS}
    has = {("has", name) for name in names if name == "cites"}
    matched = {pair for pair in pairs if not pair[0].startswith(LABEL_PREFIX)} | labels | has
    if ("frozen", "true") in matched:
        matched = {pair for pair in matched if pair[0] != "state"} | {("state", FROZEN)}
    elif ("state", FROZEN) in matched:
        matched.add(("frozen", "true"))
    return sorted(matched)


def front_matter_of(attributes: Iterable[tuple[str, str]]) -> str:
    """Return the front matter among the attributes of a file, which grep finds; empty without any."""
    return next((value for name, value in attributes if name == f"{LABEL_PREFIX}{FRONT_MATTER_LABEL}"), "")


def users_of(attributes: Iterable[tuple[str, str]]) -> str:
    """Return the list of users among the attributes of a file, as JSON; empty without one."""
    return next((value for name, value in attributes if name == f"{LABEL_PREFIX}{USERS_LABEL}"), "")


def text_attributes(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the attributes that a text gives to its file, by name, as one line each: several values are joined."""
    values: dict[str, list[str]] = {}
    for name, value in sorted(labels):
        if name in ("tags", *FRONT_MATTER_NAMES):
            values.setdefault(name, []).append(value)
    written = {name: [value for value in found if not _repeats(value, found)] for name, found in values.items()}
    return {name: ", ".join(found) for name, found in written.items()}


def _repeats(value: str, values: Sequence[str]) -> bool:
    """Return True for a value in small letters that is among the others in its own spelling."""
    return any(other != value and other.casefold() == value for other in values)


def detect_kind(
    path: str, attributes: Iterable[tuple[str, str]], data: bytes, passages: Iterable[tuple[str, str]] = ()
) -> str:
    """Return the kind of a file: its attribute `kind`, else its folder in `memory/`, else the kind by name and text.

    `passages` are (author, text) of its chunks: JSON that consists of messages is a dialogue.
    """
    name = printable(path.rpartition("/")[2])
    if kind := dict(attributes).get("kind") or _kind_by_folder(path):
        return kind
    if may_be_mail(name) and is_mail(data):
        return "mail"
    if is_json(name) and _consist_of_turns(passages, min_authors=2 if format_of(name) == "JSON lines" else 1):
        return "dialogue"
    return detect_text_kind(name, decode(data[:_HEAD_BYTES]))


def is_json(name: str) -> bool:
    """Return True for a file whose kind depends on its chunks."""
    return format_of(name) in ("JSON", "JSON lines")


def _consist_of_turns(passages: Iterable[tuple[str, str]], min_authors: int) -> bool:
    """Return True if most passages are messages, which begin with their author (`fit_messages`)."""
    authors, turn_count, count = set[str](), 0, 0
    for author, text in passages:
        count += 1
        if author and text.startswith(f"{author}: "):
            turn_count += 1
            authors.add(author)
    return len(authors) >= min_authors and 2 * turn_count >= count


def _kind_by_folder(path: str) -> str | None:
    """Return the kind in a path `memory/<agent>/<kind>/…`; None for other paths."""
    parts = path.split("/")
    return parts[2] if parts[0] == "memory" and len(parts) > 3 and parts[2] in _MEMORY_KINDS else None


def ranks_with_neighbours(kind: str, authors: Iterable[str]) -> bool:
    """Return True if chunks of the file have authors, or if it may be a dialogue whose authors are not recognised."""
    return kind not in _STRUCTURED_KINDS or any(authors)


def join_neighbours(texts: list[str], index: int) -> str:
    """Return the broken-up text of a small chunk and its neighbours; empty for a large one, which needs no context."""
    if len(texts) == 1 or len(texts[index]) > MAX_SMALL_CHUNK_CHARACTERS:
        return ""
    nearby = texts[max(0, index - NEIGHBOUR_CHUNKS) : index + NEIGHBOUR_CHUNKS + 1]
    return " ".join(
        text if len(text) <= MAX_SMALL_CHUNK_CHARACTERS else text[:MAX_SMALL_CHUNK_CHARACTERS] for text in nearby
    )
