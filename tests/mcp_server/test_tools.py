"""Test the MCP tools through a real client: results, and refusals that name a remedy and change nothing."""

import base64
import json
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from mcp.client import Client as McpClient
from mcp.types import TextContent

import ctxfs
from ctxfs.context.build.token_bound import upper_bound
from ctxfs.mcp_server.server import opened, own_tools
from ctxfs.mcp_server.tool_registry import ToolTable
from ctxfs.store.layout import Layout
from tests.live import Live, eventually, mcp_call

Ask = Callable[..., str]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))


@pytest.fixture
def ask(served: Live) -> Ask:
    """Call a tool as agent:alice; it must succeed."""

    def call(tool: str, **arguments: object) -> str:
        text, failed = mcp_call(served, tool, arguments, principal="agent:alice")
        assert not failed, text
        return text

    return call


@pytest.fixture
def refuse(served: Live) -> Ask:
    """Call a tool as agent:alice, which must fail, and return its error text."""

    def call(tool: str, **arguments: object) -> str:
        text, failed = mcp_call(served, tool, arguments, principal="agent:alice")
        assert failed, text
        return text

    return call


def revision(text: str) -> str:
    return text.rstrip("]\n").rpartition("revision ")[2].rstrip("]")


def test_the_tools_have_their_order_and_fit_into_their_tokens() -> None:
    tools = ToolTable(own_tools()).tools()
    names = (
        "ctx_list ctx_read ctx_write ctx_edit ctx_search ctx_move ctx_delete ctx_exec ctx_context ctx_history ctx_record "
        "ctx_promote ctx_correct memory"
    )
    assert [tool.name for tool in tools] == names.split()
    definitions = [tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in tools]
    assert upper_bound(json.dumps(definitions)) <= 3900
    reading = {tool.name for tool in tools if tool.annotations and tool.annotations.read_only_hint}
    assert reading == {"ctx_list", "ctx_read", "ctx_search"}
    # A client that validates would refuse the other names that the server understands.
    assert not any("additionalProperties" in json.dumps(tool.input_schema) for tool in tools)


def test_lists_are_recursive_and_paged(ask: Ask) -> None:
    assert "knowledge/" in ask("ctx_list").splitlines()
    assert "human/" not in ask("ctx_list")
    first = ask("ctx_list", path="knowledge", depth=5, limit=3).splitlines()
    assert len(first) == 4
    seen, more = first[:3], first[3]
    while more.startswith("[more: cursor="):
        page = ask(
            "ctx_list", path="knowledge", depth=5, limit=3, cursor=more.removeprefix("[more: cursor=")[:-1]
        ).splitlines()
        more = page[-1]
        seen += page[:3] if more.startswith("[more") else page
    assert seen == ask("ctx_list", path="knowledge", depth=5, limit=1000).splitlines()
    assert "handbook/inside-link@ -> rotation.md" in seen
    assert any(
        line.startswith("r-") and line.endswith("rotation.md")
        for line in ask("ctx_list", path="knowledge/handbook", detail=True).splitlines()
    )


def test_name_that_is_no_text_is_readable_by_its_listed_address(ask: Ask) -> None:
    (name,) = [line for line in ask("ctx_list", path="knowledge/handbook").splitlines() if "latin" in line]
    assert name == "ctx:///knowledge/handbook/latin-%E9.txt"
    assert "quokka" in ask("ctx_read", path=name)


def test_a_file_is_read_in_parts_by_lines_from_the_end_and_within_tokens(ask: Ask) -> None:
    ask("ctx_write", path="memory/alice/long.md", content="".join(f"line {n}\n" for n in range(1, 1001)))
    assert ask("ctx_read", path="memory/alice/long.md", offset=3, limit=2).startswith(
        "line 3\nline 4\n[lines 3-4 of 1000 lines, revision "
    )
    assert ask("ctx_read", path="memory/alice/long.md", tail=2).startswith("line 999\nline 1000\n[")
    text, offset, turns = "", 1, 0
    while True:
        part, _, last = ask("ctx_read", path="memory/alice/long.md", offset=offset, max_tokens=1000).rpartition("\n")
        text, turns = text + part + "\n", turns + 1
        if "continue: offset=" not in last:
            break
        offset = int(last.partition("offset=")[2].partition(";")[0])
    assert text == "".join(f"line {n}\n" for n in range(1, 1001))
    assert turns > 2
    ask("ctx_write", path="memory/alice/wide.txt", content="x" * 9000 + "y")
    first = ask("ctx_read", path="memory/alice/wide.txt", max_tokens=100)
    column = int(first.partition("column=")[2].partition(";")[0])
    assert first.startswith("x" * column + "\n")
    assert "the last without a line end" in ask("ctx_read", path="memory/alice/wide.txt", column=8990)


