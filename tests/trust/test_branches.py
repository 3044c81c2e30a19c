"""Test that branches have the rights, the marks and the secrets of main."""

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path as HostPath

import pytest
import trio

from ctxfs.app import App
from ctxfs.daemon.api.methods import METHODS, run_method
from ctxfs.model.change import Change, MakeDir, Move, Put, SetMeta
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.store.layout import Layout
from ctxfs.vfs.session import Session

ALICE, BOB, OWNER = Principal("agent", "alice"), Principal("agent", "bob"), Principal("human", "owner")
SECRET, OWN = "memory/bob/fact/secret.md", "memory/alice/fact/own.md"


@pytest.fixture
def app(layout: Layout) -> Iterator[App]:
    """Yield a store with a file of each agent, and a branch that has changed both."""
    for path, text in ((SECRET, "bob hides okapis"), (OWN, "alice likes lemurs")):
        file = layout.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    made = App(layout)
    owner = made.session(OWNER)
    call(made, owner, "create_branch", name="idea")
    put(made, owner, f".branches/idea/{SECRET}", "bob hides penguins")
    put(made, owner, f".branches/idea/{OWN}", "alice likes zebras")
    put(made, owner, ".branches/idea/memory/bob/fact/new.md", "bob hides walruses")
    owner.close()
    yield made
    made.archive.close()


def call(app: App, caller: Session, method: str, **arguments: object) -> object:
    return trio.run(run_method, app, caller, METHODS[method], arguments)


def put(app: App, caller: Session, path: str, text: str) -> None:
    apply(app, caller, Put(Path.parse(path), text.encode()))


def apply(app: App, caller: Session, change: Change) -> None:
    trio.run(caller.tree.apply, change)


def code_of(run: Callable[[], object]) -> int | None:
    with pytest.raises(OSError) as caught:
        run()
    return caught.value.errno


async def names(caller: Session, path: str) -> list[str]:
    return [entry.name for entry in await caller.tree.list(Path.parse(path))]


def test_agent_reads_only_its_own_files_of_a_branch(app: App) -> None:
    alice = app.session(ALICE)
    assert trio.run(alice.tree.read, Path.parse(f".branches/idea/{OWN}")) == b"alice likes zebras"
    for path in (SECRET, "memory/bob/fact/new.md", "memory/bob"):
        hidden = Path.parse(f".branches/idea/{path}")
        assert code_of(lambda hidden=hidden: trio.run(alice.tree.read, hidden)) == errno.ENOENT  # type: ignore[misc]
        assert code_of(lambda hidden=hidden: trio.run(alice.tree.stat, hidden)) == errno.ENOENT  # type: ignore[misc]
    assert trio.run(names, alice, ".branches/idea/memory") == ["alice", "shared"]
    refused = Put(Path.parse(f".branches/idea/{SECRET}"), b"x")
    assert code_of(lambda: apply(app, alice, refused)) in (errno.ENOENT, errno.EACCES)


def test_diffs_and_lists_hide_the_files_of_others(app: App) -> None:
    alice = app.session(ALICE)
    diff = call(app, alice, "branch_diff", name="idea")
    assert isinstance(diff, bytes) and b"zebras" in diff
    listed = repr((diff, call(app, alice, "branches"), call(app, alice, "branch_log", name="idea")))
    for word in ("secret", "penguins", "walruses", "okapis", "new.md"):
        assert word not in listed
    owner = app.session(OWNER)
    assert b"penguins" in call(app, owner, "branch_diff", name="idea")  # type: ignore[operator]


def test_content_from_before_a_right_was_given_stays_hidden_in_a_branch(app: App, layout: Layout) -> None:
    rule = '[[rule]]\nprincipal = "agent:alice"\npath = "memory/bob/**"\nverbs = "r"\n'
    app.policy.reload()
    layout.rules.write_text(rule)
    time.sleep(0.01)  # times of rules are compared with those of versions
    assert app.policy.reload()
    alice, owner = app.session(ALICE), app.session(OWNER)
    hidden = Path.parse(f".branches/idea/{SECRET}")
    assert code_of(lambda: trio.run(alice.tree.read, hidden)) == errno.ENOENT
    assert b"penguins" not in call(app, alice, "branch_diff", name="idea")  # type: ignore[operator]
    put(app, owner, f".branches/idea/{SECRET}", "written for all")
    assert trio.run(alice.tree.read, hidden) == b"written for all"


