"""Test recovery from a power cut that loses all data that had not reached the disk at a random moment.

The store lies on an ext4 image. The image is copied while its file system is mounted and in use, so the copy lacks the
data that the kernel still holds back.
"""

import contextlib
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.versions.recording.recover import read_checkpoint
from tests.versions.conftest import ALICE, BOB, LARGE, Past, check_sound

ROUNDS = int(os.environ.get("CTXFS_CRASH_ROUNDS", "2"))


def can_mount_images(folder: Path) -> str:
    """Return an empty string, or the reason why images cannot be mounted."""
    if os.geteuid() != 0:
        return "mounting an image needs root"
    if shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is not installed"
    image = folder / "probe"
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    (folder / "probed").mkdir()
    done = subprocess.run(["mount", "-o", "loop", str(image), str(folder / "probed")], capture_output=True, text=True)
    if done.returncode:
        return f"images cannot be mounted here: {done.stderr.strip()}"
    subprocess.run(["umount", str(folder / "probed")], check=True)
    return ""


@contextlib.contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


class Life(threading.Thread):
    """A writer that sometimes calls fsync, commits, and regularly records which writes are on the disk."""

    def __init__(self, past: Past, seed: int) -> None:
        super().__init__(daemon=True)
        self.past, self.chance = past, random.Random(seed)
        self.acknowledged: dict[str, bytes] = {}
        self.stop, self.turn = threading.Event(), threading.Lock()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            number = 0
            while not self.stop.is_set():
                with self.turn:
                    self._step(number)
                number += 1
        except BaseException as error:
            self.failure = error

    def _step(self, number: int) -> None:
        past, path = self.past, f"memory/a/{number:05}.md"
        data = f"note {number} ".encode() * 50
        past.write("memory/a/often.md", f"{number}", BOB)
        past.write(path, data, ALICE)
        if self.chance.random() < 0.2:
            with open(past.tree / path, "rb") as file:
                os.fsync(file.fileno())
            self.acknowledged[path] = data
        past.archive.commit()
        if number % 25 == 10:
            past.archive.checkpoint()
        if number % 60 == 30:
            past.archive.pack(always=True)
        if number % 40 == 20:
            past.archive.rollbacks.undo("memory/a/often.md", BOB)


def test_fsynced_data_survives_a_power_cut_and_history_is_whole(tmp_path: Path) -> None:
    if reason := can_mount_images(tmp_path):
        pytest.skip(reason)
    chance = random.Random(17)
    went_back = 0
    for round_number in range(ROUNDS):
        image, cut = tmp_path / "disk", tmp_path / "cut"
        with open(image, "wb") as file:
            file.truncate(160 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        with mounted(image, tmp_path / "at") as at:
            past = Past(at / "store")
            life = Life(past, round_number)
            life.start()
            threading.Event().wait(chance.uniform(0.3, 2.5))  # the moment of the cut is random
            with life.turn:
                acknowledged = dict(life.acknowledged)
                subprocess.run(["cp", "--sparse=always", str(image), str(cut)], check=True)
                checkpoint = read_checkpoint(past.layout.repo / "ctxfs-checkpoint")
            life.stop.set()
            life.join()
            past.close()
        assert life.failure is None, life.failure
        with mounted(cut, tmp_path / "after") as after:
            store = after / "store"
            assert (store / "ctxfs.toml").exists() or not acknowledged
            if not (store / "tree" / "memory").exists():
                continue  # the cut came before any data had reached the disk
            for path, data in acknowledged.items():
                assert (store / "tree" / path).read_bytes() == data, f"{path} was acknowledged"
            again = Past(store)
            if checkpoint is not None:
                commits = again.git("rev-list", "HEAD").split()
                went_back += checkpoint.commit not in commits
            for path, data in acknowledged.items():
                assert again.archive.reader.show(path, "latest") == data
            check_sound(again)
            again.crash()
            assert again.reopen() == []
            again.close()
    assert went_back == 0, "a version that a checkpoint promised was lost"


def test_checkpoint_covers_only_data_on_the_disk(tmp_path: Path) -> None:
    """Check the copy directly after a checkpoint, in any state before it."""
    if reason := can_mount_images(tmp_path):
        pytest.skip(reason)
    image = tmp_path / "disk"
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with mounted(image, tmp_path / "at") as at:
        past = Past(at / "store")
        for number in range(30):
            past.version(f"memory/a/{number}.md", f"{number}")
        past.version("pad/large", os.urandom(LARGE))
        past.archive.checkpoint()
        head = past.archive.head
        subprocess.run(["cp", str(image), str(tmp_path / "cut")], check=True)
        past.close()
    with mounted(tmp_path / "cut", tmp_path / "after") as after:
        again = Past(after / "store")
        assert again.archive.head == head
        check_sound(again)
        again.close()