def test_many_paths_are_read_in_one_call_and_a_missing_one_affects_no_other(ask: Ask) -> None:
    text = ask("ctx_read", path=["knowledge/handbook/rotation.md", "nope.md", "knowledge/handbook/deploy.md"])
    assert "ninety days" in text
    assert "nope.md: No such file or directory" in text
    assert "pipeline" in text


def test_an_image_is_shown_and_other_bytes_are_linked_to(served: Live) -> None:
    (served.at / "pad" / "dot.png").write_bytes(PNG)
    (served.at / "pad" / "blob.bin").write_bytes(bytes(1000))

    async def call(path: str) -> list[object]:
        async with opened(Layout(served.store)) as server, McpClient(server) as client:
            return list((await client.call_tool("ctx_read", {"path": path})).content)

    (image,) = anyio.run(call, "pad/dot.png", backend="trio")
    assert base64.b64decode(image.data) == PNG
    told, link = anyio.run(call, "pad/blob.bin", backend="trio")
    assert "1000 bytes" in told.text
    assert (link.uri, link.size) == ("ctx:///pad/blob.bin", 1000)


def test_second_of_two_edits_of_one_version_returns_the_change(ask: Ask, refuse: Ask) -> None:
    old = revision(ask("ctx_write", path="memory/alice/shared.md", content="one\ntwo\nthree\n"))
    ask("ctx_history", mode="log", path="memory/alice")  # the file has a version now
    new = revision(ask("ctx_write", path="memory/alice/shared.md", content="one\n2\nthree\n", if_revision=old))
    for tool, more in (
        ("ctx_write", {"content": "mine\n"}),
        ("ctx_write", {"content": "mine\n", "mode": "append"}),
        ("ctx_edit", {"edits": [{"old": "three", "new": "3"}]}),
    ):
        error = refuse(tool, path="memory/alice/shared.md", if_revision=old, **more)
        assert "-two\n+2" in error
        assert f"it is {new} now, and nothing was written" in error
    assert "2\nthree" in ask("ctx_read", path="memory/alice/shared.md")
    assert "is there already" in refuse("ctx_write", path="memory/alice/shared.md", content="x", mode="create")


