"""Test the memory tool: same responses as Claude's published implementation, which also runs on a mount."""

import re
from pathlib import Path
from typing import Any

import pytest
from anthropic.lib.tools._beta_functions import ToolError
from anthropic.tools.memory import BetaLocalFilesystemMemoryTool

from tests.live import Live, mcp_call

# Each command with its arguments; later commands depend on earlier ones.
COMMANDS: list[dict[str, Any]] = [
    {"command": "view", "path": "/memories"},
    {"command": "create", "path": "/memories/notes.md", "file_text": "one\ntwo\nthree two\nfour\nfive\nsix\n"},
    {"command": "create", "path": "/memories/notes.md", "file_text": "again"},
    {"command": "create", "path": "/memories/deep/er/x.txt", "file_text": "no line end"},
    {"command": "create", "path": "/memories/.hidden", "file_text": "h"},
    {"command": "create", "path": "/memories/empty", "file_text": ""},
    {"command": "create", "path": "/memories/large.txt", "file_text": "x" * 1536},
    {"command": "view", "path": "/memories"},
    {"command": "view", "path": "/memories/"},
    {"command": "view", "path": "/memories/deep"},
    {"command": "view", "path": "/memories/notes.md"},
    {"command": "view", "path": "/memories/notes.md", "view_range": [2, 3]},
    {"command": "view", "path": "/memories/notes.md", "view_range": [4, -1]},
    {"command": "view", "path": "/memories/notes.md", "view_range": [0, 100]},
    {"command": "view", "path": "/memories/empty"},
    {"command": "view", "path": "/memories/nothing"},
    {"command": "str_replace", "path": "/memories/notes.md", "old_str": "one", "new_str": "ONE"},
    {"command": "str_replace", "path": "/memories/notes.md", "old_str": "two", "new_str": "2"},
    {"command": "str_replace", "path": "/memories/notes.md", "old_str": "absent", "new_str": "2"},
    {"command": "str_replace", "path": "/memories/notes.md", "old_str": "four\nfive", "new_str": "4\n4.5\n5"},
    {"command": "str_replace", "path": "/memories/nothing", "old_str": "a", "new_str": "b"},
    {"command": "str_replace", "path": "/memories/deep", "old_str": "a", "new_str": "b"},
    {"command": "insert", "path": "/memories/notes.md", "insert_line": 0, "insert_text": "first\n"},
    {"command": "insert", "path": "/memories/notes.md", "insert_line": 3, "insert_text": "middle"},
    {"command": "insert", "path": "/memories/notes.md", "insert_line": 99, "insert_text": "far"},
    {"command": "insert", "path": "/memories/notes.md", "insert_line": -1, "insert_text": "before"},
    {"command": "insert", "path": "/memories/deep/er/x.txt", "insert_line": 1, "insert_text": "second"},
    {"command": "insert", "path": "/memories/empty", "insert_line": 0, "insert_text": "something"},
    {"command": "insert", "path": "/memories/nothing", "insert_line": 0, "insert_text": "x"},
    {"command": "view", "path": "/memories/notes.md"},
    {"command": "view", "path": "/memories/deep/er/x.txt"},
    {"command": "rename", "old_path": "/memories/notes.md", "new_path": "/memories/deep/er/notes.md"},
    {"command": "rename", "old_path": "/memories/deep", "new_path": "/memories/other/place"},
    {"command": "rename", "old_path": "/memories/large.txt", "new_path": "/memories/empty"},
    {"command": "rename", "old_path": "/memories/nothing", "new_path": "/memories/something"},
    {"command": "rename", "old_path": "/memories", "new_path": "/memories/x"},
    {"command": "view", "path": "/memories"},
    {"command": "delete", "path": "/memories/other"},
    {"command": "delete", "path": "/memories/other"},
    {"command": "delete", "path": "/memories/large.txt"},
    {"command": "delete", "path": "/memories"},
    {"command": "view", "path": "/etc/passwd"},
    {"command": "view", "path": "/memories/../bob"},
    {"command": "create", "path": "/memories/../../stolen", "file_text": "x"},
    {"command": "delete", "path": "/memories/.hidden"},
    {"command": "view", "path": "/memories"},
]


def theirs(tool: BetaLocalFilesystemMemoryTool, arguments: dict[str, Any]) -> str:
    try:
        response = str(tool.call(arguments))
    except ToolError as error:
        response = str(error)
    return response


def compared(text: str) -> str:
    """Remove the sizes of directories, which depend on the file system."""
    return re.sub(r"^[\d.]+[BKMG]\t(\S*/|/memories(?:/deep)?)$", r"DIR\t\1", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> BetaLocalFilesystemMemoryTool:
    return BetaLocalFilesystemMemoryTool(str(tmp_path_factory.mktemp("memory")))


def test_every_command_responds_as_the_published_implementation(
    served: Live, reference: BetaLocalFilesystemMemoryTool
) -> None:
    for arguments in COMMANDS:
        wanted = theirs(reference, arguments)
        response, _ = mcp_call(served, "memory", arguments, principal="agent:claude")
        assert compared(response) == compared(wanted), arguments


def test_edits_with_lf_keep_the_line_ends_of_a_file_with_crlf(served: Live) -> None:
    def memory(**arguments: object) -> tuple[str, bool]:
        return mcp_call(served, "memory", {"path": "/memories/crlf.md", **arguments}, principal="agent:claude")

    memory(command="create", file_text="one\r\ntwo\r\n")
    memory(command="str_replace", old_str="one\ntwo", new_str="1\n2")
    memory(command="insert", insert_line=1, insert_text="between\nlines\n")
    file = served.store / "tree" / "memory" / "claude" / "crlf.md"
    assert file.read_bytes() == b"1\r\nbetween\r\nlines\r\n2\r\n"
    file.unlink()


def test_empty_text_is_not_searched(served: Live) -> None:
    arguments = {"command": "str_replace", "path": "/memories/notes.md", "old_str": "", "new_str": "x"}
    response, _ = mcp_call(served, "memory", arguments, principal="agent:claude")
    assert "old_str is empty" in response


@pytest.mark.fuse
def test_the_published_implementation_works_on_a_mount_as_on_a_disk(served: Live, tmp_path: Path) -> None:
    at = served.at.parent / "mnt-alice" / "memory" / "alice"
    at.mkdir(exist_ok=True)
    mounted, on_disk = BetaLocalFilesystemMemoryTool(str(at)), BetaLocalFilesystemMemoryTool(str(tmp_path))
    for arguments in COMMANDS:
        assert compared(theirs(mounted, arguments)) == compared(theirs(on_disk, arguments)), arguments
    left, wanted = (
        [str(file.relative_to(root)) for file in sorted((root / "memories").rglob("*"))] for root in (at, tmp_path)
    )
    assert left == wanted


def test_a_path_that_only_begins_like_the_directory_is_not_in_it(served: Live) -> None:
    for path in ("/memories_backup/x", "/memories\0", "memories/x", "/", "/memories/%2e%2e/../../bob"):
        response, failed = mcp_call(
            served, "memory", {"command": "create", "path": path, "file_text": "x"}, principal="agent:claude"
        )
        assert failed, response
