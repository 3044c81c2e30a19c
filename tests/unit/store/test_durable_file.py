"""Test the replacement of small files."""

import os
import threading
from pathlib import Path

import pytest

from ctxfs.store.durable_file import replace_file


def test_writers_at_once_leave_one_whole_content_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    contents = [bytes([65 + number]) * 5000 for number in range(8)]
    failures: list[BaseException] = []

    def write(data: bytes) -> None:
        try:
            for _ in range(10):
                replace_file(file, data, 0o600)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert file.read_bytes() in contents
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["x.json"]


def test_failed_replacement_leaves_the_old_content(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.mkdir()
    with pytest.raises(OSError):
        replace_file(file, b"new")
    assert os.listdir(tmp_path) == ["x.json"]
