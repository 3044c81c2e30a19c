"""Test that git starts in one module, without the caller's environment, configuration, hooks and templates."""

import ast
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.versions.objects.git import check_url, is_local
from ctxfs.versions.objects.git_process import remote_environment
from ctxfs.versions.recording.pathindex import ALL_COMMITS
from tests.versions.conftest import ALICE, BOB, Past

ROOT = Path(__file__).parents[2]
HOOKS = ("pre-receive", "update", "post-receive", "post-update", "reference-transaction", "pre-push", "post-checkout")


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Yield a program that leaves a mark when it is started, and check that it was not."""
    program, mark = tmp_path / "canary", tmp_path / "mark"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {mark}\nexit 0\n')
    program.chmod(0o755)
    yield program
    assert not mark.exists(), mark.read_text()


@pytest.fixture
def foreign(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's own repository, with a hostile configuration and the environment that git gives to hooks."""
    repo = tmp_path / "own"
    subprocess.run(["git", "init", "-q", "-b", "main", repo], check=True)
    home = tmp_path / "home"
    templates = home / "templates" / "hooks"
    templates.mkdir(parents=True)
    for name in HOOKS:
        (templates / name).symlink_to(canary)
    attributes = home / "attributes"
    attributes.write_text("* diff=evil merge=evil filter=evil\n")
    (home / ".gitconfig").write_text(
        f"[core]\nhooksPath = {templates}\nfsmonitor = {canary}\nattributesFile = {attributes}\npager = {canary}\n"
        f"[commit]\ngpgSign = true\n[push]\ngpgSign = true\n[gpg]\nprogram = {canary}\n[init]\ntemplateDir = {templates.parent}\n"
        f'[diff]\nexternal = {canary}\n[diff "evil"]\ncommand = {canary}\ntextconv = {canary}\n[merge "evil"]\ndriver = {canary}\n'
        f'[filter "evil"]\nclean = {canary}\nsmudge = {canary}\n[alias]\nx = !{canary}\n[uploadpack]\npackObjectsHook = {canary}\n'
        f"[credential]\nhelper = !{canary}\n[user]\nname = Ada\n"
    )
    variables = {
        "HOME": str(home),
        "GIT_DIR": str(repo / ".git"),
        "GIT_WORK_TREE": str(repo),
        "GIT_INDEX_FILE": str(repo / ".git" / "index"),
        "GIT_OBJECT_DIRECTORY": str(repo / ".git" / "objects"),
        "GIT_COMMON_DIR": str(repo / ".git"),
        "GIT_NAMESPACE": "other",
        "GIT_TEMPLATE_DIR": str(templates.parent),
        "GIT_EXTERNAL_DIFF": str(canary),
        "GIT_PAGER": str(canary),
        "GIT_PROXY_COMMAND": str(canary),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": str(templates),
        "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor'='{canary}'",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_CEILING_DIRECTORIES": "/",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return repo


def picture(repo: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(repo.rglob("*")) if file.is_file()}


def plain_git(*arguments: str | Path) -> str:
    """Run git as a person does, without the settings of the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(
        ["git", *map(str, arguments)], check=True, capture_output=True, text=True, env=environment
    ).stdout


def work_with(past: Past, remote: Path, other: Past) -> None:
    """Use every operation that starts git."""
    past.version("memory/a/x.md", "one\ntwo\nthree\n")
    past.version("memory/a/x.md", "one\ntwo\nthree, changed\n", BOB)
    past.move("memory/a/x.md", "memory/a/y.md")
    past.archive.commit()
    past.version("pad/t/secret.md", "secret")
    past.archive.snapshots.create("first")
    assert past.archive.reader.diff(
        "memory/a/y.md", past.archive.reader.log("memory/a/y.md", ALL_COMMITS, 9)[-1].commit.oid, "latest"
    )
    assert past.archive.reader.blame("memory/a/y.md", "latest")
    past.archive.rollbacks.undo("memory/a/y.md", ALICE)
    past.archive.erasure.erase("pad/t/secret.md", "", ALICE)
    past.archive.pack(full=True)
    for store in (past, other):
        store.archive.remotes.add("place", str(remote))
    past.archive.remotes.push("place")
    other.archive.remotes.pull("place", ALICE)
    path = next(str(file.relative_to(past.tree)) for file in (past.tree / "memory/a").iterdir())
    last = (past.tree / path).read_text().splitlines()[-1]
    past.version(path, f"ONE\ntwo\n{last}\n")
    other.version(path, "one\ntwo\nTHREE\n")
    past.archive.remotes.push("place")
    other.archive.remotes.pull("place", ALICE)
    assert (other.tree / path).read_text() == "ONE\ntwo\nTHREE\n"
    other.archive.remotes.push("place")


def test_foreign_repository_and_programs_of_the_user_stay_out_of_every_operation(foreign: Path, tmp_path: Path) -> None:
    before = picture(foreign)
    remote = tmp_path / "remote.git"
    plain_git("init", "-q", "--bare", "-b", "main", remote)
    past, other = Past(tmp_path / "one"), Past(tmp_path / "two")
    try:
        work_with(past, remote, other)
    finally:
        past.close()
        other.close()
    assert picture(foreign) == before
    assert not (past.layout.repo / "hooks").exists()
    assert plain_git("--git-dir", past.layout.repo, "fsck", "--full", "--no-dangling") == ""


def test_store_that_is_made_under_a_relative_git_dir_has_its_own_versions(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = picture(foreign)
    monkeypatch.chdir(foreign)
    monkeypatch.setenv("GIT_DIR", ".git")
    past = Past(tmp_path / "store")
    past.version("memory/shared/note.md", "text")
    past.close()
    past.reopen()
    assert past.subjects("memory/shared/note.md") == ["write memory/shared/note.md"]
    past.close()
    assert picture(foreign) == before


def test_every_start_of_git_has_an_environment_of_ours(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, programs = tmp_path / "starts", tmp_path / "bin"
    programs.mkdir()
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    wrapper = programs / "git"
    wrapper.write_text(f'#!/bin/sh\n(echo "== $*"; env) >> {log}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    remote = tmp_path / "remote.git"
    plain_git("init", "-q", "--bare", "-b", "main", remote)
    log.unlink()
    past, other = Past(tmp_path / "one"), Past(tmp_path / "two")
    try:
        work_with(past, remote, other)
    finally:
        past.close()
        other.close()
    starts = log.read_text().split("== ")[1:]
    assert len(starts) > 20
    for start in starts:
        arguments, *lines = start.splitlines()
        if arguments == "version" or arguments.startswith("config --"):
            continue  # GitPython's look-up of git, and the read of the user's configuration, of which some keys are chosen
        assert str(foreign) not in start, arguments
        assert "GIT_NAMESPACE" not in start and "GIT_EXTERNAL_DIFF" not in start, arguments
        if any(service in arguments for service in ("receive-pack", "upload-pack")) and "--git-dir" not in arguments:
            continue  # git itself starts it for a remote in a folder, and removes its configuration
        assert "GIT_CONFIG_GLOBAL=/dev/null" in lines and "GIT_CONFIG_NOSYSTEM=1" in lines, arguments


def test_hooks_and_configuration_of_a_local_remote_start_nothing(tmp_path: Path, canary: Path) -> None:
    remote, elsewhere = tmp_path / "remote.git", tmp_path / "elsewhere.git"
    for repo in (remote, elsewhere):
        plain_git("init", "-q", "--bare", "-b", "main", repo)
    for folder in (remote / "hooks", remote / "more"):
        folder.mkdir(exist_ok=True)
        for name in HOOKS:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(canary)
    (remote / "objects" / "info" / "alternates").write_text(f"{elsewhere}/objects\n")
    settings = {"core.hooksPath": remote / "more", "core.fsmonitor": canary, "core.alternateRefsCommand": canary}
    settings |= {"core.sshCommand": canary, "receive.denyCurrentBranch": "updateInstead", "gpg.program": canary}
    settings |= {"uploadpack.packObjectsHook": canary, "core.gitProxy": canary, "core.pager": canary}
    for key, value in settings.items():
        plain_git("--git-dir", remote, "config", key, value)
    past, other = Past(tmp_path / "one"), Past(tmp_path / "two")
    try:
        work_with(past, remote, other)
    finally:
        past.close()
        other.close()


def test_settings_that_others_put_into_the_repository_of_a_store_are_dropped(tmp_path: Path, canary: Path) -> None:
    past = Past(tmp_path / "store")
    past.version("memory/a/x.md", "one")
    past.archive.remotes.add("backup", 'ssh://ada@example.org/a "b"\\c.git')
    past.close()
    included = tmp_path / "included"
    included.write_text(f"[core]\nhooksPath = {tmp_path}\nfsmonitor = {canary}\n")
    (past.layout.repo / "hooks").mkdir()
    for name in HOOKS:
        (past.layout.repo / "hooks" / name).symlink_to(canary)
    for key, value in {
        "include.path": included,
        "core.hooksPath": past.layout.repo / "hooks",
        "diff.external": canary,
        "core.alternateRefsCommand": canary,
        "remote.backup.uploadpack": canary,
        "remote.backup.receivepack": canary,
        "remote.backup.vcs": "evil",
        "remote.backup.proxy": "evil",
    }.items():
        plain_git("--git-dir", past.layout.repo, "config", key, value)
    past.reopen()
    past.version("memory/a/x.md", "two")
    past.archive.rollbacks.undo("memory/a/x.md", ALICE)
    assert past.archive.remotes.urls() == {"backup": 'ssh://ada@example.org/a "b"\\c.git'}
    text = (past.layout.repo / "config").read_text()
    assert "canary" not in text and "include" not in text and "hooksPath" not in text
    past.close()


def test_addresses_that_are_options_or_programs_are_refused(past: Past) -> None:
    for url in (
        "-x",
        "--upload-pack=touch x",
        "ext::sh -c touch",
        "EXT::sh",
        "fd::17",
        "ssh://-oProxyCommand=touch/x",
        "ssh://ada@-oProxyCommand=touch/x",
        "ada@-oProxyCommand=x:path",
        "git+evil://host/x",
        "http::http://host/x",
        "ftp://host/x",
        "a\nb",
        "",
    ):
        with pytest.raises((OSError, CommandError)):
            past.archive.remotes.add("place", url)
    assert past.archive.remotes.urls() == {}
    for url in ("/srv/x.git", "../x", "ssh://h/x", "ada@host:x.git", "host:x", "https://h/x", "file:///x"):
        assert check_url(url) == url
    assert [is_local(url) for url in ("/x", "./a:b", "file:///x", "h:x", "ssh://h/x")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_address_in_an_old_store_is_checked_on_use(past: Past, canary: Path) -> None:
    plain_git("--git-dir", past.layout.repo, "config", "remote.old.url", f"ext::{canary} %S")
    with pytest.raises(CommandError, match="not the place"):
        past.archive.remotes.pull("old", ALICE)
    past.archive.remotes.remove("old")
    assert past.archive.remotes.urls() == {}


def test_remotes_are_given_the_keys_of_the_user_that_reach_them_and_no_other(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -v")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    environment = remote_environment()
    keys = {value for name, value in environment.items() if name.startswith("GIT_CONFIG_KEY_")}
    assert "credential.helper" in keys and all(key.startswith(("credential.", "http.", "safe.")) for key in keys)
    assert environment["GIT_SSH_COMMAND"] == "ssh -v" and environment["SSH_AUTH_SOCK"] == "/run/agent"
    assert "GIT_DIR" not in environment and environment["GIT_CONFIG_GLOBAL"] == os.devnull


def test_git_is_started_in_one_module() -> None:
    elsewhere = []
    for package in ("ctxfs", "mounts", "mcp_server"):
        for file in sorted((ROOT / package).rglob("*.py")):
            text = file.read_text()
            for node in ast.walk(ast.parse(text)) if '"git"' in text or "import git" in text else ():
                starts = isinstance(node, ast.List) and any(
                    isinstance(item, ast.Constant) and item.value in ("git", b"git") for item in node.elts
                )
                imports = isinstance(node, ast.Import) and any(name.name.split(".")[0] == "git" for name in node.names)
                if starts or imports:
                    elsewhere.append(str(file.relative_to(ROOT)))
    assert set(elsewhere) == {"ctxfs/versions/objects/git.py", "ctxfs/versions/objects/git_process.py"}
