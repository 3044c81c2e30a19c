"""Test system calls on the kernel mount, in pad/ and memory/, and their errors on the rest of the tree."""

import ctypes
import errno
import json
import mmap
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.live import Live, code_of

pytestmark = pytest.mark.fuse


@pytest.fixture
def pad(live: Live, request: pytest.FixtureRequest) -> Path:
    """Return a directory in pad/ for one test."""
    folder = live.at / "pad" / request.node.name.replace("/", "-")[:120]
    folder.mkdir()
    return folder


def test_file_reads_back_its_written_content(pad: Path) -> None:
    data = os.urandom(3_000_001)
    (pad / "f").write_bytes(data)
    assert (pad / "f").read_bytes() == data
    assert (pad / "f").stat().st_size == len(data)


def test_files_append_truncate_and_have_holes(pad: Path) -> None:
    file = pad / "f"
    with open(file, "ab") as out:
        out.write(b"one")
    with open(file, "ab") as out:
        out.write(b"two")
    assert file.read_bytes() == b"onetwo"
    os.truncate(file, 4)
    assert file.read_bytes() == b"onet"
    with open(file, "r+b") as out:
        out.seek(10)
        out.write(b"!")
    assert file.read_bytes() == b"onet" + bytes(6) + b"!"
    with open(file, "wb"):
        pass
    assert file.read_bytes() == b""


def test_names_can_be_moved_linked_and_removed(pad: Path) -> None:
    (pad / "a").write_text("a")
    (pad / "b").write_text("b")
    os.rename(pad / "a", pad / "b")
    assert (sorted(os.listdir(pad)), (pad / "b").read_text()) == (["b"], "a")
    os.link(pad / "b", pad / "hard")
    assert (pad / "hard").stat().st_ino == (pad / "b").stat().st_ino
    assert (pad / "b").stat().st_nlink == 2
    (pad / "b").unlink()
    assert (pad / "hard").read_text() == "a"
    assert (pad / "hard").stat().st_nlink == 1
    os.symlink("hard", pad / "soft")
    assert (os.readlink(pad / "soft"), (pad / "soft").read_text()) == ("hard", "a")
    (pad / "d").mkdir()
    assert code_of(lambda: os.rmdir(pad)) == errno.ENOTEMPTY
    assert code_of(lambda: os.unlink(pad / "d")) in (errno.EISDIR, errno.EPERM)
    os.rename(pad / "d", pad / "e")
    assert (pad / "e").is_dir()
    assert not (pad / "d").exists()


def test_a_directory_moves_with_everything_in_it(pad: Path) -> None:
    (pad / "a" / "b").mkdir(parents=True)
    (pad / "a" / "b" / "f").write_text("deep")
    handle = os.open(pad / "a" / "b" / "f", os.O_RDONLY)
    os.rename(pad / "a", pad / "z")
    assert (pad / "z" / "b" / "f").read_text() == "deep"
    assert os.read(handle, 10) == b"deep"
    os.close(handle)
    (pad / "z" / "b" / "g").write_text("new")
    assert sorted(os.listdir(pad / "z" / "b")) == ["f", "g"]


def rename_with_flags(old: Path, new: Path, flags: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags)
    return ctypes.get_errno() if done else 0


def test_rename_can_refuse_to_replace_and_can_exchange(pad: Path) -> None:
    (pad / "a").write_text("a")
    (pad / "b").write_text("b")
    assert rename_with_flags(pad / "a", pad / "b", 1) == errno.EEXIST
    assert rename_with_flags(pad / "a", pad / "b", 2) == 0
    assert ((pad / "a").read_text(), (pad / "b").read_text()) == ("b", "a")


def test_an_open_file_survives_its_name(pad: Path) -> None:
    with open(pad / "f", "w+b") as file:
        file.write(b"still here")
        file.flush()
        os.unlink(pad / "f")
        assert not (pad / "f").exists()
        assert os.fstat(file.fileno()).st_size == 10
        os.ftruncate(file.fileno(), 5)
        file.seek(0)
        assert file.read() == b"still"


def test_modes_times_and_owners_can_be_set(pad: Path) -> None:
    file = pad / "f"
    file.write_text("x")
    os.chmod(file, 0o640)
    os.utime(file, ns=(1_000_000_001, 2_000_000_002))
    attributes = file.stat()
    assert (stat.S_IMODE(attributes.st_mode), attributes.st_atime_ns, attributes.st_mtime_ns) == (
        0o640,
        1_000_000_001,
        2_000_000_002,
    )
    if os.geteuid() == 0:
        os.chown(file, 1234, 5678)
        assert (file.stat().st_uid, file.stat().st_gid) == (1234, 5678)
    old = os.umask(0o027)
    try:
        os.close(os.open(pad / "masked", os.O_CREAT | os.O_WRONLY, 0o666))
    finally:
        os.umask(old)
    assert stat.S_IMODE((pad / "masked").stat().st_mode) == 0o640


