"""A memory that contradicts or repeats another: remarked at the write."""

import contextlib
from collections.abc import Iterator

import pytest

from ctxfs.rpc.client import Client
from tests.live import Live, mcp_call

FACT = "memory/alice/fact"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with facts of alice and of bob."""
    live = Live(tmp_path_factory.mktemp("relations"))
    live.run("init")
    live.run("mount", str(live.at))
    write(live, f"{FACT}/tokens.md", "# Access\n\nThe gateway is slow.\nAccess tokens expire after 90 days.\n")
    write(live, f"{FACT}/limits.md", "upload limit: 30 MB\n")
    write(live, "memory/bob/fact/key.md", "The vault combination is 4711.\n", agent="bob")
    live.wait_idle()
    yield live
    live.close()


def write(live: Live, path: str, content: str, agent: str = "alice") -> str:
    """Write as an agent and return the response of ctx_write."""
    text, failed = mcp_call(live, "ctx_write", {"path": path, "content": content}, principal=f"agent:{agent}")
    assert not failed, text
    return text


def test_write_names_the_memory_that_it_contradicts(served: Live) -> None:
    response = write(served, f"{FACT}/new.md", "Access tokens expire after 30 days.\n")
    assert f"warning: line 1 contradicts {FACT}/tokens.md:4: '30 days' here, '90 days' there" in response
    response = write(served, f"{FACT}/other.md", "- upload limit: 45 MB\n")
    assert f"contradicts {FACT}/limits.md:1: '45 MB' here, '30 MB' there" in response
    assert (served.at / FACT / "other.md").read_text() == "- upload limit: 45 MB\n"


def test_write_names_the_memory_that_knows_it_already(served: Live) -> None:
    response = write(served, f"{FACT}/again.md", "Note that access tokens expire after ninety days.\n")
    assert f"line 1: already known at {FACT}/tokens.md:4" in response


def test_edit_is_compared_by_its_new_lines_only(served: Live) -> None:
    write(served, f"{FACT}/mixed.md", "The mat is under the walrus.\nupload limit: 30 MB\n")
    edit = {"path": f"{FACT}/mixed.md", "edits": [{"old": "mat", "new": "key"}]}
    text, failed = mcp_call(served, "ctx_edit", edit, principal="agent:alice")
    assert not failed
    assert "already known" not in text
    edit["edits"] = [{"old": "30 MB", "new": "60 MB"}]
    text, _ = mcp_call(served, "ctx_edit", edit, principal="agent:alice")
    assert f"line 2 contradicts {FACT}/limits.md:1" in text


def test_remark_names_no_memory_that_the_writer_may_not_read(served: Live) -> None:
    response = write(served, f"{FACT}/guess.md", "The vault combination is 4712.\n")
    assert "contradicts" not in response
    assert "bob" not in response
    assert "contradicts memory/bob/fact/key.md:1" in write(
        served, "memory/bob/fact/guess.md", "The vault combination is 4712.\n", agent="bob"
    )


def test_other_subject_scratchpad_and_binary_are_written_without_remark(served: Live) -> None:
    assert "warning" not in write(served, f"{FACT}/refresh.md", "Refresh tokens expire after 30 days.\n")
    assert "warning" not in write(served, "pad/t/x.md", "Access tokens expire after 3 days.\n")
    with contextlib.closing(Client(served.store / "run", timeout=20)) as client:
        client.call("join", principal="agent:alice")
        reply = client.call("apply", change=["put", f"{FACT}/x.bin", b"\0\1access tokens", {}, ""])
        assert reply["warnings"] == []


def memory(live: Live, **arguments: object) -> str:
    """Send a command of Claude's memory tool as alice, and return its response."""
    text, failed = mcp_call(live, "memory", arguments, principal="agent:alice")
    assert not failed, text
    return text


def test_each_writing_command_of_the_memory_tool_names_contradiction_and_repetition(served: Live) -> None:
    write(served, f"{FACT}/badger.md", "The badger sleeps 14 hours a day.\n")
    contradiction = f"contradicts {FACT}/badger.md:1: "
    created = memory(
        served, command="create", path="/memories/b.md", file_text="A line.\nThe badger sleeps 9 hours a day.\n"
    )
    assert created.startswith("File created successfully at: /memories/b.md\nwarning: line 2 " + contradiction)
    memory(served, command="create", path="/memories/c.md", file_text="One.\nTwo.\n")
    edited = memory(
        served, command="str_replace", path="/memories/c.md", old_str="Two.", new_str="The badger sleeps 8 hours a day."
    )
    assert edited.splitlines()[-1].startswith("warning: line 2 contradicts memory/alice/")
    inserted = memory(
        served,
        command="insert",
        path="/memories/c.md",
        insert_line=1,
        insert_text="The badger sleeps fourteen hours a day.",
    )
    assert f"\nwarning: line 2: already known at {FACT}/badger.md:1" in inserted
    plain = memory(served, command="create", path="/memories/d.md", file_text="Otters hold hands.\n")
    assert plain == "File created successfully at: /memories/d.md"
