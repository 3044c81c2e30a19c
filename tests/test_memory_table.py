"""The table of memories: its filters and parts, its rows for each principal, and its sums."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.consolidation.conftest import Store
from tests.live import Live

ADA = "human:ada"
FACT = "Tokens expire after 30 days.\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    yield made
    made.session.close()


def call(store: Store, method: str = "memories", by: str = ADA, **arguments: object) -> Any:
    return store.call_as(by, method, **arguments)


def paths(store: Store, by: str = ADA, **filters: object) -> list[str]:
    return [row["path"] for row in call(store, by=by, **filters)["rows"]]


def test_rows_have_the_labels_of_path_and_attributes(store: Store) -> None:
    store.write("memory/alice/fact/tokens.md", f"---\ntitle: x\n---\n{FACT}Source: a\n", source="a", confidence="0.9")
    store.write("memory/bob/notes/x.md", "One.\n", kind="experiential", state="archived", trust="untrusted")
    store.write("memory/plain.md", "Two.\n", pinned="true", valid_until="2026-01", quarantined="true")
    plain, fact, other = call(store)["rows"]
    assert [plain["agent"], fact["agent"], other["agent"]] == ["", "alice", "bob"]
    assert (fact["kind"], fact["state"], fact["trust"], fact["text"]) == ("fact", "active", "normal", FACT.strip())
    assert (fact["source"], fact["confidence"]) == ("a", "0.9")
    assert (other["kind"], other["state"], other["trust"]) == ("experiential", "archived", "untrusted")
    assert (plain["pinned"], plain["trust"], plain["valid_until"]) == (True, "quarantined", "2026-01")


def test_filters_and_parts_select_rows(store: Store) -> None:
    for number in range(5):
        store.write(f"memory/alice/fact/{number}.md", f"Port {number} is open.\n")
    store.write("memory/bob/user/tz.md", "Time zone: CET\n", trust="untrusted")
    assert paths(store, agent="bob") == paths(store, kind="user") == paths(store, trust="untrusted")
    assert paths(store, agent="bob") == ["memory/bob/user/tz.md"]
    assert paths(store, pattern="PORT 3") == ["memory/alice/fact/3.md"]
    assert paths(store, path="memory/alice/fact/4.md") == ["memory/alice/fact/4.md"]
    page = call(store, offset=2, limit=2)
    assert ([row["path"] for row in page["rows"]], page["total"]) == (
        ["memory/alice/fact/2.md", "memory/alice/fact/3.md"],
        6,
    )
    assert page["counts"]["agent"] == {"alice": 5, "bob": 1}
    for wrong in ({"state": "old"}, {"trust": "x"}, {"holds": "x"}, {"path": "pad"}):
        with pytest.raises(OSError, match=r"needed|memory") as raised:
            call(store, **wrong)
        assert raised.value.errno in (errno.EINVAL, errno.ENOENT)


def test_changes_show_at_once(store: Store) -> None:
    file = store.tree / "memory/alice/fact/tokens.md"
    store.write("memory/alice/fact/tokens.md", FACT)
    assert call(store)["rows"][0]["state"] == "active"
    os.setxattr(file, "user.ctx.state", b"archived")
    assert paths(store, state="archived") == ["memory/alice/fact/tokens.md"]
    file.write_text("Tokens expire after 90 days.\n")
    assert "90" in call(store)["rows"][0]["text"]
    file.unlink()
    assert call(store)["rows"] == []


def test_rows_have_the_states_of_cited_lines(store: Store) -> None:
    store.write("memory/shared/handbook.md", "# Policy\n\nTokens expire after 30 days, for all of the accounts here.\n")
    store.write("memory/alice/fact/tokens.md", FACT)
    store.write("memory/alice/fact/other.md", "Keys are long.\n")
    call(store, "cite", path="memory/alice/fact/tokens.md", sources=["memory/shared/handbook.md:3-3"])
    assert paths(store, holds="holds") == ["memory/alice/fact/tokens.md"]
    (store.tree / "memory/shared/handbook.md").write_text(
        "# Policy\n\nTokens expire after 90 days, for none of them.\n"
    )
    assert paths(store, holds="broken") == ["memory/alice/fact/tokens.md"]
    assert "memory/alice/fact/other.md" in paths(store, holds="none")


def test_agent_sees_no_row_of_a_file_that_it_may_not_read(store: Store) -> None:
    store.write("memory/alice/fact/own.md", FACT)
    store.write("memory/bob/fact/secret.md", "The otter sleeps.\n")
    seen = call(store, by="agent:alice")
    assert [row["path"] for row in seen["rows"]] == ["memory/alice/fact/own.md"]
    assert "bob" not in str(seen["counts"])
    assert call(store, by="agent:alice", pattern="otter")["rows"] == []
    assert [part["folder"] for part in call(store, "memory_sizes", by="agent:alice")] == ["memory/alice/fact"]


def test_copy_of_a_quarantined_text_is_not_shown_to_agents(store: Store) -> None:
    text = "The otter sleeps under the old bridge beside the second mill of the town, every night.\n"
    store.write("memory/alice/fact/copy.md", text)
    store.write("memory/alice/fact/first.md", text)
    store.write("memory/alice/fact/other.md", "Keys are long.\n")
    call(store, "apply", change=["meta", "memory/alice/fact/first.md", "user.ctx.quarantined", b"true"])
    call(store, "commit")
    rows = {row["path"]: row["text"] for row in call(store, by="agent:alice")["rows"]}
    assert "otter" not in str(rows)
    assert rows["memory/alice/fact/other.md"] == "Keys are long."
    assert call(store, by="agent:alice", pattern="otter")["total"] == 0
    assert "otter" in str(call(store)["rows"])


def test_names_that_are_not_utf8_are_reported_with_their_bytes(store: Store) -> None:
    name = os.fsdecode(b"memory/alice/fact/caf\xe9.md")
    store.write(name, FACT)
    (row,) = call(store)["rows"]
    assert bytes.fromhex(row["raw"]) == b"memory/alice/fact/caf\xe9.md"


def test_sizes_are_summed_by_agent_kind_and_folder(store: Store) -> None:
    for number in range(3):
        store.write(f"memory/alice/fact/{number}.md", FACT)
    store.write("memory/alice/fact/deep/x.md", FACT, trust="untrusted")
    whole, deep = call(store, "memory_sizes")
    assert (whole["folder"], whole["files"], whole["untrusted_tokens"]) == ("memory/alice/fact", 3, 0)
    assert (deep["folder"], deep["tokens"]) == ("memory/alice/fact/deep", deep["untrusted_tokens"])
    assert whole["tokens"] == 3 * deep["tokens"]


def test_links_are_not_followed(store: Store, tmp_path: Path) -> None:
    store.write("memory/alice/fact/own.md", FACT)
    (tmp_path / "secret.md").write_text("The otter sleeps.\n")
    (store.tree / "memory/alice/fact/link.md").symlink_to(tmp_path / "secret.md")
    (store.tree / "memory/alice/outside").symlink_to(tmp_path)
    assert paths(store) == ["memory/alice/fact/own.md"]


def test_commands_list_and_edit_memories(offline: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    file = offline.store / "tree/memory/ada/fact/tokens.md"
    file.parent.mkdir(parents=True)
    file.write_bytes("Tokens expire after 30 days.\r\nIn Z\u00fcrich.\r\n".encode("latin-1"))
    assert "memory/ada/fact/tokens.md  Tokens expire" in offline.run("memories", "--owner", "ada", "--kind", "fact")
    assert "memory/ada/fact" in offline.run("memories", "--sizes", "--words", "tokens")
    assert offline.try_run("memories", "--state", "merged").returncode == 3
    monkeypatch.setenv("EDITOR", "sed -i s/30/90/")
    offline.run("edit", "memory/ada/fact/tokens.md", "-m", "the policy of May")
    assert file.read_bytes() == "Tokens expire after 90 days.\r\nIn Z\u00fcrich.\r\n".encode("latin-1")
    assert "the policy of May" in offline.run("log", "memory/ada/fact/tokens.md")
    editor = offline.store.parent / "editor"
    editor.write_text(f"#!/bin/sh\nprintf later >{file}\necho more >>$1\n")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    refused = offline.try_run("edit", "memory/ada/fact/tokens.md")
    assert (refused.returncode, file.read_bytes()) == (1, b"later")
    assert "changed since" in refused.stderr


def test_each_change_is_in_the_rows_and_counts_at_once(store: Store) -> None:
    """The rows are kept between requests, and sorted only after a change."""
    store.write("memory/alice/fact/b.md", "Two.\n")
    store.write("memory/alice/fact/a.md", "One.\n")
    host = store.layout.tree
    assert paths(store) == ["memory/alice/fact/a.md", "memory/alice/fact/b.md"]
    assert paths(store) == ["memory/alice/fact/a.md", "memory/alice/fact/b.md"]
    os.setxattr(host / "memory/alice/fact/a.md", "user.ctx.trust", b"untrusted")
    assert call(store)["counts"]["trust"] == {"normal": 1, "untrusted": 1}
    (host / "memory/alice/fact/b.md").write_text("Three.\n")
    assert [row["text"] for row in call(store)["rows"]] == ["One.", "Three."]
    (host / "memory/alice/fact/a.md").rename(host / "memory/alice/fact/c.md")
    assert paths(store) == ["memory/alice/fact/b.md", "memory/alice/fact/c.md"]
    (host / "memory/alice/fact/b.md").unlink()
    (host / "memory/alice/fact/.ctxfs-00.tmp").write_text("being written")
    (host / "memory/alice/fact/link.md").symlink_to("/etc/hostname")
    os.mkfifo(host / "memory/alice/fact/pipe.md")
    assert (paths(store), call(store)["counts"]["agent"]) == (["memory/alice/fact/c.md"], {"alice": 1})
    call(store, "prepare_tables")
    assert paths(store, by="agent:alice") == ["memory/alice/fact/c.md"]