def test_exclusive_creation_happens_once(pad: Path) -> None:
    os.close(os.open(pad / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    assert code_of(lambda: os.open(pad / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)) == errno.EEXIST


def test_special_files_can_be_made(pad: Path) -> None:
    os.mkfifo(pad / "pipe")
    assert stat.S_ISFIFO((pad / "pipe").stat().st_mode)
    os.mknod(pad / "plain", 0o600 | stat.S_IFREG)
    assert (pad / "plain").read_bytes() == b""


def test_extended_attributes_persist_and_follow_a_rename(pad: Path, live: Live) -> None:
    file = pad / "f"
    file.write_text("x")
    os.setxattr(file, "user.ctx.kind", b"fact")
    os.setxattr(file, "user.mine", b"\0\xff")
    os.rename(file, pad / "g")
    assert sorted(os.listxattr(pad / "g")) == ["user.ctx.kind", "user.mine"]
    assert os.getxattr(pad / "g", "user.mine") == b"\0\xff"
    assert os.getxattr(live.store / "tree" / "pad" / pad.name / "g", "user.ctx.kind") == b"fact"
    assert code_of(lambda: os.setxattr(pad / "g", "user.mine", b"", os.XATTR_CREATE)) == errno.EEXIST
    assert code_of(lambda: os.getxattr(pad / "g", "user.none")) == errno.ENODATA
    os.removexattr(pad / "g", "user.mine")
    assert os.listxattr(pad / "g") == ["user.ctx.kind"]
    for name in ("system.mine", "mine"):  # namespaces that no file system stores
        assert code_of(lambda name=name: os.setxattr(pad / "g", name, b"1")) == errno.EOPNOTSUPP  # type: ignore[misc]
    if os.geteuid() == 0:
        os.setxattr(pad / "g", "trusted.x", b"1")
        assert os.getxattr(live.store / "tree" / "pad" / pad.name / "g", "trusted.x") == b"1"
        assert code_of(lambda: os.setxattr(pad / "g", "security.selinux", b"1")) == errno.EOPNOTSUPP


def test_memory_mapped_writes_reach_the_file(pad: Path, live: Live) -> None:
    file = pad / "f"
    file.write_bytes(b"." * 8192)
    with open(file, "r+b") as handle, mmap.mmap(handle.fileno(), 8192) as view:
        view[4096:4101] = b"hello"
        view.flush()
    assert (live.store / "tree" / "pad" / pad.name / "f").read_bytes()[4096:4101] == b"hello"


def test_files_and_directories_can_be_fsynced(pad: Path) -> None:
    with open(pad / "f", "wb") as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
    directory = os.open(pad, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    assert (pad / "f").read_bytes() == b"x"


def test_a_listing_is_whole_while_names_come_and_go(pad: Path) -> None:
    for number in range(3000):
        (pad / f"keep-{number:05}").touch()
    seen = set()
    with os.scandir(pad) as entries:
        for position, entry in enumerate(entries):
            seen.add(entry.name)
            if position % 50 == 0:
                (pad / f"new-{position}").touch()
                (pad / f"new-{position}").unlink()
    assert {name for name in seen if name.startswith("keep")} == {f"keep-{number:05}" for number in range(3000)}


@pytest.mark.parametrize("name", [b"caf\xe9", b"new\nline", b"-rf", b"a" * 255, "日本".encode(), b" ", b"a\\b"])
def test_file_may_have_any_legal_name(pad: Path, name: bytes) -> None:
    path = os.fsencode(pad) + b"/" + name
    with open(path, "wb") as file:
        file.write(name)
    assert os.listdir(os.fsencode(pad)) == [name]
    with open(path, "rb") as file:
        assert file.read() == name
    os.rename(path, os.fsencode(pad) + b"/x")
    assert os.listdir(pad) == ["x"]


def test_errors_have_the_right_number(pad: Path, live: Live) -> None:
    (pad / "f").write_text("x")
    assert code_of(lambda: os.stat(pad / "none")) == errno.ENOENT
    assert code_of(lambda: os.stat(pad / "f" / "below")) == errno.ENOTDIR
    assert code_of(lambda: os.mkdir(pad)) == errno.EEXIST
    assert code_of(lambda: os.stat(pad / ("n" * 256))) == errno.ENAMETOOLONG
    os.symlink("loop", pad / "loop")
    assert code_of(lambda: os.stat(pad / "loop")) == errno.ELOOP
    assert code_of(lambda: os.rename(pad / "f", live.at / "memory" / "f")) == errno.EXDEV
    assert code_of(lambda: os.link(pad / "f", live.at / "memory" / "f")) == errno.EXDEV
    for attempt in (
        lambda: os.open(live.at / "knowledge" / "handbook" / "new", os.O_CREAT | os.O_WRONLY),
        lambda: os.open(live.at / "knowledge" / "handbook" / "rotation.md", os.O_WRONLY),
        lambda: os.unlink(live.at / "knowledge" / "handbook" / "rotation.md"),
        lambda: os.truncate(live.at / "knowledge" / "handbook" / "rotation.md", 0),
        lambda: os.chmod(live.at / "knowledge" / "handbook" / "rotation.md", 0o777),
        lambda: os.setxattr(live.at / "knowledge" / "handbook" / "rotation.md", "user.x", b"1"),
    ):
        assert code_of(attempt) == errno.EROFS
    for attempt in (
        lambda: os.mkdir(live.at / "new"),
        lambda: os.rmdir(live.at / "memory"),
        lambda: os.unlink(live.at / "AGENTS.md"),
        lambda: os.rename(live.at / "pad", live.at / "bad"),
    ):
        assert code_of(attempt) in (errno.EPERM, errno.EACCES, errno.EROFS, errno.EBUSY, errno.EXDEV)
    assert code_of(lambda: os.open(live.at / "AGENTS.md", os.O_WRONLY)) in (errno.EACCES, errno.EROFS)


def test_mount_follows_no_link_out_of_a_root(live: Live, tmp_path: Path) -> None:
    """The kernel resolves links with the rights of the calling process; the mount itself follows none."""
    link = live.at / "knowledge" / "handbook" / "outside-link"
    assert os.readlink(link) == "/etc/hostname"
    assert code_of(lambda: os.open(link, os.O_RDONLY | os.O_NOFOLLOW)) == errno.ELOOP


def test_statfs_describes_the_disk_of_the_store(pad: Path, live: Live) -> None:
    mine, real = os.statvfs(pad), os.statvfs(live.store)
    assert (mine.f_bsize, mine.f_blocks, mine.f_namemax) == (real.f_bsize, real.f_blocks, real.f_namemax)


def test_sizes_of_synthetic_files_are_those_of_a_read(live: Live) -> None:
    folder = live.at / "search" / "how are keys rotated"
    for path in [*folder.iterdir(), *(folder / "files").iterdir()]:
        attributes = os.lstat(path)
        if stat.S_ISLNK(attributes.st_mode):
            assert attributes.st_size == len(os.fsencode(os.readlink(path)))
            assert path.exists()
        elif path != folder / "files":
            assert attributes.st_size == len(path.read_bytes())


def test_programs_read_the_passages_of_a_query_as_files(live: Live, tmp_path: Path) -> None:
    folder = live.at / "search" / "rotate signing keys"
    found = subprocess.run(["grep", "-rl", "ninety days", folder], capture_output=True, text=True, check=True).stdout
    (passage,) = (line for line in found.splitlines() if "/01 " in line)
    subprocess.run(["cp", "-r", folder, tmp_path / "copy"], check=True)
    assert (tmp_path / "copy" / Path(passage).name).read_bytes() == Path(passage).read_bytes()


def test_a_hit_can_be_named_by_its_rank(live: Live) -> None:
    done = subprocess.run(
        "cat 'search/rotate signing keys/01'*", shell=True, cwd=live.at, capture_output=True, text=True, check=True
    )
    assert "ninety days" in done.stdout
    assert done.stdout.startswith("knowledge/handbook/")
    folder = live.at / "search" / "rotate signing keys"
    passage = (folder / "01").read_text()
    assert passage == done.stdout
    path, _, lines = passage.split()[0].rpartition(":")
    first, _, last = lines.partition("-")
    source = (live.at / path).read_text().split("\n")
    assert passage.split("\n", 2)[2] == "\n".join(source[int(first) - 1 : int(last or first)]) + "\n"
    (link,) = (folder / "files").glob("01 *")
    assert link.samefile(live.at / path)


@pytest.mark.parametrize("budget", [1, 60, 500])
def test_context_at_a_budget_fits_it(live: Live, budget: int) -> None:
    from ctxfs.context.build.token_bound import upper_bound

    text = (live.at / "search" / "rotate signing keys" / f"context@{budget}.md").read_text()
    assert upper_bound(text) <= budget


def test_odd_queries_are_answered_or_refused(live: Live) -> None:
    search = live.at / "search"
    assert code_of(lambda: os.listdir(search / " ")) == errno.ENOENT
    assert code_of(lambda: os.listdir(search / "mode:words")) == errno.ENOENT
    assert "results.jsonl" in os.listdir(search / ("why " * 62 + "ab"))
    assert code_of(lambda: os.listdir(search / ("q" * 256))) == errno.ENAMETOOLONG
    assert b"results.jsonl" in os.listdir(os.fsencode(search) + b"/caf\xe9 keys")
    for odd in ("C++:", "what is this? (x", '"unclosed', "---x", "🦘 keys", "a%2Fb keys"):
        assert "results.jsonl" in os.listdir(search / odd)
    assert code_of(lambda: (search / "keys" / "context@0.md").read_text()) == errno.EINVAL
    assert code_of(lambda: (search / "keys" / "99").read_text()) == errno.ENOENT
    assert code_of(lambda: (search / "keys" / "context.md").write_text("x")) == errno.EACCES


def test_query_may_contain_slashes_and_files_keep_their_names(live: Live) -> None:
    search, query = live.at / "search", "keys / rotation"
    assert os.listdir(search / query) == os.listdir(search / "keys %2F rotation")
    assert json.loads((search / query / "results.jsonl").read_text().splitlines()[0])["question"] == "keys / rotation"
    link = next((search / query / "files").iterdir())
    assert link.resolve().is_file()
    assert (live.at / "knowledge/handbook/.search/keys/rotation/results.jsonl").exists()
    # Names that a file of the directory may have are never queries, and neither are names that programs probe for.
    for name in ("99 moved.md:3 Keys", "setup.py", "nothing.md", ".git", "Makefile", "files/rotation", "123"):
        assert code_of(lambda name=name: os.stat(search / "keys" / name)) == errno.ENOENT
    found = [path for folder, folders, files in os.walk(search / "keys") for path in (*folders, *files)]
    assert len(found) < 50, "a walk does not descend into longer queries"


def test_views_are_reachable_by_name_and_never_listed(live: Live) -> None:
    done = subprocess.run(["find", ".", "-name", ".search"], cwd=live.at, capture_output=True, text=True)
    assert done.stdout == ""
    assert (live.at / "knowledge" / "handbook" / ".search").is_dir()
    assert os.listdir(live.at / ".ctxfs")
    assert ".ctxfs" not in os.listdir(live.at)


def test_write_to_a_synthetic_file_is_visible_when_it_returns(live: Live) -> None:
    task = live.at / "context" / "written-through"
    task.mkdir()
    behind = live.store / "tree" / "context" / "written-through"
    with open(task / "notes.txt", "wb", buffering=0) as file:
        file.write(b"first")
        assert (behind / "notes.txt").read_bytes() == b"first"
        file.write(b" second")
        assert (behind / "notes.txt").read_bytes() == b"first second"
    large = os.urandom(3_000_000)
    (task / "large.bin").write_bytes(large)
    assert (task / "large.bin").read_bytes() == large
    with pytest.raises(OSError, match="too large"):
        (task / "huge.bin").write_bytes(bytes(17_000_000))
    assert (task / "huge.bin").stat().st_size <= 16_000_000
    (task / "huge.bin").unlink()
    assert subprocess.run(["rm", "-r", str(task)]).returncode == 0


def test_a_file_lives_as_long_as_one_of_its_names(pad: Path) -> None:
    first = pad / "first"
    first.write_text("one\n")
    (pad / "inner").mkdir()
    second, third = pad / "second", pad / "inner" / "third"
    os.link(first, second)
    assert second.read_text() == "one\n"
    second.unlink()
    assert first.read_text() == "one\n", "by the name that it had before"
    os.link(first, third)
    third.write_text("two\n")
    os.link(third, second)
    first.unlink()
    assert [second.read_text(), third.read_text()] == ["two\n", "two\n"]
    third.rename(pad / "fourth")
    second.unlink()
    assert (pad / "fourth").read_text() == "two\n"
    (pad / "fourth").unlink()
    assert not (pad / "fourth").exists()
    first.write_text("another\n")
    assert first.read_text() == "another\n"
