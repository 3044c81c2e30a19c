"""Test that skills are listed at three depths, for principals that may see them, and rejected with a reason."""

import hashlib
import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client as McpClient
from mcp.shared.exceptions import MCPError

from ctxfs.context.skills import parse_skill, skill_folders
from ctxfs.mcp_server.server import opened
from ctxfs.model.path import Path as TreePath
from ctxfs.store.layout import Layout
from tests.live import Live, eventually

SKILL = "---\nname: {name}\ndescription: {words}\nsince: 2026-01-01\n---\n\n# How\n\nRead more in refs/MORE.md.\n"


@pytest.fixture(scope="module")
def skilled(served: Live) -> Live:
    """Yield a store with a skill in a source, one in alice's memory, and an invalid one."""
    for folder, name, words in (
        (served.corpus / "skills" / "deploy", "deploy", "Ship a release"),
        (served.store / "tree" / "memory" / "alice" / "skills" / "notes", "notes", "Take notes"),
        (served.corpus / "team" / "skills" / "wrong", "other", "Named otherwise"),
    ):
        (folder / "refs").mkdir(parents=True)
        (folder / "SKILL.md").write_text(SKILL.format(name=name, words=words))
        (folder / "refs" / "MORE.md").write_text("more\n")
    eventually("they are indexed", lambda: "notes" in served.run("skills"))
    return served


def ask(live: Live, method: str, params: dict[str, Any], principal: str = "agent:alice") -> Any:
    async def call() -> Any:
        from mcp.types import Request, RequestParams, Result

        class Anything(Result, extra="allow"):
            pass

        class Params(RequestParams, extra="allow"):
            pass

        async with opened(Layout(live.store), principal=principal) as server, McpClient(server) as client:
            request = Request[Params, str](method=method, params=Params(**params))
            try:
                response = await client.session.send_request(request, Anything)  # type: ignore[arg-type]
            except MCPError as error:
                return error
            return response.model_dump(by_alias=True)

    answer = anyio.run(call, backend="trio")
    if isinstance(answer, MCPError):
        raise answer
    return answer


def test_skills_are_listed_with_their_files(skilled: Live) -> None:
    skills = {skill["uri"]: skill for skill in ask(skilled, "skills/list", {})["skills"]}
    assert set(skills) == {
        "skill://knowledge/handbook/skills/deploy/SKILL.md",
        "skill://memory/alice/skills/notes/SKILL.md",
    }
    deploy = skills["skill://knowledge/handbook/skills/deploy/SKILL.md"]
    assert deploy["frontmatter"] == {"name": "deploy", "description": "Ship a release", "since": "2026-01-01"}
    more = {file["uri"]: file for file in deploy["resources"]}["skill://knowledge/handbook/skills/deploy/refs/MORE.md"]
    assert more == {**more, "digest": f"sha256:{hashlib.sha256(b'more' + bytes([10])).hexdigest()}", "size": 5}
    assert ask(skilled, "skills/get", {"uri": deploy["uri"]})["skill"] == deploy
    inside = ask(skilled, "resources/directory/read", {"uri": "skill://knowledge/handbook/skills/deploy"})["resources"]
    assert [(entry["name"], entry["mimeType"]) for entry in inside] == [
        ("SKILL.md", "text/markdown"),
        ("refs", "inode/directory"),
    ]


def test_skill_in_the_memory_of_another_is_invisible(skilled: Live) -> None:
    uris = [skill["uri"] for skill in ask(skilled, "skills/list", {}, "agent:bob")["skills"]]
    assert uris == ["skill://knowledge/handbook/skills/deploy/SKILL.md"]
    for method in ("skills/get", "resources/read"):
        with pytest.raises(MCPError):
            ask(skilled, method, {"uri": "skill://memory/alice/skills/notes/SKILL.md"}, "agent:bob")


@pytest.mark.parametrize(
    "uri",
    [
        "skill://knowledge/handbook/rotation.md",
        "skill://knowledge/handbook/skills/deploy/../../../rotation.md",
        "skill://knowledge/handbook/skills/deploy/%2e%2e/%2e%2e/rotation.md",
        "skill://nothing/SKILL.md",
        "skill://",
    ],
)
def test_skill_address_opens_no_other_file(uri: str, skilled: Live) -> None:
    for method in ("skills/get", "resources/read", "resources/directory/read"):
        with pytest.raises(MCPError):
            ask(skilled, method, {"uri": uri})


