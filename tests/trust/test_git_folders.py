"""Test a repository inside a source: it reveals no denied content and accepts no file that runs as its owner."""

import os
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.index.extract.ignore import IgnoreRules
from ctxfs.model.path import Path as TreePath
from ctxfs.model.principal import Principal
from ctxfs.policy.evaluate import Policy, is_repository
from ctxfs.policy.rules import Verb, default_rules, parse_policy
from tests.live import Live, code_of

ALICE, ADA = Principal("agent", "alice"), Principal("human", "ada")
DENIED = '[[rule]]\nprincipal = "agent:alice"\npath = "{path}"\nverbs = "rwx"\neffect = "deny"\n'


def policy(text: str = "") -> Policy:
    rules, _ = parse_policy(tomllib.loads(text), "ctxfs.toml")
    return Policy((*default_rules(), *rules))


def exists(made: Policy, who: Principal, path: str) -> bool:
    return made.rights(who, TreePath.parse(path), 0).exists


@pytest.mark.parametrize("name", [".git", ".hg", ".svn", "mirror.git"])
@pytest.mark.parametrize("below", ["", "/config", "/objects/ab/cd"])
@pytest.mark.parametrize("place", ["knowledge/s", "knowledge/s/deep/er"])
def test_repository_of_a_source_exists_for_its_owner_alone(name: str, below: str, place: str) -> None:
    allowed = '[[rule]]\nprincipal = "agent:alice"\npath = "knowledge/s/**"\nverbs = "rwx"\n'
    for text in ("", allowed, DENIED.format(path="knowledge/s/secret/**")):
        made = policy(text)
        assert not exists(made, ALICE, f"{place}/{name}{below}")
        assert made.rights(ALICE, TreePath.parse(f"{place}/{name}{below}"), 0).verbs == Verb(0)
        assert not made.decide(ALICE, Verb.READ, TreePath.parse(f"{place}/{name}{below}"), 0).allowed
        assert exists(made, ALICE, f"{place}/note.md")
        assert exists(made, ADA, f"{place}/{name}{below}")


def test_source_that_is_a_repository_itself_is_shown() -> None:
    assert exists(policy(), ALICE, "knowledge/project.git/note.md")
    assert not exists(policy(), ALICE, "knowledge/project.git/.git")


def test_repository_of_an_agent_is_its_own_while_it_may_read_the_whole_folder() -> None:
    for path in ("pad/x/.git/config", "memory/alice/.git", "pad/x/deep/mirror.git/HEAD"):
        assert exists(policy(), ALICE, path)
    made = policy(DENIED.format(path="pad/x/secret/**"))
    assert not exists(made, ALICE, "pad/x/.git/config")
    assert exists(made, ALICE, "pad/x/other/.git/config")
    assert exists(made, ALICE, "pad/x/note.md")
    assert not exists(policy(), ALICE, "memory/bob/.git")


def test_names_that_only_look_like_one_are_no_repositories() -> None:
    assert not any(map(is_repository, (".gitignore", ".github", "git", ".gitattributes", b".gitmodules", "legit")))
    assert all(map(is_repository, (".git", b".git", "x.git", b"x.git")))


def test_nothing_of_a_repository_is_indexed(tmp_path: Path) -> None:
    for gitignore in (True, False):
        rules = IgnoreRules(str(tmp_path), (), gitignore=gitignore)
        for name in (".git", "mirror.git", ".hg", ".bzr"):
            assert rules.ignores(("deep", name), is_directory=True)
        assert not rules.ignores(("deep", "note.md"), is_directory=False)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """Yield a writable source that is a repository, mounted for its owner and for alice."""
    made = Live(tmp_path)
    source = tmp_path / "project"
    source.mkdir()
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    (source / ".git" / "config").write_text('[remote "origin"]\n\turl = https://me:hunter2@example.org/x\n')
    (source / "note.md").write_text("a note\n")
    made.run("init")
    made.run("add", str(source), "--name", "project", "--writable")
    with open(made.store / "ctxfs.toml", "a") as config:
        config.write('[[rule]]\nprincipal = "agent:alice"\npath = "knowledge/project/**"\nverbs = "rwx"\n')
    made.run("mount", str(made.at))
    made.run("mount", str(tmp_path / "mnt-alice"), "--as", "agent:alice")
    yield made
    made.close()


def test_mount_of_an_agent_neither_shows_nor_takes_a_repository(live: Live) -> None:
    mine, theirs = live.at / "knowledge" / "project", live.at.parent / "mnt-alice" / "knowledge" / "project"
    assert ".git" in os.listdir(mine)
    assert "hunter2" in (mine / ".git" / "config").read_text()
    assert os.listdir(theirs) == ["note.md"]
    for act in (
        lambda: os.stat(theirs / ".git"),
        lambda: (theirs / ".git" / "config").read_text(),
        lambda: (theirs / ".git" / "hooks" / "post-commit").write_text("#!/bin/sh\n"),
        lambda: os.mkdir(theirs / "other.git"),
    ):
        assert code_of(act)
    (theirs / "made").mkdir()
    assert code_of(lambda: os.mkdir(theirs / "made" / ".git"))
    assert code_of(lambda: os.rename(theirs / "note.md", theirs / "made" / ".git"))
    (live.at / "pad" / "work").mkdir()
    subprocess.run(["git", "init", "-q", str(live.at.parent / "mnt-alice" / "pad" / "work")], check=True)