def test_concurrent_appends_lose_nothing(served: Live, ask: Ask) -> None:
    ask("ctx_write", path="pad/log.txt", content="")
    failed: list[str] = []

    def append(number: int) -> None:
        for turn in range(5):
            text, is_error = mcp_call(
                served, "ctx_write", {"path": "pad/log.txt", "content": f"{number}.{turn}\n", "mode": "append"}
            )
            failed.extend([text] if is_error else [])

    threads = [threading.Thread(target=append, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (served.at / "pad" / "log.txt").read_text().splitlines()
    assert len(lines) + len(failed) == 15
    assert len(set(lines)) == len(lines)
    assert all("others go on writing" in error for error in failed)


def test_edits_are_unique_exact_and_shown_before_they_are_made(ask: Ask, refuse: Ask) -> None:
    ask("ctx_write", path="memory/alice/e.md", content="alpha beta\nalpha gamma\n")
    assert "there 2 times, in lines 1, 2" in refuse(
        "ctx_edit", path="memory/alice/e.md", edits=[{"old": "alpha", "new": "x"}]
    )
    assert "nearest line is: alpha gamma" in refuse(
        "ctx_edit", path="memory/alice/e.md", edits=[{"old": "alpha gama", "new": "x"}]
    )
    dry = ask("ctx_edit", path="memory/alice/e.md", edits=[{"old": "beta", "new": "BETA"}], dry_run=True)
    assert "-alpha beta\n+alpha BETA" in dry
    two = [{"old": "beta", "new": "BETA"}, {"old": "nothing like it", "new": "x"}]
    assert "edit 2" in refuse("ctx_edit", path="memory/alice/e.md", edits=two)
    assert "alpha beta" in ask("ctx_read", path="memory/alice/e.md"), "half of the edits were made"
    ask("ctx_edit", path="memory/alice/e.md", edits=[{"old": "alpha", "new": "x", "all": True}])
    assert ask("ctx_read", path="memory/alice/e.md").startswith("x beta\nx gamma\n")


def test_files_are_found_by_meaning_by_lines_and_by_name(ask: Ask) -> None:
    answer = ask("ctx_search", query="how often are keys changed")
    assert answer.startswith("answer: ")
    assert "rotation.md:5-7\n## Rotating keys\n" in answer
    path, lines = next(line for line in answer.splitlines() if line.startswith("knowledge/")).split(":")
    first, last = map(int, lines.split("-"))
    assert ask("ctx_read", path=path, offset=first, limit=last - first + 1).splitlines()[0] in answer
    assert ask("ctx_search", kind="grep", query="pipe.?line").startswith("knowledge/handbook/deploy.md:3: ")
    assert ask("ctx_search", kind="glob", query="*.py") == "knowledge/handbook/src/retry.py"
    assert ask("ctx_search", kind="glob", query="*.zzz") == "nothing found"
    first = ask("ctx_search", query="keys", limit=1).splitlines()
    assert first[-1] == "[more: cursor=1]"
    assert ask("ctx_search", query="keys", limit=1, cursor="1").splitlines()[0] != first[1]


def test_context_has_a_handle_and_reports_new_pieces(ask: Ask, served: Live) -> None:
    text = ask("ctx_context", task="rotate the signing keys", budget=400)
    handle = text.partition("[handle: ")[2].partition(";")[0]
    assert "ninety days" in text
    assert ask("ctx_context", task="rotate the signing keys", budget=400).partition("[handle: ")[2].startswith(handle)
    assert json.loads(ask("ctx_context", handle=handle, mode="manifest"))["context"]["tokens"] <= 400
    assert ask("ctx_context", handle=handle, mode="next")
    assert "removed when unused" in ask("ctx_read", path=f"context/{handle}/request.toml").splitlines()[0]
    rotation = served.corpus / "rotation.md"
    before = rotation.read_text()
    try:
        rotation.write_text(before.replace("ninety", "sixty"))
        eventually("it is indexed", lambda: "sixty" in ask("ctx_search", query="rotate signing keys"))
        assert "sixty days" in ask("ctx_context", handle=handle, mode="delta")
    finally:
        rotation.write_text(before)
    ask("ctx_write", path=f"context/{handle}/response.md", content="Keys are rotated every ninety days.\n")
    assert "claims" in ask("ctx_read", path=f"context/{handle}/evaluation.json")


def test_versions_are_logged_shown_compared_and_restored_after_a_dry_run(ask: Ask) -> None:
    ask("ctx_write", path="memory/alice/fact/p.md", content="old\n")
    version = ask("ctx_history", mode="log", path="memory/alice/fact/p.md").split()[0]
    ask("ctx_write", path="memory/alice/fact/p.md", content="new\n")
    assert ask("ctx_history", mode="show", path="memory/alice/fact/p.md", at=version) == "old\n"
    assert "-old\n+new" in ask("ctx_history", mode="diff", path="memory/alice/fact/p.md", at=version)
    assert "would restore" in ask("ctx_history", mode="restore", path="memory/alice/fact/p.md", at=version)
    assert ask("ctx_read", path="memory/alice/fact/p.md").startswith("new\n")
    ask("ctx_history", mode="restore", path="memory/alice/fact/p.md", at=version, dry_run=False)
    assert ask("ctx_read", path="memory/alice/fact/p.md").startswith("old\n")
    ask("ctx_delete", path="memory/alice/fact", recursive=True)
    ask("ctx_history", mode="restore", path="memory/alice/fact", at=version, dry_run=False)
    assert ask("ctx_read", path="memory/alice/fact/p.md").startswith("old\n")


def test_move_replaces_only_on_request(ask: Ask, refuse: Ask) -> None:
    ask("ctx_write", path="pad/m/a.md", content="a\n")
    ask("ctx_write", path="pad/m/b.md", content="b\n")
    assert "set replace" in refuse("ctx_move", path="pad/m/a.md", to="pad/m/b.md")
    ask("ctx_move", path="pad/m/a.md", to="pad/n/deep/a.md")
    ask("ctx_move", path="pad/n/deep/a.md", to="pad/m/b.md", replace=True)
    assert ask("ctx_read", path="pad/m/b.md").startswith("a\n")
    assert "1 entries" in refuse("ctx_delete", path="pad/m")
    assert "cross" in refuse("ctx_move", path="pad/m/b.md", to="memory/alice/b.md").lower()


TRAVERSALS = (
    "../../etc/passwd",
    "memory/alice/../../bob/x",
    "memory/alice/..",
    "ctx:///memory/..%2F..%2Fetc/passwd",
    "ctx:///%2e%2e/etc/passwd",
    "ctx:///memory%2Fbob%2Fsecret.md",
    "file:///etc/passwd",
    "memory/alice/\0x",
    "memory/alice/\ud800",
    "/etc/passwd",
    "memory_backup/x",
    "memory/alicex/x",
    "x" * 5000,
    "memory/" + "y" * 300,
)


@pytest.mark.parametrize("path", TRAVERSALS, ids=range(len(TRAVERSALS)))
def test_no_path_leaves_the_tree(path: str, refuse: Ask, served: Live) -> None:
    for tool, more in (
        ("ctx_read", {}),
        ("ctx_write", {"content": "x"}),
        ("ctx_edit", {"edits": [{"old": "a", "new": "b"}]}),
        ("ctx_delete", {"recursive": True}),
        ("ctx_move", {"to": "memory/alice/stolen"}),
    ):
        error = refuse(tool, path=path, **more)
        assert error
        assert "internal error" not in error
        assert "root:" not in error
    assert not (served.store.parent / "etc").exists()


def test_link_never_leaves_the_tree(served: Live, refuse: Ask) -> None:
    link = served.store / "tree" / "memory" / "alice" / "out"
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(served.store.parent)
    assert "passwd" not in refuse("ctx_read", path="memory/alice/out/store/ctxfs.toml")
    refuse("ctx_write", path="memory/alice/out/x", content="x")
    assert not (served.store.parent / "x").exists()


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("ctx_read", {}, "'path' is a required property"),
        ("ctx_read", {"path": {"a": 1}}, "path"),
        ("ctx_read", {"path": []}, "path"),
        ("ctx_read", {"path": "AGENTS.md", "hue": 3}, "unknown argument 'hue'. Arguments: path, offset"),
        ("ctx_read", {"path": "AGENTS.md", "ofset": 3}, "unknown argument 'ofset': did you mean 'offset'?"),
        (
            "ctx_read",
            {"path": "AGENTS.md", "file_path": "x"},
            "'path' and 'file_path' are one argument, 'path', with two values",
        ),
        ("ctx_read", {"path": "AGENTS.md", "offset": 0}, "offset"),
        ("ctx_read", {"path": "AGENTS.md", "offset": 10**6}, "the file has"),
        ("ctx_list", {"depth": "deep"}, "depth"),
        ("ctx_search", {"query": ""}, "query"),
        ("ctx_search", {"query": "(", "kind": "grep"}, "not a regular expression"),
        ("ctx_search", {"query": "x", "cursor": "-1"}, "cursor"),
        ("ctx_context", {}, "give a query"),
        ("ctx_context", {"task": "x", "options": {"colour": 1}}, "unknown key 'colour'"),
        ("ctx_context", {"handle": "../x"}, "a handle is made of"),
        ("ctx_write", {"path": "memory/alice/s.md", "content": "half \ud83d"}, "half of a character"),
        ("ctx_write", {"path": "knowledge/handbook/new.md", "content": "x"}, ""),
        ("ctx_write", {"path": "memory/bob/new.md", "content": "x"}, ""),
        ("ctx_write", {"path": "memory/alice/s.md", "content": "x", "if_revision": "latest"}, "not a revision"),
        ("ctx_history", {"mode": "restore", "path": "memory/alice"}, "needs 'at'"),
        ("ctx_history", {"mode": "log", "path": "knowledge"}, ""),
        ("ctx_record", {"text": "x", "kind": "shout"}, "kind"),
        ("memory", {"command": "format"}, "command"),
        ("memory", {"command": "view"}, "path missing"),
    ],
)
def test_invalid_arguments_are_refused_with_the_remedy(
    tool: str, arguments: dict[str, object], said: str, refuse: Ask
) -> None:
    text = refuse(tool, **arguments)
    assert said in text
    assert "internal error" not in text