def test_the_command_lists_prints_and_names_files(skilled: Live) -> None:
    done = skilled.try_run("skills")
    assert "deploy" in done.stdout and "Ship a release" in done.stdout
    assert "its name is 'other', its folder 'wrong'" in done.stderr
    assert skilled.run("skills", "deploy").startswith("---\nname: deploy\n")
    assert "refs/MORE.md" in skilled.run("skills", "deploy", "--files")
    assert json.loads(skilled.run("skills", "notes", "--json"))["files"][0][0] == "SKILL.md"
    assert skilled.try_run("skills", "nope").returncode == 3


@pytest.mark.parametrize("state", ["archived", "merged"])
def test_retired_skill_is_listed_on_request_only(state: str, skilled: Live) -> None:
    path = "memory/alice/skills/notes"
    skilled.run("state", f"{path}/SKILL.md", state)
    try:
        assert "notes" not in skilled.run("skills")
        assert skilled.try_run("skills", "notes").returncode == 3
        assert not [skill for skill in ask(skilled, "skills/list", {})["skills"] if "notes" in skill["uri"]]
        assert not [item for item in ask(skilled, "resources/list", {})["resources"] if "notes" in item["uri"]]
        assert "notes" in skilled.run("skills", "--all")
        (listed,) = (
            skill for skill in json.loads(skilled.run("skills", "--all", "--json")) if skill["name"] == "notes"
        )
        assert listed["state"] == state
        for name in (("notes", "--all"), (path,)):
            assert skilled.run("skills", *name).startswith("---\nname: notes\n")
        assert path in ask(skilled, "skills/get", {"uri": f"skill://{path}/SKILL.md"})["skill"]["uri"]
    finally:
        skilled.run("state", f"{path}/SKILL.md", "active")
    assert "notes" in skilled.run("skills")


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_skill_with_a_byte_order_mark_is_sound(mark: bytes, line_end: str) -> None:
    text = line_end.join(("---", "name: x", "description: >", "  Ship a", "  release", "---", "", "# How", ""))
    skill = parse_skill(TreePath.parse("knowledge/s/skills/x"), mark + text.encode())
    assert (skill.fault, skill.description.split()) == ("", ["Ship", "a", "release"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("# no front matter\n", "does not begin with YAML"),
        ("---\nname: x\n", "does not begin with YAML"),
        ("---\n- a\n---\n", "not a table"),
        ("---\nname: [\n---\n", "cannot be read"),
        ("---\nname: x\n---\n", "no description"),
        ("---\nname: Y\ndescription: d\n---\n", "small letters"),
        ("---\nname: y\ndescription: d\n---\n", "its folder 'x'"),
        ("---\na: &a [1]\nb: *a\nname: x\ndescription: d\n---\n", "alias"),
        ("---\nname: x\ndescription: " + "d" * 2000 + "\n---\n", "more than 1024"),
        ("---\nname: x\ndescription: d\nv: .nan\n---\n", "cannot be read"),
    ],
)
def test_invalid_skill_has_a_reason(words: str, why: str) -> None:
    assert why in parse_skill(TreePath.parse("knowledge/s/skills/x"), words.encode()).fault


def test_folder_inside_a_skill_is_no_other_skill() -> None:
    paths = ["knowledge/a/skills/x/SKILL.md", "knowledge/a/skills/x/skills/y/SKILL.md", "knowledge/b/skills/z/SKILL.md"]
    assert [str(path) for path in skill_folders(paths)] == ["knowledge/a/skills/x", "knowledge/b/skills/z"]


def test_a_link_out_of_a_skill_is_not_served(skilled: Live, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    link = skilled.corpus / "skills" / "deploy" / "refs" / "out.md"
    link.symlink_to(tmp_path / "secret")
    try:
        skill = ask(skilled, "skills/get", {"uri": "skill://knowledge/handbook/skills/deploy/SKILL.md"})["skill"]
        assert not [file for file in skill["resources"] if "out.md" in file["uri"]]
        with pytest.raises(MCPError):
            ask(skilled, "resources/read", {"uri": "skill://knowledge/handbook/skills/deploy/refs/out.md"})
    finally:
        link.unlink()
