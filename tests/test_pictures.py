"""Test the pictures of the documentation: each one is shown, exists, is small, and comes from the script."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "pictures"
MAX_PICTURE_BYTES = 150_000
MAX_PICTURES = 12
PNG = b"\x89PNG\r\n\x1a\n"


def shown_files() -> set[Path]:
    """Return the local files that pages show as pictures."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    pattern = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
    links = [(page, one or other) for page in pages for one, other in pattern.findall(page.read_text())]
    return {(page.parent / link).resolve() for page, link in links if "://" not in link}


def test_shown_pictures_exist_and_each_picture_is_shown() -> None:
    shown = shown_files()
    assert not [file for file in shown if not file.is_file()]
    assert set(FOLDER.iterdir()) <= shown


def test_pictures_are_few_and_small() -> None:
    files = list(FOLDER.iterdir())
    assert 0 < len(files) <= MAX_PICTURES
    for file in files:
        data = file.read_bytes()
        assert data.startswith(PNG), file
        assert len(data) <= MAX_PICTURE_BYTES, file


def test_pictures_are_those_of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import pictures  # type: ignore[import-not-found]

    try:
        assert {f"{name}.png" for name in pictures.PICTURES} == {file.name for file in FOLDER.iterdir()}
    finally:
        del sys.modules["pictures"], sys.modules["session"]
