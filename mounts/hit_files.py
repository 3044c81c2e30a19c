"""Names and contents of the hits in the directory of a query. Pure.

A hit is a file `01 tempfile.py:677 NamedTemporaryFile` with the passage, whose first line is its path, lines and
heading. The link to the whole file is in `files/`. A hit that is a directory (a tool) is a link to that directory.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ctxfs.eventlog.record_marks import RECORD_LABEL, is_record_path
from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.search.results import Hit
from ctxfs.model.path import Path, encode_name, lines_of, one_line, printable

_MAX_HEADING_CHARACTERS = 60
_MAX_NAME_BYTES = 255
_MAX_FOLDERS = 8  # that a name may have in front of that of its file


@dataclass(frozen=True, slots=True)
class HitFile:
    """A hit by its name; `text` is None for a link to `target`. `link_name` is the name of the link in `files/`."""

    name: str
    link_name: str
    target: Path
    text: bytes | None


def name_hits(hits: Sequence[Hit], limit: int) -> list[HitFile]:
    """Return the best hit of each of the best `limit` files and records, in the order of the hits."""
    best: dict[tuple[str, int], Hit] = {}
    for hit in hits:
        if len(best) == limit:
            break
        best.setdefault((hit.path, hit.chunk.first if is_record_path(hit.path) else 0), hit)
    width = max(2, len(str(len(best))))
    names = _tell_apart(list(dict.fromkeys(path for path, _ in best)))
    return [_make_file(f"{rank:0{width}} ", names[hit.path], hit) for rank, hit in enumerate(best.values(), 1)]


def find_hit(hits: Sequence[HitFile], name: str, *, is_link: bool = False) -> HitFile | None:
    """Return the hit with a name, or with a bare rank such as `01`."""
    rank = int(name) if name.isdecimal() and name.isascii() and 2 <= len(name) <= 3 else 0
    if 0 < rank <= len(hits):
        return hits[rank - 1]
    return next((hit for hit in hits if name == (hit.link_name if is_link else hit.name)), None)


def _tell_apart(paths: Sequence[str]) -> dict[str, str]:
    """Return the name of each file, with as many of its folders in front as distinguish it from the others."""
    names = {path: path.rpartition("/")[2] for path in paths}
    for depth in range(1, _MAX_FOLDERS + 1):
        alike = {name for name, count in Counter(names.values()).items() if count > 1}
        if not alike:
            break
        for path, name in names.items():
            parts = path.split("/")
            if name in alike and len(parts) > depth:
                names[path] = " ".join(parts[-depth - 1 :])
    return names


def _make_file(prefix: str, name: str, hit: Hit) -> HitFile:
    chunk, target = hit.chunk, Path(tuple(hit.path.split("/")))
    link_name = _cut_name(prefix + name, _MAX_NAME_BYTES)
    if not chunk.sha256:
        return HitFile(link_name, link_name, target, None)
    heading = one_line(chunk.heading.rpartition(" > ")[2]).replace("/", " ")[:_MAX_HEADING_CHARACTERS].strip()
    place = f":{chunk.first}"
    tail = f"{place} {heading}" if heading else place
    if len(encode_name(prefix + name + tail)) > _MAX_NAME_BYTES:
        tail = place
    file_name = _cut_name(prefix + name, _MAX_NAME_BYTES - len(encode_name(tail))) + tail
    lines = str(chunk.first) if chunk.first == chunk.last else f"{chunk.first}-{chunk.last}"
    trail = f" {one_line(chunk.heading)}" if chunk.heading else ""
    is_record = is_record_path(chunk.path)
    mark = f" {_describe_record(chunk)} {RECORD_LABEL}" if is_record else ""
    passage = lines_of(chunk.text) if is_record else printable(chunk.text)
    text = f"{one_line(chunk.path)}:{lines}{trail}{mark}\n\n{passage}\n"
    return HitFile(file_name, link_name, target, text.encode("utf-8", "replace"))


def _describe_record(chunk: ChunkRow) -> str:
    """Return the time and the speaker of a record, as far as they are known."""
    time = datetime.fromtimestamp(chunk.said, UTC).strftime("%Y-%m-%d %H:%M") if chunk.said is not None else ""
    return " ".join(filter(None, (time, one_line(chunk.author))))


def _cut_name(name: str, limit: int) -> str:
    """Return a file name, cut to `limit` bytes in front of the extension."""
    if len(encode_name(name)) <= limit:
        return name
    stem, dot, extension = name.rpartition(".")
    tail = dot + extension if dot and len(encode_name(extension)) < 20 else ""
    head = encode_name(stem if tail else name)[: limit - len(encode_name(tail))]
    return head.decode("utf-8", "ignore") + tail
