"""Test that a hostile `.gitignore` costs bounded time, leads to no other file, and loses only its invalid lines."""

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from ctxfs.index.extract.gitignore import MAX_FILE_BYTES, MAX_LINES, parse_pattern_file
from ctxfs.index.extract.ignore import MAX_DEPTH, IgnoreRules, walk_files

SECONDS = float(os.environ.get("CTXFS_FUZZ_SECONDS", "2"))


def found(root: Path) -> set[str]:
    rules = IgnoreRules(str(root), (), gitignore=True)
    return {"/".join(parts) for parts, _ in walk_files(str(root), (), rules)} - {".gitignore"}


@pytest.mark.parametrize("kind", ["fifo", "socket-like device", "link out", "link to endless", "directory", "loop"])
def test_gitignore_that_is_no_regular_file_is_as_if_absent(tmp_path: Path, kind: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.write_text("*.md\n")
    file = root / ".gitignore"
    match kind:
        case "fifo":
            os.mkfifo(file)
        case "socket-like device":
            if os.getuid():
                pytest.skip("only root makes devices")
            os.mknod(file, 0o020666, os.makedev(1, 5))
        case "link out":
            file.symlink_to(outside)
        case "link to endless":
            file.symlink_to("/dev/zero")
        case "directory":
            file.mkdir()
        case _:
            file.symlink_to(".gitignore")
    (root / "a.md").write_text("a")
    assert "a.md" in found(root)


def test_folder_that_is_a_link_brings_no_patterns_from_outside(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / ".gitignore").write_text("*\n")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "sub").symlink_to("../outside")
    assert not IgnoreRules(str(tmp_path / "root"), (), gitignore=True).ignores_path(("sub", "a.md"))


@pytest.mark.parametrize("line", [".godot\\", "[", "a[b", "[[:nonsense:]]", "!", "/", "\\", "!\\", "**[", "[!", "//"])
def test_line_that_git_never_matches_leaves_the_others_standing(tmp_path: Path, line: str) -> None:
    (tmp_path / ".gitignore").write_text(f"*.log\n{line}\nbuild/\n")
    (tmp_path / "build").mkdir()
    for name in ("a.log", "build/x", "kept.md"):
        (tmp_path / name).write_text("x")
    assert found(tmp_path) == {"kept.md"}


