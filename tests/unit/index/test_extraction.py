"""Test that a document that is read in parts is extracted once, and again when it has changed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.extractor import Extractor
from ctxfs.index.extract.formats import UnreadableFile
from ctxfs.model.path import Path as TreePath
from ctxfs.services import extraction as module
from ctxfs.services.extraction import Extraction
from ctxfs.services.sources import SettingsFile
from ctxfs.store.layout import create_store
from tests.unit.index.test_office import paragraph, word

ONE, OTHER = word(paragraph("a walrus")), word(paragraph("an otter"))


@pytest.fixture
def extraction(tmp_path: Path) -> Extraction:
    return Extraction(SettingsFile(create_store(tmp_path / "store")))


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that the worker process reads."""
    names: list[str] = []
    real: Callable[..., list[Chunk]] = Extractor.extract_chunks

    def recording(self: Extractor, name: str, data: bytes) -> list[Chunk]:
        names.append(name)
        return real(self, name, data)

    monkeypatch.setattr(Extractor, "extract_chunks", recording)
    return names


def texts(extraction: Extraction, name: str, data: bytes) -> list[str]:
    read = trio.run(extraction.extract, TreePath(("memory", name)), data)
    return [passage.text for passage in read.passages]


def test_document_is_extracted_once_for_all_of_its_parts(extraction: Extraction, extracted: list[str]) -> None:
    for _ in range(3):
        assert texts(extraction, "a.docx", ONE) == ["a walrus"]
    assert extracted == ["a.docx"]


def test_changed_document_and_another_format_are_extracted_again(extraction: Extraction, extracted: list[str]) -> None:
    assert texts(extraction, "a.docx", ONE) == ["a walrus"]
    assert texts(extraction, "a.docx", OTHER) == ["an otter"]
    assert texts(extraction, "a.pdf", ONE) == []
    assert texts(extraction, "a.docx", ONE) == ["a walrus"]
    assert extracted == ["a.docx", "a.docx", "a.pdf"]


def test_erasure_leaves_no_extracted_text(extraction: Extraction, extracted: list[str]) -> None:
    texts(extraction, "a.docx", ONE)
    extraction.evict()
    texts(extraction, "a.docx", ONE)
    assert extracted == ["a.docx", "a.docx"]


def test_extracted_texts_are_bounded(
    extraction: Extraction, extracted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_CACHED_CHARACTERS", 1200)
    one, other = word(paragraph("walrus" * 100)), word(paragraph("otters" * 100))
    for data in (one, other, one, other):
        texts(extraction, "a.docx", data)
    assert len(extracted) == 4, "two texts do not fit"
    texts(extraction, "a.docx", other)
    assert len(extracted) == 4, "the last one does"


def test_document_that_could_not_be_read_is_tried_again(
    extraction: Extraction, extracted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def fail(self: Extractor, name: str, data: bytes) -> list[Chunk]:
            raise UnreadableFile("Word: takes too long to read")

        patch.setattr(Extractor, "extract_chunks", fail)
        assert texts(extraction, "a.docx", ONE) == []
    assert texts(extraction, "a.docx", ONE) == ["a walrus"]
