"""Extraction: the text of PDFs, office files, books, mail and notebooks for a reader, as search cites it."""

import hashlib
import io
import threading
from collections import OrderedDict

import trio

from ctxfs.index.extract.extracted_text import ExtractedText, format_to_extract, unit_of
from ctxfs.index.extract.extractor import INTERACTIVE, Extractor, ExtractorUnavailable
from ctxfs.index.extract.formats import UnreadableFile, size_limit
from ctxfs.index.extract.large_files import read_searched
from ctxfs.index.extract.text_formats import is_text_itself
from ctxfs.model.path import Path, printable
from ctxfs.services.sources import SettingsFile
from ctxfs.threads import blocking

_NOT_EXTRACTED = ExtractedText("", "")
_MAX_CACHED_TEXTS = 16
_MAX_CACHED_CHARACTERS = 8_000_000
_Key = tuple[str, str, int]  # name of the file, SHA-256 of its content, size limit


class ExtractedTexts:
    """The texts that were extracted last, by content: a reader reads a long file in parts.

    Only a caller that has the content finds its text. Any thread may call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: OrderedDict[_Key, ExtractedText] = OrderedDict()  # the least recently used first
        self._characters = 0

    def find(self, key: _Key) -> ExtractedText | None:
        """Return the text of a content; None if it is not cached."""
        with self._lock:
            if (text := self._texts.get(key)) is not None:
                self._texts.move_to_end(key)
            return text

    def add(self, key: _Key, text: ExtractedText) -> None:
        """Add a text, and evict those that were not read for longest."""
        with self._lock:
            self._remove(key)
            self._texts[key] = text
            self._characters += _count_characters(text)
            while len(self._texts) > _MAX_CACHED_TEXTS or self._characters > _MAX_CACHED_CHARACTERS:
                self._remove(next(iter(self._texts)))

    def clear(self) -> None:
        """Remove all texts."""
        with self._lock:
            self._texts.clear()
            self._characters = 0

    def _remove(self, key: _Key) -> None:
        if (text := self._texts.pop(key, None)) is not None:
            self._characters -= _count_characters(text)


def _count_characters(text: ExtractedText) -> int:
    return sum(len(passage.text) + len(passage.heading) + len(passage.author) for passage in text.passages)


class Extraction:
    """The extracted texts of files, one at a time, in a worker process of its own: searches never wait for it."""

    def __init__(self, settings: SettingsFile) -> None:
        self._settings = settings
        self._extractor = Extractor(INTERACTIVE)
        self._lock = trio.Lock()
        self._texts = ExtractedTexts()

    def evict(self) -> None:
        """Empty the cache, after an erasure."""
        self._texts.clear()

    async def extract(self, path: Path, data: bytes) -> ExtractedText:
        """Return the extracted text of a file that the caller has read; without a format if it is read as it is."""
        name = printable(path.name)
        file_format = format_to_extract(name, data)
        if not file_format:
            return _NOT_EXTRACTED
        async with self._lock:
            return await blocking(self._extract, name, file_format, data)

    def _extract(self, name: str, file_format: str, data: bytes) -> ExtractedText:
        limit = self._settings.current.index.max_file_bytes
        key = name, hashlib.sha256(data).hexdigest(), limit
        if (text := self._texts.find(key)) is None:
            text = self._extract_anew(name, file_format, data, limit)
            if not text.reason:  # a file that is not readable now may be readable later
                self._texts.add(key, text)
        return text

    def _extract_anew(self, name: str, file_format: str, data: bytes, limit: int) -> ExtractedText:
        unit = unit_of(name, file_format)
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
