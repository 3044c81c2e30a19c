"""Test that the tool `git` reads a hostile repository, and runs, follows or trusts nothing in it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

GIT = Path(__file__).parent.parent.parent / "tools" / "git" / "run.py"
WHO = ["-c", "user.name=Ada", "-c", "user.email=a@b"]


def ask(repo: Path, command: str = "show", **arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run the tool by itself, in the environment of a hostile caller."""
    request = json.dumps({"command": command, "repo": str(repo), **arguments})
    environment = {
        **os.environ,
        "GIT_DIR": "/nonexistent",
        "GIT_EXTERNAL_DIFF": "false",
        "GIT_OBJECT_DIRECTORY": "/nonexistent",
    }
    words = [sys.executable, "-I", GIT]
    return subprocess.run(words, input=request, env=environment, capture_output=True, text=True, timeout=60)


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *WHO, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, text: str) -> None:
    (folder / "f.md").write_text(f"{text}\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", f"Say {text}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with two commits."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for text in ("one", "two"):
        commit(folder, text)
    return folder


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """Return a repository outside all paths that the tool receives."""
    folder = tmp_path / "private"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "the secret")
    return folder


def write_object(git_folder: Path, kind: str, body: bytes) -> str:
    """Write a loose object without git and return its name."""
    data = f"{kind} {len(body)}\0".encode() + body
    name = hashlib.sha1(data).hexdigest()
    file = git_folder / "objects" / name[:2] / name[2:]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(zlib.compress(data))
    return name


def is_refused(done: subprocess.CompletedProcess[str]) -> bool:
    output = done.stdout + done.stderr
    return done.returncode == 1 and done.stdout == "" and "Traceback" not in output and "secret" not in output