def test_twenty_megabytes_go_in_and_out(ask: Ask, served: Live) -> None:
    line = "0123456789abcdef" * 64
    content = "\n".join(f"{n:06d} {line}" for n in range(19_600)) + "\n"
    assert len(content) > 20_000_000
    ask("ctx_write", path="pad/large.txt", content=content)
    assert (Path(served.at) / "pad" / "large.txt").read_text() == content
    assert ask("ctx_read", path="pad/large.txt", offset=19_600).startswith("019599 0123")


def test_an_unknown_tool_is_an_error_of_the_protocol_and_the_server_lives(served: Live) -> None:
    async def call() -> str:
        async with opened(Layout(served.store)) as server, McpClient(server) as client:
            with pytest.raises(Exception, match="Unknown tool"):
                await client.call_tool("ctx_nothing", {})
            part = (await client.call_tool("ctx_list", {})).content[0]
            assert isinstance(part, TextContent)
            return part.text

    assert "memory/" in anyio.run(call, backend="trio")


def test_edit_with_lf_keeps_the_line_ends_of_a_file_with_crlf(served: Live, ask: Ask) -> None:
    file = served.store / "tree" / "memory" / "alice" / "crlf.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"one\r\ntwo\r\nthree\r\n")
    ask("ctx_edit", path="memory/alice/crlf.md", edits=[{"old": "one\ntwo", "new": "1\n1.5\n2"}])
    assert file.read_bytes() == b"1\r\n1.5\r\n2\r\nthree\r\n"
    ask("ctx_edit", path="memory/alice/crlf.md", edits=[{"old": "three", "new": "3\n4"}])
    assert file.read_bytes() == b"1\r\n1.5\r\n2\r\n3\r\n4\r\n"
    file.write_bytes(b"one\ntwo\n")
    ask("ctx_edit", path="memory/alice/crlf.md", edits=[{"old": "one\r\ntwo", "new": "1\r\n2"}])
    assert file.read_bytes() == b"1\n2\n"


