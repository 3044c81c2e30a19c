"""Compare random operations on a mount with the host's own file system: results, errors, and the final tree.

$CTXFS_FUZZ_STEPS sets their number (2,000 by default), $CTXFS_FUZZ_SEED the seed.
"""

import ctypes
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live import Live

STEPS = int(os.environ.get("CTXFS_FUZZ_STEPS", "2000"))
SEEDS = [int(seed) for seed in os.environ.get("CTXFS_FUZZ_SEED", "1 2").split()]
NAMES = ("a", "b", "c", "long-name-" + "x" * 200, "ü")
_LIBC = ctypes.CDLL(None, use_errno=True)


class Side:
    """One of the two directories, the operations on it, and their results."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.held: dict[int, int] = {}

    def attempt(self, act: Callable[["Side"], Any]) -> tuple[str, Any]:
        try:
            return "ok", act(self)
        except OSError as error:
            return "failed", error.errno


def at(side: Side, path: str) -> Path:
    return side.top / path


def seen(path: Path) -> tuple[Any, ...]:
    attributes = os.lstat(path)
    kind = stat.S_IFMT(attributes.st_mode)
    size = 0 if stat.S_ISDIR(attributes.st_mode) else attributes.st_size
    links = 0 if stat.S_ISDIR(attributes.st_mode) else attributes.st_nlink
    return kind, stat.S_IMODE(attributes.st_mode), size, links, attributes.st_uid, attributes.st_gid


def write_at(descriptor: int, data: bytes, offset: int) -> int:
    return os.pwrite(descriptor, data, offset)


def rename2(old: Path, new: Path, flags: int) -> None:
    if _LIBC.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def step(chance: random.Random) -> tuple[str, Callable[[Side], Any]]:
    """Return the description of an operation, and the operation to run on both sides."""

    def path() -> str:
        return "/".join(chance.choice(NAMES) for _ in range(chance.choice((1, 1, 2, 2, 3))))

    one, two, number = path(), path(), chance.randrange(6)
    data, offset = bytes([chance.randrange(256)]) * chance.randrange(1, 3000), chance.randrange(6000)
    flags = chance.choice((os.O_RDONLY, os.O_RDWR, os.O_WRONLY)) | chance.choice(
        (0, os.O_CREAT, os.O_CREAT | os.O_EXCL)
    )
    flags |= chance.choice((0, 0, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW))
    size, mode = chance.randrange(5000), chance.choice((0o644, 0o600, 0o755, 0o444))

    def open_and_hold(side: Side) -> None:
        descriptor = os.open(at(side, one), flags, mode)
        if number in side.held:
            os.close(side.held.pop(number))
        side.held[number] = descriptor

    def close(side: Side) -> None:
        os.close(side.held.pop(number))

    def held(act: Callable[[int], Any]) -> Callable[[Side], Any]:
        return lambda side: act(side.held[number]) if number in side.held else None

    acts: list[tuple[str, Callable[[Side], Any]]] = [
        (f"open {one} {flags:o} as {number}", open_and_hold),
        (f"close {number}", lambda side: close(side) if number in side.held else None),
        (f"pwrite {number} {len(data)}@{offset}", held(lambda descriptor: write_at(descriptor, data, offset))),
        (f"write {number} {len(data)}", held(lambda descriptor: os.write(descriptor, data))),
        (f"pread {number}@{offset}", held(lambda descriptor: os.pread(descriptor, 2000, offset))),
        (f"ftruncate {number} {size}", held(lambda descriptor: os.ftruncate(descriptor, size))),
        (f"fstat {number}", held(lambda descriptor: (os.fstat(descriptor).st_size, os.fstat(descriptor).st_nlink))),
        (f"mkdir {one}", lambda side: os.mkdir(at(side, one), mode)),
        (f"rmdir {one}", lambda side: os.rmdir(at(side, one))),
        (f"unlink {one}", lambda side: os.unlink(at(side, one))),
        (f"rename {one} {two}", lambda side: os.rename(at(side, one), at(side, two))),
        (f"exchange {one} {two}", lambda side: rename2(at(side, one), at(side, two), 2)),
        (f"rename, not replacing, {one} {two}", lambda side: rename2(at(side, one), at(side, two), 1)),
        (f"link {one} {two}", lambda side: os.link(at(side, one), at(side, two), follow_symlinks=False)),
        (f"symlink {two} at {one}", lambda side: os.symlink(two, at(side, one))),
        (f"readlink {one}", lambda side: os.readlink(at(side, one))),
        (f"chmod {one} {mode:o}", lambda side: os.chmod(at(side, one), mode)),
        (f"truncate {one} {size}", lambda side: os.truncate(at(side, one), size)),
        (f"utime {one}", lambda side: os.utime(at(side, one), ns=(offset, size))),
        (f"lstat {one}", lambda side: seen(at(side, one))),
        (f"read {one}", lambda side: at(side, one).read_bytes()),
        (f"list {one}", lambda side: sorted(os.listdir(at(side, one)))),
    ]
    return chance.choice(acts)


def tree(top: Path) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            path = Path(folder) / name
            what = seen(path)
            content = (
                path.read_bytes() if stat.S_ISREG(what[0]) else os.readlink(path) if stat.S_ISLNK(what[0]) else None
            )
            times = None if stat.S_ISLNK(what[0]) else bool(os.lstat(path).st_mtime_ns)
            entries[str(path.relative_to(top))] = what, content, times
    return entries


@pytest.mark.fuse
@pytest.mark.parametrize("area", ["pad", "memory/shared"])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_have_native_results(seed: int, area: str, own_live: Live, tmp_path: Path) -> None:
    chance = random.Random(seed)
    native, mounted = Side(tmp_path / "native"), Side(own_live.at / area / "random")
    for side in (native, mounted):
        side.top.mkdir()
    done: list[str] = []
    try:
        for _ in range(STEPS):
            what, act = step(chance)
            done.append(what)
            expected, got = native.attempt(act), mounted.attempt(act)
            assert got == expected, f"seed {seed}, step {len(done)}:\n" + "\n".join(done[-15:])
        assert tree(mounted.top) == tree(native.top)
    finally:
        for side in (native, mounted):
            for descriptor in side.held.values():
                os.close(descriptor)
    assert tree(own_live.store / "tree" / area / "random") == tree(native.top)
