import hashlib
import os
from pathlib import Path

from ctxfs.store import rooted_fs


def test_internal_read_leaves_the_access_time(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("text")
    os.utime(tmp_path / "f", ns=(5, 10**18))  # older than the change: the next read of any other process moves it
    assert rooted_fs.read_file(str(tmp_path), ["f"]) == b"text"
    assert (tmp_path / "f").stat().st_atime_ns == 5


def test_content_is_copied_with_its_holes(tmp_path: Path) -> None:
    size = 300 * 2**20 + 17
    with open(tmp_path / "from", "w+b") as source, open(tmp_path / "to", "w+b") as target:
        for at in (0, 3 * 2**20 + 5, 200 * 2**20):
            os.pwrite(source.fileno(), b"data" * 1000, at)
        os.truncate(tmp_path / "from", size)
        digest = hashlib.sha256()
        assert rooted_fs.copy_content(source.fileno(), target.fileno(), digest.update) == size
    assert (tmp_path / "to").stat().st_size == size
    assert (tmp_path / "to").stat().st_blocks * 512 < 2**20, "it takes no more space than its content"
    with open(tmp_path / "from", "rb") as source, open(tmp_path / "to", "rb") as target:
        wanted = hashlib.file_digest(source, "sha256").hexdigest()
        assert digest.hexdigest() == wanted
        assert hashlib.file_digest(target, "sha256").hexdigest() == wanted


def test_empty_and_concurrently_truncated_files_are_copied_to_their_end(tmp_path: Path) -> None:
    with open(tmp_path / "from", "w+b") as source, open(tmp_path / "to", "w+b") as target:
        assert rooted_fs.copy_content(source.fileno(), target.fileno(), len) == 0
        os.pwrite(source.fileno(), b"x" * 5_000_000, 0)
        cut = lambda piece: os.truncate(tmp_path / "from", 2_000_000)  # noqa: E731
        assert rooted_fs.copy_content(source.fileno(), target.fileno(), cut) == 2_000_000
        assert (tmp_path / "to").read_bytes() == b"x" * 2_000_000
