"""Reader of Jupyter notebooks: cells with their outputs, below the headings of their texts. Formats 3 and 4."""

import re
from collections.abc import Iterator
from typing import Any

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats.cut_json import parse_cut_json, read_cut_rest
from ctxfs.index.extract.formats.source_lines import SourceLines
from ctxfs.index.extract.pieces import shorten_opaque_runs, split_text

_ANSI = re.compile(r"\x1b\[[0-9;]{0,40}[A-Za-z]")
_TEXT_OUTPUTS = ("text/plain", "text/markdown", "text/latex", "application/json")
_MAX_OUTPUT_CHARACTERS = 20_000
_MAX_TRAIL_CHARACTERS = 200


def read_notebook(text: str) -> Iterator[Chunk] | None:
    """Return the cells of a notebook as chunks; None if the text is no notebook."""
    value, rest = parse_cut_json(text)
    cells = _find_cells(value)
    return _read_cells(cells, SourceLines(text), rest) if cells is not None else None


def _find_cells(value: Any) -> list[dict[str, Any]] | None:
    if not isinstance(value, dict):
        return None
    lists = [value.get("cells")]
    if isinstance(value.get("worksheets"), list):  # format 3
        lists = [sheet.get("cells") for sheet in value["worksheets"] if isinstance(sheet, dict)]
    if not any(isinstance(cells, list) for cells in lists):
        return None
    return [cell for cells in lists if isinstance(cells, list) for cell in cells if isinstance(cell, dict)]


def _read_cells(cells: list[dict[str, Any]], lines: SourceLines, rest: str) -> Iterator[Chunk]:
    trail: list[tuple[int, str]] = []
    for number, cell in enumerate(cells, 1):
        source = _join(cell.get("source", cell.get("input")))
        kind = cell.get("cell_type")
        if kind == "heading":  # format 3
            level = cell.get("level")
            source = f"{'#' * (level if isinstance(level, int) and 0 < level < 7 else 1)} {source}"
        if kind in ("markdown", "heading"):
            _extend_trail(trail, source)
        heading = " > ".join([*(title for _, title in trail), f"cell {number}"])
        for part in (source, *_read_outputs(cell.get("outputs"))):
            line = lines.find(part)
            for piece in split_text(shorten_opaque_runs(part)):
                yield Chunk(piece, line, line, heading)
    yield from read_cut_rest(rest, lines)


def _extend_trail(trail: list[tuple[int, str]], source: str) -> None:
    """Add the headings of a cell to the trail of those above it."""
    from ctxfs.index.extract.markdown import parse_structure

    for _, level, title in parse_structure(source.split("\n")).headings:
        while trail and trail[-1][0] >= level:
            trail.pop()
        if title:
            trail.append((level, title[:_MAX_TRAIL_CHARACTERS]))


def _read_outputs(outputs: Any) -> Iterator[str]:
    """Yield the texts of the outputs: streams, results, errors. Images are left out."""
    for output in outputs if isinstance(outputs, list) else []:
        if not isinstance(output, dict):
            continue
        data = output.get("data")
        texts = [_join(output.get("text"))]
        if isinstance(data, dict):
            texts += [_join(data[name]) for name in _TEXT_OUTPUTS if name in data]
        if output.get("ename") or output.get("evalue"):
            traceback = output.get("traceback")
            texts.append(f"{output.get('ename', '')}: {output.get('evalue', '')}")
            texts.append("\n".join(filter(_is_text, traceback)) if isinstance(traceback, list) else "")
        for text in texts:
            plain = _ANSI.sub("", text).strip()
            if plain:
                yield plain[:_MAX_OUTPUT_CHARACTERS]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _join(value: Any) -> str:
    """Return a text that may be split into its lines."""
    if isinstance(value, list):
        return "".join(filter(_is_text, value))
    return value if isinstance(value, str) else ""