def test_path_of_a_mount_point_is_the_same_file(served: Live, ask: Ask, refuse: Ask) -> None:
    ask("ctx_write", path=f"{served.at}/memory/alice/by-mount.md", content="through the mount's path\n")
    assert ask("ctx_read", path="memory/alice/by-mount.md").startswith("through the mount's path")
    at = served.at.parent / "mnt-alice"
    assert ask("ctx_read", file_path=f"{at}/memory/alice/by-mount.md").startswith("through the mount's path")
    assert "through" in ask("ctx_read", path=[f"{at}/memory/alice/by-mount.md", "/memory/alice/by-mount.md"])
    assert "memory/alice/by-mount.md" in ask("ctx_search", query="**/by-*", mode="glob", below=f"{at}/memory")
    assert "memory/" in ask("ctx_list", path=str(at))
    for path in (
        f"{at}/../store/ctxfs.toml",
        f"{at}-other/memory/alice/by-mount.md",
        f"{at.parent}/memory/alice/by-mount.md",
    ):
        refuse("ctx_read", path=path)


def test_missing_file_is_answered_with_the_nearest_names(served: Live, ask: Ask, refuse: Ask) -> None:
    ask("ctx_write", path="memory/alice/fact/colour.md", content="blue\n")
    assert "Did you mean memory/alice/fact/colour.md?" in refuse("ctx_read", path="memory/alice/fact/color.md")
    assert "Did you mean memory/alice/fact/colour.md?" in refuse("ctx_read", path="memory/alice/facts/colour.md")
    assert "Did you mean memory?" in refuse("ctx_list", path="memmory")
    assert "List the directory" in refuse("ctx_read", path="memory/alice/fact/qqqqqqqq")
    done = served.try_run("cat", "memory/alice/fact/color.md")
    assert "did you mean 'memory/alice/fact/colour.md'?" in done.stderr
    assert "did you mean 'memory/alice/fact'?" in served.try_run("ls", "memory/alice/fcat").stderr
    with ctxfs.open(served.store) as store, pytest.raises(FileNotFoundError) as raised:
        store.read("memory/alice/fact/color.md")
    assert "did you mean 'memory/alice/fact/colour.md'?" in raised.value.__notes__


def test_name_that_the_caller_may_not_see_is_never_suggested(served: Live, refuse: Ask) -> None:
    (served.at / "memory" / "bob" / "fact").mkdir(parents=True, exist_ok=True)
    (served.at / "memory" / "bob" / "fact" / "sesame.md").write_text("open\n")
    for path in ("memory/bob/fact/sesam.md", "memory/bop", "memory/bop/fact/sesame.md"):
        text = refuse("ctx_read", path=path)
        assert "sesame" not in text.replace(path, "")
        assert "bob" not in text.replace(path, "")
