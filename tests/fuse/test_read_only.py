"""Test `ctxfs mount --read-only`: it refuses changes, and reads as other mount points do, at the kernel's speed."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import Live, code_of, eventually, make_corpus

pytestmark = pytest.mark.fuse


@pytest.fixture(scope="module", params=["reads are noted", "reads are not noted"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with a writable mount point and a read-only one at `<live.at>-view`.

    With `audit_reads = false` the read-only mount needs no OPEN requests.
    """
    made = Live(tmp_path_factory.mktemp("readonly"))
    made.run("init")
    config = made.store / "ctxfs.toml"
    text = config.read_text()
    if request.param == "reads are not noted":
        text = text.replace("# audit_reads = true", "audit_reads = false")
        assert "\naudit_reads = false" in text
    config.write_text(text)
    make_corpus(made.corpus)
    made.run("add", str(made.corpus), "--name", "handbook")
    made.run("mount", str(made.at))
    made.run("mount", "--read-only", str(view_of(made)))
    yield made
    made.close()


def view_of(live: Live) -> Path:
    return live.at.with_name("mnt-view")


def test_read_only_mount_refuses_changes(live: Live) -> None:
    view = view_of(live)
    (live.at / "pad" / "f").write_text("kept")
    attempts: list[Callable[[], object]] = [
        lambda: (view / "pad" / "f").write_text("x"),
        lambda: (view / "pad" / "new").touch(),
        lambda: (view / "pad" / "f").unlink(),
        lambda: (view / "pad" / "f").rename(view / "pad" / "g"),
        lambda: (view / "pad" / "f").chmod(0o600),
        lambda: os.setxattr(view / "pad" / "f", "user.ctx.tags", b"x"),
        lambda: (view / "context" / "task").mkdir(),
    ]
    assert [code_of(attempt) for attempt in attempts] == [errno.EROFS] * len(attempts)
    assert (view / "pad" / "f").read_text() == "kept"


def test_every_file_reads_as_on_any_mount_point(live: Live) -> None:
    (live.at / "memory" / "shared" / "some.md").write_text("some\n")
    (live.at / "human" / "some.md").write_text("some\n")
    for top in ("knowledge", "memory", "human", "AGENTS.md", "llms.txt"):
        for program in (["find", top, "-type", "f"], ["grep", "-rc", "", top], ["ls", "-1R", top]):
            one = subprocess.run(program, cwd=live.at, capture_output=True, check=False).stdout
            two = subprocess.run(program, cwd=view_of(live), capture_output=True, check=False).stdout
            assert sorted(one.splitlines()) == sorted(two.splitlines()) and one, program


def test_writes_through_other_mounts_are_seen_at_once(live: Live) -> None:
    seen, written = view_of(live) / "memory" / "shared" / "f.md", live.at / "memory" / "shared" / "f.md"
    assert not seen.exists()
    for turn in range(20):
        written.write_text(f"{turn:03}")
        assert seen.read_text() == f"{turn:03}"
        assert "f.md" in os.listdir(seen.parent)
    written.unlink()
    assert not seen.exists() and "f.md" not in os.listdir(seen.parent)


def test_queries_are_answered_anew(live: Live) -> None:
    live.wait_idle()
    answers = view_of(live) / "search" / "rotate signing keys"
    assert any("rotation.md" in name for name in os.listdir(answers))
    (live.at / "memory" / "shared" / "keys.md").write_text("rotate signing keys on Fridays, said Ada")
    eventually("it is found", lambda: any("keys.md" in name for name in os.listdir(answers)), 1.0)
    assert "Fridays" in (view_of(live) / "search" / "rotate signing keys" / "context.md").read_text()


def test_status_file_is_never_stale(live: Live) -> None:
    """The kernel must not cache a synthetic file, although the mount process receives no OPEN for it."""
    status = view_of(live) / ".ctxfs" / "status"
    assert str(view_of(live)) in status.read_text()
    third = live.at.with_name("mnt-third")
    assert str(third) not in status.read_text()
    live.run("mount", str(third))
    assert str(third) in status.read_text()
    live.run("unmount", str(third))
    assert str(third) not in status.read_text()


def test_versions_can_be_read(live: Live) -> None:
    file = live.at / "memory" / "shared" / "past.md"
    for text in ("one", "two"):
        file.write_text(text)
        live.run("commit")
    past = view_of(live) / "memory" / "shared" / ".versions" / "past.md"
    assert (past / "latest").read_text() == "two"
    assert (past / "prev").read_text() == "one"


def test_a_large_file_and_its_parts_are_read(live: Live) -> None:
    data = os.urandom(3_000_001)
    (live.at / "pad" / "large").write_bytes(data)
    assert (view_of(live) / "pad" / "large").read_bytes() == data
    with open(view_of(live) / "pad" / "large", "rb") as file:
        file.seek(2_999_999)
        assert file.read() == data[2_999_999:]


def test_status_marks_a_read_only_mount(live: Live) -> None:
    assert {mount["at"]: mount["read_only"] for mount in live.status()["mounts"]} == {
        str(live.at): False,
        str(view_of(live)): True,
    }
    assert f"{view_of(live)}  as human:root, read only" in live.try_run("status").stdout


def test_denied_file_is_not_read(live: Live) -> None:
    secret = live.at / "memory" / "shared" / "secret.md"
    secret.write_text("for people")
    rules = live.store / "policy.toml"
    rules.write_text(
        '[[rule]]\nprincipal = "agent:*"\npath = "memory/shared/secret.md"\nverbs = "r"\neffect = "deny"\n'
    )
    at = live.at.with_name("mnt-alice")
    live.run("mount", "--read-only", "--as", "agent:alice", str(at))
    try:
        assert code_of(lambda: (at / "memory" / "shared" / "secret.md").read_text()) in (errno.EACCES, errno.ENOENT)
    finally:
        live.run("unmount", str(at))
        rules.unlink()
