import os
from pathlib import Path

from ctxfs.store import beneath


def test_reading_on_our_own_account_leaves_the_access_time(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("text")
    os.utime(tmp_path / "f", ns=(5, 10**18))  # older than the change: the next read of anybody else moves it
    assert beneath.read_file(str(tmp_path), ["f"]) == b"text"
    assert (tmp_path / "f").stat().st_atime_ns == 5
