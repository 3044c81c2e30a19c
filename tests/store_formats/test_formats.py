"""Open a store of each released format: its files, attributes, versions, records and credentials are there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ctxfs.store.store_format import FORMAT, FORMAT_NAME
from tests.store_formats.archive import FOLDER, unpack

FORMATS = range(1, FORMAT + 1)


def test_each_format_has_a_sample() -> None:
    samples = {int(re.findall(r"\d+", file.name)[0]) for file in FOLDER.glob("format-*.tar.gz")}
    assert samples == set(FORMATS)


@pytest.mark.long
@pytest.mark.parametrize("number", FORMATS)
def test_store_of_a_released_format_is_migrated_whole(number: int, tmp_path: Path) -> None:
    store = tmp_path / "store"
    unpack(FOLDER / f"format-{number}.tar.gz", store)

    def ctxfs(*words: str) -> str:
        command = [sys.executable, "-m", "ctxfs", "--store", str(store), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    path = "memory/shared/fact/keys.md"
    assert "every 30 days" in ctxfs("cat", path)
    assert (store / FORMAT_NAME).read_text() == f"{FORMAT}\n"
    assert "0.8" in ctxfs("meta", "get", path)
    versions = ctxfs("log", path).splitlines()
    assert len(versions) >= 2
    assert "agent:alice" in ctxfs("token", "list")
    assert "on Mondays" in ctxfs("search", "mode:words decided Mondays")
    ctxfs("undo", path)
    assert len(ctxfs("log", path).splitlines()) > len(versions)
    snapshots = sorted((store / "before").glob("*")) if number < FORMAT else []
    assert [folder.name for folder in snapshots] == [f"format-{n}" for n in range(number, FORMAT)][:1]
    status = json.loads(ctxfs("status", "--json"))
    assert not status["policy"]["fault"]