def test_quarantined_text_is_withheld_in_a_branch(app: App) -> None:
    owner, alice = app.session(OWNER), app.session(ALICE)
    path = Path.parse(f".branches/idea/{OWN}")
    apply(app, owner, SetMeta(path, "user.ctx.quarantined", b"true"))
    assert code_of(lambda: trio.run(alice.tree.read, path)) == errno.EACCES
    assert b"zebras" not in call(app, alice, "branch_diff", name="idea")  # type: ignore[operator]
    assert trio.run(owner.tree.read, path) == b"alice likes zebras"


def test_agent_can_neither_lift_marks_nor_thaw_in_a_branch(app: App) -> None:
    owner, alice = app.session(OWNER), app.session(ALICE)
    path = Path.parse(f".branches/idea/{OWN}")
    apply(app, owner, SetMeta(path, "user.ctx.trust", b"untrusted"))
    assert code_of(lambda: apply(app, alice, SetMeta(path, "user.ctx.trust", None))) == errno.EPERM
    apply(app, owner, SetMeta(path, "user.ctx.state", b"frozen"))
    assert code_of(lambda: put(app, alice, str(path), "x")) == errno.EPERM
    assert code_of(lambda: apply(app, alice, SetMeta(path, "user.ctx.state", b"active"))) == errno.EPERM


def test_only_people_and_its_creator_drop_a_branch(app: App) -> None:
    alice, bob = app.session(ALICE), app.session(BOB)
    assert code_of(lambda: call(app, alice, "drop_branch", name="idea")) == errno.EACCES
    call(app, alice, "create_branch", name="mine")
    assert code_of(lambda: call(app, bob, "drop_branch", name="mine")) == errno.EACCES
    call(app, alice, "drop_branch", name="mine")
    assert app.archive.branches.names() == ["idea"]


def test_changes_of_a_branch_do_not_leave_it(app: App, layout: Layout) -> None:
    owner = app.session(OWNER)
    call(app, owner, "create_branch", name="second")
    source, target = Path.parse(f".branches/idea/{OWN}"), Path.parse(".branches/second/memory/alice/fact/moved.md")
    assert code_of(lambda: apply(app, owner, Move(source, target))) == errno.EPERM
    assert code_of(lambda: apply(app, owner, Move(source, Path.parse("memory/alice/fact/moved.md")))) == errno.EXDEV
    for path in (
        ".branches/idea/.branches/second",
        ".branches/idea/.snapshots",
        ".branches/none/memory",
        ".branches/a..b",
    ):
        nested = Path.parse(path)
        assert code_of(lambda nested=nested: trio.run(owner.tree.stat, nested)) == errno.ENOENT  # type: ignore[misc]
    assert (layout.tree / OWN).read_text() == "alice likes lemurs"


def test_directory_made_in_branches_is_a_branch(app: App) -> None:
    owner, alice = app.session(OWNER), app.session(ALICE)
    apply(app, owner, MakeDir(Path.parse(".branches/made")))
    assert app.archive.branches.names() == ["idea", "made"]
    assert code_of(lambda: apply(app, owner, MakeDir(Path.parse(".branches/made")))) == errno.EEXIST
    assert code_of(lambda: apply(app, owner, MakeDir(Path.parse(".branches/a..b")))) == errno.EINVAL
    assert code_of(lambda: apply(app, alice, MakeDir(Path.parse(".branches/no")))) == errno.EACCES


@pytest.fixture
def own_branch(app: App, layout: Layout) -> App:
    """Return the store with a rule that gives alice a branch of her own."""
    layout.rules.write_text(
        '[[rule]]\nprincipal = "agent:alice"\npath = "memory/alice/**"\nverbs = "rw"\nbranch = "auto"\n'
    )
    assert app.policy.reload()
    return app


def test_writes_of_an_agent_with_an_own_branch_do_not_reach_main(own_branch: App, layout: Layout) -> None:
    from ctxfs.rpc.wire import change_to_wire

    alice = own_branch.session(ALICE, tool="mcp", reason="an idea")
    assert call(own_branch, alice, "read", path=OWN) == b"alice likes lemurs"
    call(own_branch, alice, "apply", change=change_to_wire(Put(Path.parse(OWN), b"alice likes wombats")))
    assert call(own_branch, alice, "read", path=OWN) == b"alice likes wombats"
    assert (layout.tree / OWN).read_text() == "alice likes lemurs"
    assert call(own_branch, alice, "whoami")["branch"] == "agent-alice"  # type: ignore[index]
    newest, *_ = own_branch.archive.branches.versions("agent-alice")
    assert (newest.actor.principal, newest.actor.reason) == ("agent:alice", "an idea")
    assert [row["name"] for row in call(own_branch, alice, "branches")] == ["agent-alice"]  # type: ignore[attr-defined]
    assert code_of(lambda: call(own_branch, alice, "read", path=f".branches/idea/{OWN}")) == errno.ENOENT
    assert code_of(lambda: call(own_branch, alice, "undo", path="memory/alice", dry_run=False)) == errno.EPERM
    assert call(own_branch, own_branch.session(BOB), "whoami")["branch"] == ""  # type: ignore[index]