def test_byte_order_mark_and_crlf_do_not_hide_a_line(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_bytes(b"\xef\xbb\xbf*.log\r\n[[:digit:]]x.md\r\n")
    for name in ("a.log", "1x.md", "kept.md"):
        (tmp_path / name).write_text("x")
    assert found(tmp_path) == {"kept.md"}


@pytest.mark.parametrize(
    "pattern", ["*a" * 490 + "b", "**/a/" * 199 + "b", "*a*b" * 240 + "c", "?*" * 499 + "b", "[a-z]*" * 160 + "0", "a**" * 330 + "b"]
)  # fmt: skip
def test_many_stars_are_matched_in_linear_time(pattern: str) -> None:
    patterns = parse_pattern_file("\n".join([pattern] * 50).encode())
    start = time.process_time()
    for path in (["a" * 255], ["a"] * 250, ["ab" * 127] * 16):
        patterns.decide(path, is_directory=False)
    assert time.process_time() - start < 1


def test_file_beyond_the_limits_counts_up_to_them() -> None:
    data = b"*.log\n" + b"x[ab]*y\n" * (MAX_LINES + 10) + b"*.md\n"
    start = time.process_time()
    patterns = parse_pattern_file(data)
    assert patterns.decide(["a.log"], is_directory=False)
    assert patterns.decide(["a.md"], is_directory=False) is None
    assert parse_pattern_file(b"*.log\n" + b"a" * 2 * MAX_FILE_BYTES).decide(["a.log"], is_directory=False)
    assert time.process_time() - start < 2


def test_deep_nesting_ends_at_a_depth(tmp_path: Path) -> None:
    deep = str(tmp_path)
    fd = os.open(deep, os.O_RDONLY)
    for _ in range(MAX_DEPTH + 50):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(os.open("f.md", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.close(os.open(".gitignore", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.close(fd)
        fd = below
    os.close(fd)
    start = time.process_time()
    rules = IgnoreRules(deep, (), gitignore=True)
    names = {parts[-1] for parts, _ in walk_files(deep, (), rules)}
    assert names == {"f.md", ".gitignore"}
    assert rules.ignores_path(("d",) * 1900 + ("f.md",))
    assert time.process_time() - start < 3


_SEGMENTS = [
    "a",
    "b",
    ".",
    "*",
    "?",
    "[ab]",
    "[!a]",
    "[a-b]",
    "[[:alpha:]]",
    "\\a",
    "**",
    "[^b.]",
    "[",
    "\\",
    "[]a]",
    "[[:x:]]",
]
_SEGMENTS += ["[[:digit:]]", "[[:upper:][:punct:]]", "[^[:space:]]", "[[:alnum:]-]", "[[:digit:", "#", "!", "é"]
_SEGMENTS += ["[-a]", "[b-a]", "[\\]a]", " ", "1", "[a/b]", "***", "\\/", "/"]
_NAMES = [
    "a",
    "b",
    "ab",
    "ba",
    "a.b",
    ".a",
    "abb",
    "aab",
    "-a",
    "[a]",
    "a b",
    "A",
    "1",
    "a\\",
    "#a",
    "!a",
    "#",
    "é",
    "a\t",
    " a",
]


def _random_line(chance: random.Random) -> str:
    names = [
        "*" * chance.choice([2, 2, 2, 3, 4])
        if chance.random() < 0.25
        else "".join(chance.choices(_SEGMENTS, k=chance.randint(1, 4)))
        for _ in range(chance.choice([1, 1, 2, 3]))
    ]
    start = chance.choice(["", "", "", "/", "!", "!", "#", "\\#", "\\!", "!/", "!!", "/**/", " "])
    return start + "/".join(names) + chance.choice(["", "", "", "/", "  ", "\\ ", "\r", "\t", "\\\\ ", "/  "])


@pytest.mark.parametrize(
    ("pattern", "path", "ignored"),
    [
        ("****/[\\]a]*[[:alpha:]]", "A/b/1/ab", True),
        ("***/b", "a/c/b", True),
        ("a/***", "a/c/b", True),
        (
            "/a**/b",
            "ax/y/b",
            True,
        ),  # the text before the first star is compared by itself, so the stars are a whole name
        ("/?a**/b", "xax/y/b", False),
        ("a/**\\/b", "a/b", False),
        ("a/**\\/b", "a/c/d/b", True),
        ("a/c**b", "a/c/b", False),
        ("**[a/b]**", "c/b", False),  # a slash in brackets makes it a pattern of paths, too
    ],
)
def test_stars_next_to_slashes_match_as_in_git(tmp_path: Path, pattern: str, path: str, ignored: bool) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text(pattern)
    done = subprocess.run(["git", "check-ignore", "--no-index", "-q", path], cwd=tmp_path)
    rules = IgnoreRules(str(tmp_path), (), gitignore=True)
    assert (done.returncode == 0, rules.ignores_path(tuple(path.split("/")))) == (ignored, ignored)


def test_random_patterns_ignore_the_same_files_as_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    chance = random.Random(int(os.environ.get("CTXFS_FUZZ_SEED", "7")))
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        lines = [_random_line(chance) for _ in range(chance.randint(1, 5))]
        (tmp_path / ".gitignore").write_bytes("\n".join(lines).encode())
        paths = sorted({tuple(chance.choices(_NAMES, k=chance.randint(1, 4))) for _ in range(40)})
        command = ["git", "-c", "core.ignorecase=false", "check-ignore", "--no-index", "-z", "--stdin"]
        asked = "\0".join("/".join(path) for path in paths).encode()
        done = subprocess.run(command, cwd=tmp_path, input=asked, capture_output=True)
        ignored = set(done.stdout.decode().split("\0"))
        rules = IgnoreRules(str(tmp_path), (), gitignore=True)
        for path in paths:
            assert rules.ignores_path(path) == ("/".join(path) in ignored), (lines, path)


def test_random_nested_files_ignore_the_same_files_as_git(tmp_path: Path) -> None:
    """Check .gitignore files at three depths, .git/info/exclude, and `!` below excluded folders."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    chance = random.Random(int(os.environ.get("CTXFS_FUZZ_SEED", "7")))
    files = (".git/info/exclude", ".gitignore", "a/.gitignore", "a/b/.gitignore")
    (tmp_path / "a" / "b").mkdir(parents=True)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        lines = {name: [_random_line(chance) for _ in range(chance.randint(0, 3))] for name in files}
        for name, content in lines.items():
            mark = chance.choice([b"", b"", b"\xef\xbb\xbf"])
            (tmp_path / name).write_bytes(mark + chance.choice(["\n", "\r\n"]).join(content).encode())
        paths = sorted(
            {
                (*chance.choice([(), ("a",), ("a", "b")]), *chance.choices(_NAMES, k=chance.randint(1, 2)))
                for _ in range(40)
            }
        )
        command = [
            "git",
            "-c",
            "core.ignorecase=false",
            "-c",
            "core.excludesFile=",
            "check-ignore",
            "--no-index",
            "-z",
            "--stdin",
        ]
        done = subprocess.run(
            command, cwd=tmp_path, input="\0".join(map("/".join, paths)).encode(), capture_output=True
        )
        ignored = set(done.stdout.decode().split("\0"))
        rules = IgnoreRules(str(tmp_path), (), gitignore=True)
        for path in paths:
            if not (tmp_path / "/".join(path)).is_dir():
                assert rules.ignores_path(path) == ("/".join(path) in ignored), (lines, path)


def test_exclude_file_of_a_repository_is_the_weakest(tmp_path: Path) -> None:
    (tmp_path / ".git" / "info").mkdir(parents=True)
    (tmp_path / ".git" / "info" / "exclude").write_text("*.log\nnotes/\n")
    (tmp_path / ".gitignore").write_text("!keep.log\n")
    (tmp_path / "notes").mkdir()
    for name in ("a.log", "keep.log", "a.md", "notes/x.md"):
        (tmp_path / name).write_text("x")
    assert found(tmp_path) == {"keep.log", "a.md"}


def test_exclude_file_behind_a_link_is_as_if_absent(tmp_path: Path) -> None:
    (tmp_path / "outside" / "info").mkdir(parents=True)
    (tmp_path / "outside" / "info" / "exclude").write_text("*.md\n")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".git").symlink_to("../outside")
    (tmp_path / "root" / "a.md").write_text("x")
    assert "a.md" in found(tmp_path / "root")
