"""Define the rules of POSIX and Linux for files, one function a rule.

Each gets an empty directory, and fails if the system breaks the rule. The same rules run on the host's own file system,
which shows wrong rules, and on mounts. A rule that needs root is marked (`as_root`).
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

RULES: dict[str, Callable[[Path], None]] = {}
NEEDS_ROOT: set[str] = set()
NEEDS_USER: set[str] = set()
_LIBC = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE = 1, 2


def rule(function: Callable[[Path], None]) -> Callable[[Path], None]:
    RULES[function.__name__] = function
    return function


def as_root(function: Callable[[Path], None]) -> Callable[[Path], None]:
    NEEDS_ROOT.add(function.__name__)
    return function


def as_user(function: Callable[[Path], None]) -> Callable[[Path], None]:
    NEEDS_USER.add(function.__name__)
    return function


@contextlib.contextmanager
def refused(*codes: int) -> Iterator[None]:
    """Check that the block fails with one of these error numbers."""
    try:
        yield
    except OSError as error:
        assert error.errno in codes, (
            f"{errno.errorcode.get(error.errno or 0)}, not {[errno.errorcode[c] for c in codes]}"
        )
        return
    raise AssertionError(f"it was not refused with {[errno.errorcode[code] for code in codes]}")


@contextlib.contextmanager
def opened(path: Path, flags: int, mode: int = 0o644) -> Iterator[int]:
    descriptor = os.open(path, flags, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def renameat2(old: Path, new: Path, flags: int) -> None:
    if _LIBC.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# open and create


@rule
def create_makes_a_file_with_the_mode_less_the_umask(at: Path) -> None:
    before = os.umask(0o027)
    try:
        os.close(os.open(at / "f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(at / "d", 0o777)
    finally:
        os.umask(before)
    assert stat.S_IMODE((at / "f").stat().st_mode) == 0o640
    assert stat.S_IMODE((at / "d").stat().st_mode) == 0o750


@rule
def exclusive_creation_refuses_existing_files_and_links(at: Path) -> None:
    (at / "f").touch()
    (at / "dangling").symlink_to("nowhere")
    for name in ("f", "dangling", "."):
        with refused(errno.EEXIST, errno.EISDIR):
            os.open(at / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert not (at / "nowhere").exists()


@rule
def opening_follows_a_link_to_a_name_that_it_creates(at: Path) -> None:
    (at / "dangling").symlink_to("target")
    (at / "dangling").write_text("through")
    assert (at / "target").read_text() == "through"


@rule
def nofollow_refuses_a_link_and_o_directory_a_file(at: Path) -> None:
    (at / "f").touch()
    (at / "l").symlink_to("f")
    with refused(errno.ELOOP):
        os.open(at / "l", os.O_RDONLY | os.O_NOFOLLOW)
    with refused(errno.ENOTDIR):
        os.open(at / "f", os.O_RDONLY | os.O_DIRECTORY)
    with refused(errno.EISDIR):
        os.open(at, os.O_WRONLY)


@rule
def truncation_at_open_empties_and_moves_mtime(at: Path) -> None:
    (at / "f").write_text("content")
    os.utime(at / "f", ns=(1, 1))
    os.close(os.open(at / "f", os.O_WRONLY | os.O_TRUNC))
    attributes = (at / "f").stat()
    assert attributes.st_size == 0
    assert attributes.st_mtime_ns > 1
    (at / "f").write_text("again")
    os.close(os.open(at / "f", os.O_RDONLY | os.O_TRUNC))
    assert (at / "f").read_bytes() == b""


@rule
def appending_writes_land_at_the_current_end(at: Path) -> None:
    with (
        opened(at / "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND) as one,
        opened(at / "f", os.O_WRONLY | os.O_APPEND) as two,
    ):
        for number in range(50):
            os.write(one, b"a%02d\n" % number)
            os.write(two, b"b%02d\n" % number)
        os.lseek(one, 0, os.SEEK_SET)
        os.write(one, b"last")
    lines = (at / "f").read_text().splitlines()
    assert len(lines) == 101
    assert lines[-1] == "last"


@rule
def a_descriptor_permits_the_access_of_its_open_mode(at: Path) -> None:
    (at / "f").write_text("x")
    with opened(at / "f", os.O_RDONLY) as reading, refused(errno.EBADF):
        os.write(reading, b"y")
    with opened(at / "f", os.O_WRONLY) as writing, refused(errno.EBADF):
        os.read(writing, 1)


@rule
def direct_io_reads_and_writes_whole_blocks(at: Path) -> None:
    block = mmap.mmap(-1, 4096)
    block.write(b"d" * 4096)
    try:
        descriptor = os.open(at / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    except OSError as error:
        assert error.errno == errno.EINVAL, error  # tmpfs of older kernels does not support it
        return
    try:
        assert os.writev(descriptor, [block]) == 4096
        target = mmap.mmap(-1, 4096)
        assert os.preadv(descriptor, [target], 0) == 4096
        assert target[:] == b"d" * 4096
    finally:
        os.close(descriptor)


# reading and writing


@rule
def a_hole_reads_as_zeros_and_counts_in_the_size(at: Path) -> None:
    with opened(at / "f", os.O_CREAT | os.O_RDWR) as file:
        os.pwrite(file, b"end", 1_000_000)
        assert os.fstat(file).st_size == 1_000_003
        assert os.pread(file, 10, 500_000) == b"\0" * 10


@rule
def truncate_extends_with_zeros_and_cuts(at: Path) -> None:
    (at / "f").write_bytes(b"abcdef")
    os.truncate(at / "f", 3)
    os.truncate(at / "f", 6)
    assert (at / "f").read_bytes() == b"abc\0\0\0"
    with refused(errno.EINVAL):
        os.truncate(at / "f", -1)


@rule
def times_of_other_centuries_are_those_of_the_host(at: Path) -> None:
    """Allow the host to clamp such times; files with them are read and written as others are."""
    centuries = (10_413_792_000, -5_000_000_000, 2**33, -(2**31), 2**40, 2**62)
    for seconds in centuries:
        (at / "f").write_bytes(b"x" * 3000)
        os.utime(at / "f", (seconds, seconds))
        attributes = (at / "f").stat()
        held = attributes.st_mtime_ns // 10**9
        assert held == seconds or abs(held) < abs(seconds), seconds
        assert "f" in os.listdir(at)
        for _ in range(3):
            assert (at / "f").read_bytes() == b"x" * 3000
        (at / "f").write_bytes(b"y")
        assert (at / "f").read_bytes() == b"y"


@rule
def seek_data_and_hole_return_consistent_offsets(at: Path) -> None:
    with opened(at / "f", os.O_CREAT | os.O_RDWR) as file:
        os.pwrite(file, b"x" * 4096, 1 << 20)
        data = os.lseek(file, 0, os.SEEK_DATA)
        assert 0 <= data <= 1 << 20
        assert os.lseek(file, 1 << 20, os.SEEK_HOLE) == (1 << 20) + 4096
        with refused(errno.ENXIO):
            os.lseek(file, (1 << 20) + 5000, os.SEEK_DATA)
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            for offset in (-1, -(1 << 63), (1 << 63) - 1):
                with refused(errno.ENXIO):
                    os.lseek(file, offset, whence)


@rule
def fallocate_reserves_and_extends(at: Path) -> None:
    with opened(at / "f", os.O_CREAT | os.O_RDWR) as file:
        os.posix_fallocate(file, 0, 10_000)
        assert os.fstat(file).st_size == 10_000
        os.pwrite(file, b"x", 0)
        os.posix_fallocate(file, 0, 5_000)
        assert os.fstat(file).st_size == 10_000
        assert os.pread(file, 2, 0) == b"x\0"


@rule
def copy_file_range_copies(at: Path) -> None:
    (at / "f").write_bytes(bytes(range(256)) * 100)
    with opened(at / "f", os.O_RDONLY) as source, opened(at / "g", os.O_CREAT | os.O_WRONLY) as target:
        left = 25_600
        while left:
            done = os.copy_file_range(source, target, left)
            assert done
            left -= done
    assert (at / "g").read_bytes() == (at / "f").read_bytes()


@rule
def a_shared_mapping_is_the_file(at: Path) -> None:
    (at / "f").write_bytes(b"a" * 8192)
    with opened(at / "f", os.O_RDWR) as file, mmap.mmap(file, 8192) as mapped:
        mapped[0:5] = b"first"
        mapped.flush()
        assert os.pread(file, 5, 0) == b"first"
        os.pwrite(file, b"later", 4096)
        assert mapped[4096:4101] == b"later"
    assert (at / "f").read_bytes()[:5] == b"first"


@rule
def a_private_mapping_changes_nothing(at: Path) -> None:
    (at / "f").write_bytes(b"a" * 4096)
    with opened(at / "f", os.O_RDONLY) as file, mmap.mmap(file, 4096, mmap.MAP_PRIVATE) as mapped:
        mapped[0:4] = b"mine"
    assert (at / "f").read_bytes() == b"a" * 4096


@rule
def writes_of_one_descriptor_are_visible_to_another_at_once(at: Path) -> None:
    with opened(at / "f", os.O_CREAT | os.O_RDWR) as one, opened(at / "f", os.O_RDONLY) as two:
        for number in range(100):
            os.pwrite(one, b"%04d" % number, 4 * number)
            assert os.pread(two, 4, 4 * number) == b"%04d" % number
            assert os.fstat(two).st_size == 4 * number + 4


@rule
def an_unlinked_open_file_is_still_read_written_and_sized(at: Path) -> None:
    with opened(at / "f", os.O_CREAT | os.O_RDWR) as file:
        os.write(file, b"alive")
        (at / "f").unlink()
        assert os.fstat(file).st_nlink == 0
        os.write(file, b" and well")
        os.ftruncate(file, 8)
        assert os.pread(file, 100, 0) == b"alive an"
        (at / "f").write_text("another")
        assert os.fstat(file).st_size == 8
        os.fchmod(file, 0o600)
    assert (at / "f").read_text() == "another"


@rule
def a_replaced_open_file_keeps_its_content(at: Path) -> None:
    (at / "f").write_text("old")
    (at / "g").write_text("new")
    with opened(at / "f", os.O_RDONLY) as file:
        (at / "g").rename(at / "f")
        assert os.read(file, 10) == b"old"
    assert (at / "f").read_text() == "new"


# names


@rule
def hard_links_are_one_file(at: Path) -> None:
    (at / "f").write_text("one")
    os.link(at / "f", at / "g")
    first, second = (at / "f").stat(), (at / "g").stat()
    assert (first.st_ino, first.st_nlink) == (second.st_ino, 2)
    (at / "g").write_text("both")
    assert (at / "f").read_text() == "both"
    (at / "f").chmod(0o600)
    assert stat.S_IMODE((at / "g").stat().st_mode) == 0o600
    (at / "f").unlink()
    assert (at / "g").stat().st_nlink == 1
    with refused(errno.EEXIST):
        (at / "h").touch()
        os.link(at / "g", at / "h")
    with refused(errno.EPERM):
        (at / "d").mkdir()
        os.link(at / "d", at / "e")


@rule
def a_file_keeps_its_other_names_when_one_is_moved_and_removed(at: Path) -> None:
    for exchanges in (False, True):
        (at / "f").write_text("one file")
        os.link(at / "f", at / "g")
        (at / "other").write_text("another")
        assert [(at / name).stat().st_nlink for name in ("f", "g")] == [2, 2]
        if exchanges:
            renameat2(at / "f", at / "other", EXCHANGE)
            (at / "other").unlink()
        else:
            (at / "f").rename(at / "moved")
            (at / "moved").unlink()
            (at / "f").write_text("not this")
        assert (at / "g").read_text() == "one file"
        os.truncate(at / "g", 3)
        (at / "g").chmod(0o600)
        assert ((at / "g").read_text(), (at / "g").stat().st_nlink) == ("one", 1)
        for name in os.listdir(at):
            (at / name).unlink()
    for name in ("a", "b"):
        os.symlink("text", at / name) if name == "a" else os.link(at / "a", at / "b", follow_symlinks=False)
        assert os.readlink(at / name) == "text"
    (at / "a").rename(at / "c")
    (at / "c").unlink()
    os.symlink("wrong", at / "c")
    assert os.readlink(at / "b") == "text"


@rule
def symbolic_links_keep_their_text(at: Path) -> None:
    for number, text in enumerate(("f", "../x", "/nowhere/at/all", "a b\nc", "ü", "x" * 1000)):
        (at / str(number)).symlink_to(text)
        assert os.readlink(at / str(number)) == text
        assert os.lstat(at / str(number)).st_size == len(os.fsencode(text))
    with refused(errno.EINVAL):
        (at / "f").touch()
        os.readlink(at / "f")
    (at / "loop").symlink_to("loop")
    with refused(errno.ELOOP):
        (at / "loop").stat()


@rule
def rename_replaces_and_does_nothing_for_two_names_of_one_file(at: Path) -> None:
    (at / "f").write_text("f")
    (at / "g").write_text("g")
    (at / "f").rename(at / "g")
    assert not (at / "f").exists()
    assert (at / "g").read_text() == "f"
    os.link(at / "g", at / "h")
    (at / "g").rename(at / "h")
    assert (at / "g").exists()


@rule
def rename_of_directories_keeps_the_rules(at: Path) -> None:
    (at / "a" / "inner").mkdir(parents=True)
    (at / "b").mkdir()
    (at / "f").touch()
    (at / "a").rename(at / "b")
    assert (at / "b" / "inner").is_dir()
    (at / "c").mkdir()
    (at / "c" / "x").touch()
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        (at / "b").rename(at / "c")
    with refused(errno.ENOTDIR):
        (at / "b").rename(at / "f")
    with refused(errno.EISDIR):
        (at / "f").rename(at / "b")
    with refused(errno.EINVAL):
        (at / "b").rename(at / "b" / "inner" / "deeper")
    with refused(errno.ENOENT):
        (at / "nothing").rename(at / "x")


@rule
def rename_may_refuse_to_replace_and_exchange(at: Path) -> None:
    (at / "f").write_text("f")
    (at / "g").write_text("g")
    with refused(errno.EEXIST):
        renameat2(at / "f", at / "g", NOREPLACE)
    renameat2(at / "f", at / "g", EXCHANGE)
    assert ((at / "f").read_text(), (at / "g").read_text()) == ("g", "f")
    (at / "d").mkdir()
    (at / "d" / "x").touch()
    renameat2(at / "f", at / "d", EXCHANGE)
    assert (at / "f" / "x").exists()
    assert (at / "d").read_text() == "g"
    with refused(errno.ENOENT):
        renameat2(at / "f", at / "nothing", EXCHANGE)
    with refused(errno.EINVAL):
        renameat2(at / "f", at / "g", NOREPLACE | EXCHANGE)


@rule
def a_working_directory_moves_with_its_process(at: Path) -> None:
    (at / "a" / "b").mkdir(parents=True)
    inside = os.open(at / "a" / "b", os.O_RDONLY | os.O_DIRECTORY)
    try:
        (at / "a").rename(at / "z")
        with contextlib.closing(os.fdopen(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=inside), "w")) as file:
            file.write("here")
    finally:
        os.close(inside)
    assert (at / "z" / "b" / "f").read_text() == "here"


@rule
def unlink_refuses_directories_and_rmdir_refuses_files(at: Path) -> None:
    (at / "d").mkdir()
    (at / "d" / "f").touch()
    with refused(errno.EISDIR, errno.EPERM):
        os.unlink(at / "d")
    with refused(errno.ENOTDIR):
        os.rmdir(at / "d" / "f")
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        os.rmdir(at / "d")
    with refused(errno.EINVAL):
        os.rmdir(f"{at / 'd'}/.")
    (at / "d" / "f").unlink()
    (at / "d").rmdir()
    with refused(errno.ENOENT):
        os.unlink(at / "d")


@rule
def names_have_255_bytes_and_paths_4096(at: Path) -> None:
    (at / ("x" * 255)).write_text("long")
    assert (at / ("x" * 255)).read_text() == "long"
    for act in (
        lambda: (at / ("x" * 256)).touch(),
        lambda: (at / ("x" * 256)).mkdir(),
        lambda: (at / ("x" * 256)).stat(),
    ):
        with refused(errno.ENAMETOOLONG):
            act()
    with refused(errno.ENAMETOOLONG):
        os.stat("/".join([str(at), *["d" * 200] * 21]))


@rule
def any_bytes_but_slash_and_nul_are_a_name(at: Path) -> None:
    names = [bytes([byte]) for byte in range(1, 256) if byte not in (ord("/"), ord("."))] + [b"a\xff\xfe", b" ", b"\n"]
    for name in dict.fromkeys(names):
        with open(os.path.join(os.fsencode(at), name), "wb") as file:
            file.write(name)
    assert set(os.listdir(os.fsencode(at))) == set(names)
    assert Path(os.fsdecode(os.path.join(os.fsencode(at), b"a\xff\xfe"))).read_bytes() == b"a\xff\xfe"


@rule
def a_file_is_no_directory_on_the_way(at: Path) -> None:
    (at / "f").touch()
    for act in (
        lambda: (at / "f" / "x").stat(),
        lambda: (at / "f" / "x").touch(),
        lambda: os.stat(f"{at / 'f'}/"),
        lambda: os.listdir(at / "f"),
    ):
        with refused(errno.ENOTDIR):
            act()


# attributes


@rule
def link_counts_of_directories_and_files_are_correct(at: Path) -> None:
    (at / "d").mkdir()
    before = (at / "d").stat().st_nlink
    (at / "d" / "sub").mkdir()
    assert (at / "d").stat().st_nlink in (before, before + 1)  # some file systems do not count
    (at / "d" / "f").touch()
    assert (at / "d" / "f").stat().st_nlink == 1


@rule
def times_are_kept_to_the_nanosecond_and_may_be_left_out(at: Path) -> None:
    (at / "f").touch()
    os.utime(at / "f", ns=(1_234_567_890_123_456_789, 1_345_678_901_234_567_891))
    attributes = (at / "f").stat()
    assert (attributes.st_atime_ns, attributes.st_mtime_ns) == (1_234_567_890_123_456_789, 1_345_678_901_234_567_891)
    omit, now = (1 << 30) - 2, (1 << 30) - 1

    def set_times(first: tuple[int, int], second: tuple[int, int]) -> None:
        times = struct.pack("4q", *first, *second)
        if _LIBC.utimensat(-100, os.fsencode(at / "f"), times, 0):
            raise OSError(ctypes.get_errno(), "utimensat")

    set_times((0, omit), (7, 8))
    attributes = (at / "f").stat()
    assert (attributes.st_atime_ns, attributes.st_mtime_ns) == (1_234_567_890_123_456_789, 7_000_000_008)
    set_times((9, 1), (0, omit))
    assert (at / "f").stat().st_mtime_ns == 7_000_000_008
    set_times((0, omit), (0, now))
    assert (at / "f").stat().st_mtime_ns > 1_600_000_000_000_000_000


@rule
def changes_move_the_times_that_they_should(at: Path) -> None:
    (at / "f").write_text("x")
    (at / "d").mkdir()
    for path in (at / "f", at / "d"):
        os.utime(path, ns=(5, 5))
    (at / "f").write_text("y")
    (at / "d" / "new").touch()
    assert (at / "f").stat().st_mtime_ns > 5
    assert (at / "d").stat().st_mtime_ns > 5
    os.utime(at / "d", ns=(5, 5))
    os.utime(at / "f", ns=(5, 5))
    (at / "d" / "new").unlink()
    (at / "f").chmod(0o600)
    assert (at / "d").stat().st_mtime_ns > 5
    assert (at / "f").stat().st_mtime_ns == 5
    before = (at / "f").stat().st_ctime_ns
    os.link(at / "f", at / "g")
    assert (at / "f").stat().st_ctime_ns >= before


@rule
def modes_can_be_set_and_read(at: Path) -> None:
    (at / "f").touch()
    for mode in (0o000, 0o444, 0o600, 0o755, 0o777):
        (at / "f").chmod(mode)
        assert stat.S_IMODE((at / "f").stat().st_mode) == mode
    (at / "d").mkdir()
    (at / "d").chmod(0o1770)
    assert stat.S_IMODE((at / "d").stat().st_mode) == 0o1770


@rule
@as_user
def an_ordinary_user_is_held_to_the_modes(at: Path) -> None:
    (at / "f").write_text("x")
    (at / "f").chmod(0o400)
    with refused(errno.EACCES):
        os.open(at / "f", os.O_WRONLY)
    (at / "f").chmod(0o200)
    with refused(errno.EACCES):
        (at / "f").read_text()
    (at / "d").mkdir()
    (at / "d" / "x").touch()
    (at / "d").chmod(0o600)
    with refused(errno.EACCES):
        (at / "d" / "x").stat()
    (at / "d").chmod(0o500)
    with refused(errno.EACCES):
        (at / "d" / "new").touch()
    with refused(errno.EACCES):
        (at / "d" / "x").unlink()
    with refused(errno.EPERM):
        os.chown(at / "f", 0, -1)
    (at / "d").chmod(0o700)


@rule
@as_user
def set_bits_fall_when_an_ordinary_user_writes(at: Path) -> None:
    (at / "f").write_text("x")
    (at / "f").chmod(0o4755)
    assert (at / "f").stat().st_mode & stat.S_ISUID
    with opened(at / "f", os.O_WRONLY) as file:
        os.write(file, b"y")
    assert not (at / "f").stat().st_mode & stat.S_ISUID


@rule
@as_root
def root_gives_files_away_and_set_bits_fall(at: Path) -> None:
    (at / "f").touch()
    (at / "f").chmod(0o6755)
    os.chown(at / "f", 1234, 2345)
    attributes = (at / "f").stat()
    assert (attributes.st_uid, attributes.st_gid) == (1234, 2345)
    assert not attributes.st_mode & stat.S_ISUID
    os.chown(at / "f", -1, 0)
    assert ((at / "f").stat().st_uid, (at / "f").stat().st_gid) == (1234, 0)


@rule
@as_root
def a_setgid_directory_passes_its_group_on(at: Path) -> None:
    (at / "d").mkdir()
    os.chown(at / "d", 0, 2345)
    (at / "d").chmod(0o2775)
    (at / "d" / "f").touch()
    (at / "d" / "sub").mkdir()
    assert (at / "d" / "f").stat().st_gid == 2345
    assert (at / "d" / "sub").stat().st_gid == 2345
    assert (at / "d" / "sub").stat().st_mode & stat.S_ISGID


def _by_a_user(act: Callable[[], object]) -> int:
    """Return the errno of `act` for an ordinary user, 0 if it succeeds."""
    child = os.fork()
    if not child:
        code = 0
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            act()
        except OSError as error:
            code = error.errno or 255
        except BaseException:
            code = 254
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@rule
@as_root
def a_file_belongs_to_its_creator_except_for_the_group_of_a_setgid_directory(at: Path) -> None:
    for name, mode in (("plain", 0o777), ("shared", 0o2777)):
        (at / name).mkdir()
        os.chown(at / name, 0, 2345)
        (at / name).chmod(mode)
        assert _by_a_user(lambda name=name: (at / name / "f").touch()) == 0
        assert _by_a_user(lambda name=name: (at / name / "sub").mkdir()) == 0
        assert _by_a_user(lambda name=name: (at / name / "l").symlink_to("f")) == 0
        for entry in ("f", "sub", "l"):
            attributes = os.lstat(at / name / entry)
            assert (attributes.st_uid, attributes.st_gid) == (65534, 2345 if name == "shared" else 65534), (name, entry)
    assert (at / "shared" / "sub").stat().st_mode & stat.S_ISGID


@rule
@as_root
def a_sticky_directory_lets_only_owners_delete(at: Path) -> None:
    (at / "d").mkdir()
    (at / "d").chmod(0o1777)
    (at / "d" / "theirs").touch()
    assert _by_a_user((at / "d" / "theirs").unlink) in (errno.EPERM, errno.EACCES)
    assert _by_a_user(lambda: (at / "d" / "theirs").rename(at / "d" / "mine")) in (errno.EPERM, errno.EACCES)
    assert _by_a_user((at / "d" / "own").touch) == 0
    assert _by_a_user((at / "d" / "own").unlink) == 0


@rule
def extended_attributes_are_set_listed_replaced_and_removed(at: Path) -> None:
    (at / "f").touch()
    try:
        os.setxattr(at / "f", "user.a", b"1", os.XATTR_CREATE)
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP, error
        return
    with refused(errno.EEXIST):
        os.setxattr(at / "f", "user.a", b"2", os.XATTR_CREATE)
    with refused(errno.ENODATA):
        os.setxattr(at / "f", "user.b", b"2", os.XATTR_REPLACE)
    os.setxattr(at / "f", "user.a", b"")
    assert os.getxattr(at / "f", "user.a") == b""
    assert "user.a" in os.listxattr(at / "f")
    os.removexattr(at / "f", "user.a")
    with refused(errno.ENODATA):
        os.getxattr(at / "f", "user.a")


# directories


@rule
def a_listing_is_whole_while_others_create_and_delete(at: Path) -> None:
    steady = {f"steady-{number:05d}" for number in range(2000)}
    for name in steady:
        (at / name).touch()
    seen: list[str] = []
    with os.scandir(at) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number % 10 == 0:
                (at / f"new-{number}").touch()
                with contextlib.suppress(FileNotFoundError):
                    (at / f"new-{number - 50}").unlink()
    assert steady <= set(seen)
    assert len(seen) == len(set(seen))


@rule
def a_directory_stream_returns_types_and_inodes(at: Path) -> None:
    (at / "f").touch()
    (at / "d").mkdir()
    (at / "l").symlink_to("f")
    with os.scandir(at) as entries:
        listing = {
            entry.name: (entry.is_symlink(), entry.is_dir(follow_symlinks=False), entry.inode()) for entry in entries
        }
    assert listing == {
        "f": (False, False, os.lstat(at / "f").st_ino),
        "d": (False, True, os.lstat(at / "d").st_ino),
        "l": (True, False, os.lstat(at / "l").st_ino),
    }


@rule
def a_removed_directory_that_is_open_lists_nothing(at: Path) -> None:
    (at / "d").mkdir()
    inside = os.open(at / "d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        (at / "d").rmdir()
        with contextlib.suppress(FileNotFoundError):
            assert os.listdir(inside) == []
        assert stat.S_ISDIR(os.fstat(inside).st_mode)
        with refused(errno.ENOENT):
            os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=inside)
    finally:
        os.close(inside)


# locks


def _locked_elsewhere(path: Path, how: Callable[[int], None]) -> bool:
    """Return True if another process cannot take the lock."""
    child = os.fork()
    if not child:
        code = 2
        with contextlib.suppress(BaseException):
            descriptor = os.open(path, os.O_RDWR)
            try:
                how(descriptor)
                code = 0
            except BlockingIOError:
                code = 1
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1), code
    return code == 1


@rule
def whole_file_locks_exclude_each_other(at: Path) -> None:
    (at / "f").touch()

    def exclusive(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def shared(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    with opened(at / "f", os.O_RDWR) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not _locked_elsewhere(at / "f", shared)
        assert _locked_elsewhere(at / "f", exclusive)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert _locked_elsewhere(at / "f", shared)
        fcntl.flock(file, fcntl.LOCK_UN)
        assert not _locked_elsewhere(at / "f", exclusive)


@rule
def record_locks_are_of_ranges_and_end_with_a_close(at: Path) -> None:
    (at / "f").write_bytes(bytes(100))

    def from_10(file: int) -> None:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)

    def from_50(file: int) -> None:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50)

    with opened(at / "f", os.O_RDWR) as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 20, 0)
        assert _locked_elsewhere(at / "f", from_10)
        assert not _locked_elsewhere(at / "f", from_50)
        os.close(os.open(at / "f", os.O_RDONLY))  # closing any descriptor ends them
        assert not _locked_elsewhere(at / "f", from_10)


# other rules


@rule
def special_files_are_made(at: Path) -> None:
    os.mkfifo(at / "fifo")
    assert stat.S_ISFIFO((at / "fifo").stat().st_mode)
    reading = os.open(at / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(at / "fifo", os.O_WRONLY)
    try:
        os.write(writing, b"through")
        assert os.read(reading, 10) == b"through"
    finally:
        os.close(reading)
        os.close(writing)


@rule
def statfs_describes_a_file_system(at: Path) -> None:
    filesystem = os.statvfs(at)
    assert filesystem.f_bsize > 0
    assert filesystem.f_blocks >= filesystem.f_bfree
    assert filesystem.f_namemax == 255


@rule
def fsync_and_fdatasync_return(at: Path) -> None:
    with opened(at / "f", os.O_CREAT | os.O_WRONLY) as file:
        os.write(file, b"x")
        os.fsync(file)
        os.fdatasync(file)
    with opened(at, os.O_RDONLY | os.O_DIRECTORY) as directory:
        os.fsync(directory)


@rule
def a_temporary_file_has_no_name_until_it_is_given_one(at: Path) -> None:
    try:
        descriptor = os.open(at, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        assert error.errno in (errno.EOPNOTSUPP, errno.EISDIR), error
        return
    try:
        assert os.listdir(at) == []
        os.write(descriptor, b"hidden")
        assert os.fstat(descriptor).st_nlink == 0
    finally:
        os.close(descriptor)


@rule
def hundreds_of_descriptors_are_open_at_once(at: Path) -> None:
    held = [os.open(at / str(number), os.O_CREAT | os.O_RDWR) for number in range(400)]
    try:
        for number, file in enumerate(held):
            os.write(file, b"%d" % number)
        assert all(os.pread(file, 10, 0) == b"%d" % number for number, file in enumerate(held))
    finally:
        for file in held:
            os.close(file)


# set-user and set-group bits, groups


@rule
def a_created_file_has_the_requested_setuid_and_setgid_bits(at: Path) -> None:
    before = os.umask(0)
    try:
        for mode in (0o4755, 0o2755, 0o6777, 0o2644):
            os.close(os.open(at / f"opened-{mode:o}", os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))
            os.mknod(at / f"made-{mode:o}", stat.S_IFREG | mode)
            os.mkfifo(at / f"fifo-{mode:o}", mode)
            for kind in ("opened", "made", "fifo"):
                assert stat.S_IMODE((at / f"{kind}-{mode:o}").stat().st_mode) == mode, f"{kind} {mode:o}"
    finally:
        os.umask(before)


def _aligned_write(path: Path) -> None:
    with opened(path, os.O_RDWR | os.O_DIRECT) as file, mmap.mmap(-1, 4096) as page:
        os.pwritev(file, [page], 0)


def _written(path: Path) -> None:
    with opened(path, os.O_RDWR) as file:
        os.pwrite(file, b"x", 0)


def _allocated(path: Path) -> None:
    with opened(path, os.O_RDWR) as file:
        os.posix_fallocate(file, 0, 100_000)


def _copied_into(path: Path) -> None:
    (path.parent / "source").write_bytes(b"y" * 5000)
    with opened(path.parent / "source", os.O_RDONLY) as source, opened(path, os.O_RDWR) as target:
        assert os.copy_file_range(source, target, 5000, 0, 0) == 5000


def _cut_by_handle(path: Path) -> None:
    with opened(path, os.O_RDWR) as file:
        os.ftruncate(file, 10)


CHANGES: dict[str, Callable[[Path], None]] = {
    "write": _written,
    "direct write": _aligned_write,
    "truncate": lambda path: os.truncate(path, 10),
    "ftruncate": _cut_by_handle,
    "O_TRUNC": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    "fallocate": _allocated,
    "copy_file_range": _copied_into,
}


@rule
@as_user
def another_content_loses_the_set_user_bit_and_that_of_the_group_of_a_program(at: Path) -> None:
    for change, do in CHANGES.items():
        for size in (5000, 2_000_000):
            for mode, after in ((0o4755, 0o755), (0o6777, 0o777), (0o6711, 0o711), (0o2744, 0o2744), (0o6744, 0o2744)):
                path = at / "program"
                path.write_bytes(b"#!" * (size // 2))
                path.chmod(mode)
                assert stat.S_IMODE(path.stat().st_mode) == mode
                do(path)
                assert stat.S_IMODE(path.stat().st_mode) == after, f"{change} of {mode:o}, {size} bytes"
                path.unlink()


@rule
@as_root
def root_keeps_the_bits_when_it_writes(at: Path) -> None:
    for change, do in CHANGES.items():
        path = at / change
        path.write_bytes(b"#!" * 3000)
        path.chmod(0o6755)
        do(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o6755, change


@rule
@as_root
def a_file_that_root_creates_with_another_group_belongs_to_it(at: Path) -> None:
    (at / "shared").mkdir()
    os.chown(at / "shared", 0, 7)
    (at / "shared").chmod(0o2777)
    os.setgroups([])
    os.setresgid(12, 12, 12)
    for folder, group in ((at, 12), (at / "shared", 7)):
        os.close(os.open(folder / "file", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
        os.mkdir(folder / "folder")
        os.mkfifo(folder / "fifo")
        os.mknod(folder / "node", stat.S_IFREG | 0o644)
        os.symlink("x", folder / "link")
        for name in ("file", "folder", "fifo", "node", "link"):
            attributes = (folder / name).lstat()
            assert (attributes.st_uid, attributes.st_gid) == (0, group), f"{folder.name}/{name}"
    assert (at / "shared" / "folder").stat().st_mode & stat.S_ISGID


# descriptors of files that have lost their name


def _path_of(path: Path) -> int:
    return os.open(path, os.O_PATH | os.O_NOFOLLOW)


@rule
def a_path_descriptor_stays_with_a_removed_or_replaced_file(at: Path) -> None:
    for act in ("remove", "replace"):
        (at / "f").write_text("old")
        (at / "g").write_text("another")
        file = _path_of(at / "f")
        if act == "remove":
            (at / "f").unlink()
        else:
            (at / "g").rename(at / "f")
        attributes = os.fstat(file)
        assert (attributes.st_nlink, attributes.st_size) == (0, 3), act
        again = os.open(f"/proc/self/fd/{file}", os.O_RDWR)
        assert os.read(again, 10) == b"old"
        os.pwrite(again, b"new", 0)
        os.fchmod(again, 0o640)
        os.close(again)
        with opened(Path(f"/proc/self/fd/{file}"), os.O_RDONLY) as third:
            assert os.read(third, 10) == b"new"
        assert stat.S_IMODE(os.fstat(file).st_mode) == 0o640
        os.close(file)


@rule
def a_descriptor_of_a_removed_link_still_has_its_text(at: Path) -> None:
    (at / "l").symlink_to("target")
    link = _path_of(at / "l")
    (at / "l").unlink()
    assert os.readlink("", dir_fd=link) == "target"
    assert os.fstat(link).st_nlink == 0
    os.close(link)


@rule
def a_descriptor_stays_with_a_file_that_has_another_name(at: Path) -> None:
    (at / "f").write_text("text")
    os.link(at / "f", at / "other")
    file = _path_of(at / "f")
    (at / "f").unlink()
    (at / "f").write_text("not this one")
    assert (os.fstat(file).st_nlink, os.fstat(file).st_size) == (1, 4)
    (at / "other").unlink()
    assert os.fstat(file).st_nlink == 0
    with opened(Path(f"/proc/self/fd/{file}"), os.O_RDONLY) as again:
        assert os.read(again, 10) == b"text"
    os.close(file)


@rule
def a_replaced_directory_is_empty_for_processes_that_use_it(at: Path) -> None:
    for name in ("old", "new", "gone"):
        (at / name).mkdir()
    (at / "new" / "f").touch()
    directory, gone = os.open(at / "old", os.O_RDONLY), os.open(at / "gone", os.O_RDONLY)
    here = os.open(".", os.O_RDONLY)
    os.chdir(at / "old")
    try:
        (at / "new").rename(at / "old")
        (at / "gone").rmdir()
        assert os.fstat(directory).st_nlink == os.fstat(gone).st_nlink == 0
        assert os.listdir(directory) == os.listdir(gone) == os.listdir(".") == []
        with refused(errno.ENOENT):
            os.getcwd()
        for folder in (directory, gone):
            with refused(errno.ENOENT):
                os.close(os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        os.fchmod(directory, 0o700)
        assert stat.S_IMODE(os.fstat(directory).st_mode) == 0o700
        assert os.listdir(at / "old") == ["f"]
    finally:
        os.fchdir(here)
        for descriptor in (directory, gone, here):
            os.close(descriptor)