def test_configuration_of_a_repository_runs_nothing(repository: Path, tmp_path: Path) -> None:
    touched, program = tmp_path / "touched", tmp_path / "hostile" / "p.sh"
    program.write_text(f"#!/bin/sh\ntouch {touched}\ncat >/dev/null\n")
    program.chmod(0o755)
    tree = git(repository, "rev-parse", "HEAD^{tree}")
    signed = (
        f"tree {tree}\nauthor a <a@b> 1700000000 +0000\ncommitter a <a@b> 1700000000 +0000\n"
        "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\nsigned\n"
    )
    head = write_object(repository / ".git", "commit", signed.encode())
    (repository / ".git" / "refs" / "heads" / "main").write_text(f"{head}\n")
    run = str(program)
    (repository / ".git" / "config").write_text(
        f"[core]\n\trepositoryformatversion = 0\n\tfsmonitor = {run}\n\tpager = {run}\n\tsshCommand = {run}\n"
        f"\thooksPath = {repository}\n"
        f'[format]\n\tpretty = "format:%H %G? %GG"\n[gpg]\n\tprogram = {run}\n[gpg "ssh"]\n\tprogram = {run}\n'
        f'[diff]\n\texternal = {run}\n[diff "evil"]\n\ttextconv = {run}\n\tcommand = {run}\n[filter "evil"]\n\tsmudge = {run}\n'
        f"[log]\n\tshowSignature = true\n[alias]\n\tlog = !{run}\n\tshow = !{run}\n[include]\n\tpath = {tmp_path}/more\n"
        f"[pager]\n\tlog = {run}\n[uploadpack]\n\tpackObjectsHook = {run}\n"
    )
    (tmp_path / "more").write_text(f"[core]\n\tpager = {run}\n")
    for file in (repository / ".gitattributes", repository / ".git" / "info" / "attributes"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("* diff=evil filter=evil\n")
    for command in ("log", "show", "diff"):
        done = ask(repository, command, **({"rev": "HEAD"} if command != "diff" else {"rev": f"{head}..{head}"}))
        assert done.returncode == 0, done.stderr
    assert "signed" in ask(repository, "show").stdout
    assert not touched.exists()


@pytest.mark.parametrize(
    "way", ["commondir", "alternates", "http alternates", "git link", "git file", "objects link", "empty"]
)
def test_repository_leads_to_no_other(way: str, repository: Path, private: Path) -> None:
    git_folder, theirs = repository / ".git", private / ".git"
    secret = git(private, "rev-parse", "HEAD")
    (git_folder / "refs" / "heads" / "main").write_text(f"{secret}\n")
    match way:
        case "commondir":
            (git_folder / "commondir").write_text(f"{theirs}\n")
        case "alternates":
            (git_folder / "objects" / "info" / "alternates").write_text(f"{theirs}/objects\n")
        case "http alternates":
            (git_folder / "objects" / "info" / "http-alternates").write_text(f"{theirs}/objects\n")
        case "git link":
            os.rename(git_folder, repository / "x")
            git_folder.symlink_to(theirs)
        case "git file":
            os.rename(git_folder, repository / "x")
            git_folder.write_text(f"gitdir: {theirs}\n")
        case "objects link":
            os.rename(git_folder / "objects", repository / "x")
            (git_folder / "objects").symlink_to(theirs / "objects")
        case "empty":
            os.rename(git_folder, repository / "x")
            git_folder.mkdir()
            for name in ("HEAD", "commondir"):
                (git_folder / name).write_text({"HEAD": "ref: refs/heads/main\n", "commondir": f"{theirs}\n"}[name])
    for command in ("log", "show", "diff"):
        assert is_refused(ask(repository, command)), (way, command)


def test_linked_files_and_folders_of_objects_are_not_followed(repository: Path, private: Path) -> None:
    objects, theirs = repository / ".git" / "objects", private / ".git" / "objects"
    secret = git(private, "rev-parse", "HEAD")
    (repository / ".git" / "refs" / "heads" / "main").write_text(f"{secret}\n")
    shutil.rmtree(objects / secret[:2], ignore_errors=True)  # a random object may have the same first byte
    (objects / secret[:2]).symlink_to(theirs / secret[:2])
    assert is_refused(ask(repository))
    (objects / secret[:2]).unlink()
    (objects / secret[:2]).mkdir()
    (objects / secret[:2] / secret[2:]).symlink_to(theirs / secret[:2] / secret[2:])
    assert is_refused(ask(repository))
    (objects / secret[:2] / secret[2:]).unlink()
    git(private, "gc", "-q")
    for pack in (theirs / "pack").glob("pack-*"):
        (objects / "pack" / pack.name).symlink_to(pack)
    assert is_refused(ask(repository))
    for pack in (objects / "pack").iterdir():
        pack.unlink()
    (objects / "pack").rmdir()
    (objects / "pack").symlink_to(theirs / "pack")
    assert is_refused(ask(repository))


def test_fifos_and_devices_block_no_process(repository: Path) -> None:
    git_folder = repository / ".git"
    for name in ("packed-refs", "shallow", "refs/heads/odd", "objects/info/x"):
        os.mkfifo(git_folder / name)
    assert is_refused(ask(repository))
    for name in ("packed-refs", "shallow"):
        (git_folder / name).unlink()
    assert ask(repository).returncode == 0
    (git_folder / "HEAD").unlink()
    os.mkfifo(git_folder / "HEAD")
    assert is_refused(ask(repository))


@pytest.mark.parametrize(
    "head",
    [
        "ref: ../../private/.git/HEAD",
        "ref: refs/heads/../../../x",
        "ref: /etc/hostname",
        "ref: refs/heads/-x",
        "x",
        "",
        "ref: HEAD",
        "0" * 40,
    ],
)
def test_head_names_a_branch_of_its_own(head: str, repository: Path, private: Path) -> None:
    (repository / ".git" / "HEAD").write_text(f"{head}\n")
    assert is_refused(ask(repository))


def test_odd_names_of_refs_are_left_out(repository: Path) -> None:
    commit_name = git(repository, "rev-parse", "HEAD")
    odd = [
        "refs/heads/--output=x",
        "refs/heads/a b",
        "refs/../x",
        "refs/heads/a..b",
        "refs/heads/\x1b[31m",
        "HEAD",
        "refs/replace/x",
    ]
    (repository / ".git" / "packed-refs").write_text(
        "".join(f"{commit_name} {name}\n" for name in [*odd, "refs/heads/good", "refs/heads/" + "x" * 5000])
        + "^zzz\nnonsense\n\0\n"
    )
    assert ask(repository, "log", rev="good").returncode == 0
    for rev in ("--output=x", "a..b", "-x", "@{-1}", "HEAD^{/Say}", ":/Say", "HEAD:f.md", "x\0y", "good --all"):
        assert ask(repository, "show", rev=rev).returncode == 1, rev
    assert not (repository / "x").exists()


def test_replacements_grafts_and_false_shallow_marks_change_nothing(repository: Path) -> None:
    commit(repository, "three")
    first, second, third = (git(repository, "rev-parse", f"HEAD~{back}") for back in (2, 1, 0))
    git(repository, "replace", second, first)
    (repository / ".git" / "info" / "grafts").write_text(f"{third}\n")
    (repository / ".git" / "shallow").write_text(f"{third}\n")
    (repository / ".mailmap").write_text("Mallory <m@x> <a@b>\n")
    log = ask(repository, "log").stdout
    assert [text in log for text in ("Say three", "Say two", "Say one")] == [True] * 3
    assert "Mallory" not in log + ask(repository).stdout


def test_clone_that_is_shallow_is_shown_to_where_it_ends(repository: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{repository}", str(tmp_path / "clone")], check=True)
    done = ask(tmp_path / "clone", "log")
    assert "Say two" in done.stdout, done.stderr
    assert "Say one" not in done.stdout


def test_packed_repository_and_its_folders_are_read(repository: Path) -> None:
    (repository / "docs").mkdir()
    (repository / "docs" / "a.md").write_text("a\n")
    commit(repository, "three")
    git(repository, "tag", "v1")
    git(repository, "gc", "-q")
    assert "Say two" in ask(repository, "log").stdout
    shown = ask(repository / "docs", "show", rev="v1").stdout
    assert "a.md" in shown
    assert "f.md" not in shown
    assert "Say one" not in ask(repository / "docs", "log").stdout
    assert "-one" in ask(repository, "diff", rev="v1~2..v1").stdout
    assert is_refused(ask(repository / "docs", "show", path="../f.md"))


def test_object_that_unpacks_to_much_is_an_error_sentence(repository: Path) -> None:
    git_folder = repository / ".git"
    packer = zlib.compressobj(9)
    size = 300_000_000
    data = packer.compress(f"commit {size}\0".encode())
    for _ in range(size // 10_000_000):
        data += packer.compress(b"\n" * 10_000_000)
    data += packer.flush()
    (git_folder / "objects" / "ab").mkdir(exist_ok=True)
    (git_folder / "objects" / "ab" / ("c" * 38)).write_bytes(data)
    (git_folder / "refs" / "heads" / "main").write_text("ab" + "c" * 38 + "\n")
    assert is_refused(ask(repository))


def test_search_for_a_repository_ends_at_the_ceiling(repository: Path) -> None:
    (repository / "deep" / "er").mkdir(parents=True)
    words = [sys.executable, "-I", str(GIT)]
    request = json.dumps({"command": "log", "repo": str(repository / "deep" / "er")})
    done = subprocess.run(
        words,
        input=request,
        env={**os.environ, "CTXFS_CEILING": str(repository / "deep")},
        capture_output=True,
        text=True,
    )
    assert "no repository" in done.stderr