def main_picture(app: App, layout: Layout) -> dict[str, bytes]:
    """Return the files of memory and pads on main."""
    app.archive.commit()
    files = [file for area in ("memory", "pad") for file in (layout.tree / area).rglob("*") if file.is_file()]
    return {str(file.relative_to(layout.tree)): file.read_bytes() for file in files}


def test_commands_that_change_memories_do_so_in_the_own_branch_of_an_agent(own_branch: App, layout: Layout) -> None:
    from ctxfs.rpc.wire import change_to_wire

    before, alice = main_picture(own_branch, layout), own_branch.session(ALICE)
    corrected = call(own_branch, alice, "correct", path=OWN, text="alice likes wombats", because="she said so")
    new = corrected["path"]  # type: ignore[index]
    note = Put(Path.parse("memory/alice/experiential/note.md"), b"wombats sleep in burrows")
    for folder in ("memory/alice/experiential", "memory/alice/procedural"):
        call(own_branch, alice, "apply", change=change_to_wire(MakeDir(Path.parse(folder))))
    call(own_branch, alice, "apply", change=change_to_wire(note))
    promoted = call(
        own_branch, alice, "promote", path=str(note.path), to="memory/alice/procedural", reason="it is a rule"
    )
    assert promoted["path"] == "memory/alice/procedural/note.md"  # type: ignore[index]
    assert main_picture(own_branch, layout) == before
    assert {path for path in (new, promoted["path"]) if own_branch.archive.branches.read("agent-alice", path)} == {  # type: ignore[index]
        new,
        promoted["path"],  # type: ignore[index]
    }


def test_no_method_that_changes_main_runs_in_the_own_branch_of_an_agent(own_branch: App, layout: Layout) -> None:
    from ctxfs.daemon.api.registry import Effect

    before, alice = main_picture(own_branch, layout), own_branch.session(ALICE)
    changing = {name for name, method in METHODS.items() if method.effects & (Effect.CHANGES_WORK_TREE | Effect.ERASES)}
    assert {"forget", "bundle_commit", "restore", "undo", "redo"} <= changing
    arguments: dict[str, dict[str, object]] = {
        "forget": {"path": OWN, "principal": ""},
        "bundle_commit": {"name": "none"},
        "undo": {"path": OWN},
        "restore": {"path": OWN, "to": "previous"},
    }
    for name, values in arguments.items():
        caller = own_branch.session(OWNER).on("idea") if name == "forget" else alice
        with pytest.raises(PermissionError, match="this session works in the branch") as caught:
            call(own_branch, caller, name, **values)
        assert caught.value.errno == errno.EPERM
    assert main_picture(own_branch, layout) == before


def test_agent_reads_and_writes_fail_clearly_if_its_own_branch_cannot_be_made(
    own_branch: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctxfs.versions.branches import branches

    monkeypatch.setattr(branches, "MAX_BRANCHES", 1)
    with pytest.raises(OSError, match="there are 1 branches already") as caught:
        call(own_branch, own_branch.session(ALICE), "read", path=OWN)
    assert caught.value.errno == errno.EDQUOT


def test_journal_of_main_has_no_changes_of_a_branch(own_branch: App, layout: Layout) -> None:
    from ctxfs.rpc.wire import change_to_wire

    own_branch.archive.commit()
    alice = own_branch.session(ALICE)
    call(own_branch, alice, "apply", change=change_to_wire(Put(Path.parse(OWN), b"alice likes wombats")))
    assert own_branch.archive.commit() == []


def test_forget_reaches_the_texts_of_branches(app: App, tmp_path: HostPath) -> None:
    owner = app.session(OWNER)
    call(app, owner, "forget", path=OWN)
    assert b"zebras" not in call(app, owner, "branch_diff", name="idea")  # type: ignore[operator]
    assert "zebras" not in repr(app.search.texts._texts)
