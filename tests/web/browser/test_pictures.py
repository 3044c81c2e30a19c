"""Test the script that takes the pictures of the documentation."""

import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "pictures"


def size_of(file: Path) -> tuple[int, int]:
    """Return the width and the height of a PNG."""
    width, height = struct.unpack(">II", file.read_bytes()[16:24])
    return width, height


def test_script_takes_each_picture_in_its_size(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "docs/pictures.py", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    made = {file.name: size_of(file) for file in tmp_path.iterdir()}
    assert made == {file.name: size_of(file) for file in FOLDER.iterdir()}
