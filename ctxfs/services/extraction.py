"""Extraction: the text of PDFs, office files, books, mail and notebooks for a reader, as search cites it."""

import io

import trio

from ctxfs.index.extract.extracted_text import ExtractedText, format_to_extract, is_text_itself, unit_of
from ctxfs.index.extract.extractor import INTERACTIVE, Extractor, ExtractorUnavailable
from ctxfs.index.extract.formats import UnreadableFile, size_limit
from ctxfs.index.extract.large_files import read_searched
from ctxfs.model.path import Path, printable
from ctxfs.services.sources import SettingsFile
from ctxfs.threads import blocking

_NOT_EXTRACTED = ExtractedText("", "")


class Extraction:
    """The extracted texts of files, one at a time, in a worker process of its own: searches never wait for it."""

    def __init__(self, settings: SettingsFile) -> None:
        self._settings = settings
        self._extractor = Extractor(INTERACTIVE)
        self._lock = trio.Lock()

    async def extract(self, path: Path, data: bytes) -> ExtractedText:
        """Return the extracted text of a file that the caller has read; without a format if it is read as it is."""
        name = printable(path.name)
        file_format = format_to_extract(name, data)
        if not file_format:
            return _NOT_EXTRACTED
        async with self._lock:
            return await blocking(self._extract, name, file_format, data)

    def _extract(self, name: str, file_format: str, data: bytes) -> ExtractedText:
        limit, unit = self._settings.current.index.max_file_bytes, unit_of(name, file_format)
        if len(data) > size_limit(name, limit) and not is_text_itself(file_format):
            return ExtractedText(file_format, unit, reason="too large")
        searched = read_searched(io.BytesIO(data), name, len(data), limit)
        try:
            passages = self._extractor.extract_chunks(name, searched.data)
        except UnreadableFile as reason:
            return ExtractedText(file_format, unit, reason=str(reason).removeprefix(f"{file_format}: "))
        except ExtractorUnavailable as error:
            return ExtractedText(file_format, unit, reason=error.strerror or str(error))
        return ExtractedText(file_format, unit, passages, searched.note)
