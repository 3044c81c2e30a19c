"""Test that damage to any derived file during use is reported by search, never returns false results, and heals."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live import Live, eventually

QUESTION = "rotate signing keys"


def flip(file: Path, share: float = 0.02) -> None:
    """Overwrite random bytes of a file in place."""
    chance = random.Random(4)
    with open(file, "r+b") as opened:
        size = os.fstat(opened.fileno()).st_size
        for _ in range(max(8, int(size * share))):
            opened.seek(chance.randrange(size))
            opened.write(bytes([chance.randrange(256)]))


def flip_all(pattern: str) -> Callable[[Path], None]:
    """Return a function that damages every matching file."""

    def run(index: Path) -> None:
        for file in index.glob(pattern):
            flip(file)

    return run


def delete(pattern: str) -> Callable[[Path], None]:
    """Return a function that deletes every matching file."""

    def run(index: Path) -> None:
        for file in index.glob(pattern):
            file.unlink()

    return run


def truncate_catalog(index: Path) -> None:
    """Cut off the end of the catalog."""
    os.truncate(index / "catalog.db", 8192)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "catalog flipped": flip_all("catalog.db"),
    "catalog truncated": truncate_catalog,
    "catalog deleted": delete("catalog.db*"),
    "words deleted": lambda index: shutil.rmtree(index / "words"),
    "words without meta.json": delete("words/meta.json"),
    "words with another meta.json": flip_all("words/meta.json"),
    "segments flipped": flip_all("words/*.idx"),
    "fast fields flipped": flip_all("words/*.fast"),
    "everything deleted": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_search_heals_by_itself(own_live: Live, damage: str) -> None:
    live = own_live
    live.wait_idle()
    assert "rotation.md" in live.run("search", QUESTION, "-n", "1")
    DAMAGES[damage](live.store / "index")

    def look() -> bool:
        (live.at / "pad" / "touch.md").write_text("something new\n")
        output = live.try_run("search", QUESTION, "-n", "1")
        if "rotation.md" in output.stdout:
            return True
        # An empty answer must report that a part of the index was unavailable.
        assert output.stderr.strip(), (output.returncode, output.stdout)
        return False

    def healed() -> bool:
        if not look():
            return False
        live.wait_idle()  # without a further write, which would have to be indexed, too
        status = live.status()["index"]
        return bool(not status["damaged"] and status["searchable"] >= 5)

    eventually("search answers from a whole index", healed, 60)
    (live.at / "pad" / "after.md").write_text("the zanzibar is written after\n")
    eventually(
        "what is written later is found", lambda: "after.md" in live.try_run("search", "zanzibar", "-n", "1").stdout
    )
    assert (live.at / "knowledge" / "handbook" / "rotation.md").read_text()
    expected = ("damaged", "repaired", "indexer", "take in", "found later")
    unexpected = [line["message"] for line in live.errors() if not any(sign in line["message"] for sign in expected)]
    assert not unexpected
