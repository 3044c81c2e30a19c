"""Test that a denial reaches open files: reads, writes, mappings and copies of large files.

The kernel could serve these operations by itself.
"""

import errno
import faulthandler
import mmap
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import Live, code_of, eventually

pytestmark = pytest.mark.fuse
LARGE = 3_000_000
REFUSED = (errno.EACCES, errno.ENOENT, errno.EIO)
WHO = ("human:carl", "agent:bob")
ALLOW = '[[rule]]\nprincipal = "agent:bob"\npath = "**"\nverbs = "lrwxa"\n'
DENY = '[[rule]]\nprincipal = "{}"\npath = "memory/area"\nverbs = "lrwxa"\neffect = "deny"\n'


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with mounts of another person and of an agent, both of whom may do everything at first."""
    made = Live(tmp_path_factory.mktemp("denied"))
    made.run("init")
    (made.store / "policy.toml").write_text(ALLOW)
    made.run("mount", str(made.at))
    for who in WHO:
        made.run("mount", str(mount_of(made, who)), "--as", who)
    yield made
    made.close()


def mount_of(live: Live, who: str) -> Path:
    return live.at.with_name(f"mnt-{who.partition(':')[2]}")


def fate_of(act: Callable[[], object]) -> str:
    """Return the exit status, or the name of the signal, of a child process that runs `act`."""
    child = os.fork()
    if not child:
        code = 1
        faulthandler.disable()
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else str(os.WEXITSTATUS(status))


@pytest.mark.parametrize("who", WHO)
def test_large_files_that_are_open_are_neither_read_nor_written_after_a_denial(
    live: Live, tmp_path: Path, who: str
) -> None:
    area = live.store / "tree" / "memory" / "area"
    area.mkdir(exist_ok=True)
    (live.store / "policy.toml").write_text(ALLOW)
    for name in ("read", "direct", "written", "mapped"):
        (area / name).write_bytes(b"B" * LARGE)
    there = mount_of(live, who) / "memory" / "area"
    eventually("it is there", lambda: os.access(there / "mapped", os.W_OK))
    read, written = os.open(there / "read", os.O_RDONLY), os.open(there / "written", os.O_RDWR)
    made = os.open(there / "made", os.O_RDWR | os.O_CREAT, 0o600)
    direct, out = (
        os.open(there / "direct", os.O_RDONLY | os.O_DIRECT),
        os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT),
    )
    mapped = os.open(there / "mapped", os.O_RDONLY)
    pages = mmap.mmap(mapped, LARGE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)  # shared ones are refused here
    aligned = mmap.mmap(-1, 4096)
    assert os.pread(read, 10, 0) == b"B" * 10 == pages[:10]
    assert os.pwrite(written, b"x" * 10, 0) == os.pwrite(made, b"y" * 10, 0) == 10
    (live.store / "policy.toml").write_text(ALLOW + DENY.format(who))
    eventually("it is denied", lambda: not there.exists(), 5)
    eventually("reads are refused", lambda: code_of(lambda: os.pread(read, 10, 2_000_000)) in REFUSED, 5)
    assert code_of(lambda: os.preadv(direct, [aligned], 8192)) in REFUSED
    assert code_of(lambda: os.pwrite(written, b"EVIL", 0)) in REFUSED
    assert code_of(lambda: os.pwrite(made, b"EVIL", 0)) in REFUSED
    assert code_of(lambda: os.sendfile(out, read, 1_000_000, 10)) in REFUSED
    assert code_of(lambda: os.ftruncate(written, 0)) in REFUSED
    assert code_of(lambda: os.close(os.open(f"/proc/self/fd/{written}", os.O_RDWR))) in REFUSED
    assert fate_of(lambda: pages[1_000_000:1_000_010]) == "SIGBUS"
    assert (area / "written").read_bytes()[:10] == b"x" * 10 and (area / "made").read_bytes() == b"y" * 10
    for fd in (read, written, made, direct, out, mapped):
        os.close(fd)
