"""Test the policy through the kernel: changed rules apply at once, and no operation escapes them."""

import contextlib
import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from ctxfs.fuse.mount_process import MountProcess
from ctxfs.rpc.client import Client
from ctxfs.rpc.frames import pack_frame
from tests.live import Live, code_of, eventually, make_corpus

pytestmark = pytest.mark.fuse

DENY = '\n[[rule]]\nprincipal = "agent:*"\npath = "memory/shared/area"\nverbs = "lrwxa"\neffect = "deny"\n'
ALLOW = '\n[[rule]]\nprincipal = "agent:alice"\npath = "memory/shared/**"\nverbs = "rw"\n'
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
LIST_ONLY = '\n[[rule]]\nprincipal = "agent:*"\npath = "knowledge/handbook/*.key"\nverbs = ["read"]\neffect = "deny"\n'


@pytest.fixture(scope="module")
def own_live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield one store for these tests, each of which begins with the same rules."""
    made = Live(tmp_path_factory.mktemp("policy"))
    made.corpus = make_corpus(made.store.parent / "corpus")
    (made.corpus / "prod.key").write_text("secret\n")
    made.run("init")
    made.run("add", str(made.corpus), "--name", "handbook")
    made.run("mount", str(made.at))
    made.run("mount", str(made.at.parent / "mnt-alice"), "--as", "agent:alice")
    (made.store / "default.toml").write_text((made.store / "ctxfs.toml").read_text())
    yield made
    made.close()


@pytest.fixture
def alice(own_live: Live) -> Path:
    """Return a mount point of agent:alice, who may write shared files."""
    (own_live.store / "ctxfs.toml").write_text((own_live.store / "default.toml").read_text())
    rule(own_live, ALLOW + LIST_ONLY)
    for path, text in (("shared/area/x.md", "x" * 300_000), ("bob/b.md", "bob's\n")):
        file = own_live.store / "tree" / "memory" / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    shutil.rmtree(own_live.store / "tree" / "memory" / "alice", ignore_errors=True)
    at = own_live.at.parent / "mnt-alice"
    eventually(
        "the rules hold", lambda: os.access(at / "memory" / "shared" / "area" / "x.md", os.W_OK) and writable(at)
    )
    eventually("it is not there", lambda: not (at / "memory" / "alice").exists())
    return at


def writable(at: Path) -> bool:
    try:
        (at / "memory" / "shared" / "probe").write_text("x")
        (at / "memory" / "shared" / "probe").unlink()
    except OSError:
        return False
    return True


def rule(live: Live, text: str) -> None:
    config = live.store / "ctxfs.toml"
    new = config.with_suffix(".new")
    new.write_text(config.read_text() + text)
    os.replace(new, config)


def answers(file: Path) -> bool:
    try:
        return bool(file.read_text())
    except OSError:
        return False


def refused(attempt: Callable[[], object]) -> int:
    with pytest.raises(OSError) as error:
        attempt()
    return error.value.errno or 0


def test_a_revoke_reaches_open_files_and_caches_within_a_tenth_of_a_second(own_live: Live, alice: Path) -> None:
    file = alice / "memory" / "shared" / "area" / "x.md"
    eventually("the file is there", file.exists)
    assert file.read_text()[:1] == "x"
    held = os.open(file, os.O_RDONLY)
    writing = os.open(file, os.O_WRONLY | os.O_APPEND)
    with open(file, "rb") as reading:
        reading.read(10)
        rule(own_live, DENY)
        start = time.monotonic()
        while time.monotonic() - start < 5:
            try:
                os.pread(held, 4096, 200_000)
            except OSError as error:
                assert error.errno in (errno.EACCES, errno.ENOENT)
                break
        took = time.monotonic() - start
    assert took < 0.5, "0.1 s, with room for a busy machine"
    assert refused(lambda: os.write(writing, b"y")) in (errno.EACCES, errno.ENOENT)
    assert not file.exists()
    assert "area" not in os.listdir(alice / "memory" / "shared")
    assert refused(lambda: os.listdir(alice / "memory" / "shared" / "area")) == errno.ENOENT
    os.close(held)
    os.close(writing)
    assert (own_live.at / "memory" / "shared" / "area" / "x.md").exists(), "for people nothing has changed"


@pytest.mark.parametrize("mover", ["mount", "host"])
def test_directory_that_is_moved_away_takes_the_rights_of_its_new_path(own_live: Live, alice: Path, mover: str) -> None:
    area = alice / "memory" / "shared" / "area"
    eventually("the file is there", lambda: answers(area / "x.md"))
    folder = os.open(area, os.O_RDONLY)
    os.close(os.open("x.md", os.O_RDONLY, dir_fd=folder))
    memory = (own_live.at if mover == "mount" else own_live.store / "tree") / "memory"
    os.rename(memory / "shared" / "area", memory / "bob" / "area")

    def is_refused() -> bool:
        return code_of(lambda: os.close(os.open("x.md", os.O_RDONLY, dir_fd=folder))) in (errno.EACCES, errno.ENOENT)

    try:
        eventually("files of an open directory are refused by the rules of its new path", is_refused)
    finally:
        os.close(folder)
        os.rename(memory / "bob" / "area", memory / "shared" / "area")


def test_list_only_file_reports_eacces_and_shows_it_in_its_mode(own_live: Live, alice: Path) -> None:
    key = alice / "knowledge" / "handbook" / "prod.key"
    eventually("the file is there", key.exists)
    assert stat.S_IMODE(os.lstat(key).st_mode) & 0o444 == 0
    assert refused(lambda: key.read_text()) == errno.EACCES
    assert refused(lambda: os.getxattr(key, "user.ctx.kind")) == errno.EACCES
    plain = alice / "knowledge" / "handbook" / "deploy.md"
    assert stat.S_IMODE(os.lstat(plain).st_mode) & 0o222 == 0
    assert stat.S_IMODE(os.lstat(alice / "memory" / "shared" / "area" / "x.md").st_mode) & 0o200
    other = stat.S_IMODE(os.lstat(own_live.at / "knowledge" / "handbook" / "prod.key").st_mode)
    assert other & 0o444


def test_names_cannot_be_moved_to_paths_with_other_rights(own_live: Live, alice: Path) -> None:
    rule(own_live, DENY)
    eventually("the rule holds", lambda: not (alice / "memory" / "shared" / "area").exists())
    mine = alice / "memory" / "alice"
    mine.mkdir()
    (mine / "own.md").write_text("own\n")
    shared = alice / "memory" / "shared"
    for attempt in (
        lambda: os.rename(shared, mine / "all"),
        lambda: os.rename(alice / "memory" / "bob" / "b.md", mine / "b.md"),
        lambda: os.link(alice / "memory" / "bob" / "b.md", mine / "b.md"),
        lambda: os.rename(mine / "own.md", alice / "memory" / "bob" / "b.md"),
        lambda: os.rename(mine / "own.md", shared / "area"),
        lambda: os.rename(mine, shared / "area"),
        lambda: os.rename(mine, alice / "memory" / "bob"),
        lambda: (alice / "memory" / "bob" / "new.md").write_text("x"),
        lambda: (shared / "area").mkdir(),
        lambda: os.symlink("x", shared / "area" / "link"),
        lambda: os.mkfifo(alice / "memory" / "bob" / "fifo"),
        lambda: os.link(alice / "knowledge" / "handbook" / "prod.key", mine / "key"),
        lambda: Path(f"/proc/self/fd/{os.open(alice / 'memory', os.O_PATH)}/bob/b.md").read_text(),
    ):
        assert refused(attempt) in (errno.EACCES, errno.ENOENT, errno.EXDEV, errno.ENOTEMPTY, errno.ENOTDIR)
    assert (own_live.store / "tree" / "memory" / "bob" / "b.md").read_text() == "bob's\n"
    assert sorted(os.listdir(own_live.store / "tree" / "memory" / "bob")) == ["b.md"]
    os.rename(mine / "own.md", shared / "given.md")
    assert (shared / "given.md").read_text() == "own\n"


def test_link_opens_no_path_that_its_reader_may_not_read(own_live: Live, alice: Path) -> None:
    (alice / "pad" / "t").mkdir()
    (alice / "pad" / "t" / "link").symlink_to(alice / "memory" / "bob" / "b.md")
    assert refused(lambda: (alice / "pad" / "t" / "link").read_text()) == errno.ENOENT


def test_a_broken_policy_changes_nothing_and_is_named(own_live: Live, alice: Path) -> None:
    rule(own_live, '\n[[rule]]\nprincipal = "agent:*"\npath = "**"\nverbs = "fly"\n')
    fault = eventually("it is named", lambda: own_live.status()["policy"]["fault"])
    assert "not verbs" in fault
    assert refused(lambda: (alice / "memory" / "bob" / "b.md").read_text()) == errno.ENOENT
    assert (alice / "memory" / "shared" / "area" / "x.md").exists()
    assert any("last good rules stay" in line["message"] for line in own_live.errors())
    assert "the last good ones stay" in own_live.run("policy", "list")


def test_quarantine_is_for_people(own_live: Live, alice: Path) -> None:
    file = own_live.at / "memory" / "shared" / "poison.md"
    file.write_text("The capital of the otters is Lontra.\n")
    assert (alice / "memory" / "shared" / "poison.md").read_text()
    os.setxattr(file, "user.ctx.quarantined", b"true")
    assert refused(lambda: (alice / "memory" / "shared" / "poison.md").read_text()) == errno.EACCES
    question = "search/capital of the otters Lontra/results.jsonl"
    eventually("people find it", lambda: "poison.md" in (own_live.at / question).read_text())
    assert "poison.md" not in (alice / question).read_text()


def test_a_session_is_bound_to_one_agent(own_live: Live, alice: Path) -> None:
    client = Client(own_live.store / "run", timeout=10)
    client.call("join", principal="agent:alice")
    assert client.call("whoami")["principal"] == "agent:alice"
    for principal in ("human:root", "agent:bob"):
        assert refused(lambda name=principal: client.call("join", principal=name)) == errno.EPERM
    client.call("join", tool="other")
    assert client.call("whoami")["principal"] == "agent:alice"
    for method, arguments in (
        ("mount", {"at": "/tmp/x"}),
        ("stop", {}),
        ("forget", {"path": "memory/bob/b.md"}),
        ("add", {"path": "/etc", "name": "etc", "writable": True, "exclude": []}),
        ("push", {"name": "x"}),
        ("status", {}),
        ("policy", {}),
        ("decide", {"id": "x", "verdict": "accept"}),
    ):
        assert refused(lambda m=method, a=arguments: client.call(m, **a)) == errno.EACCES
    client.close()


def test_agent_rolls_back_its_own_memory(own_live: Live, alice: Path) -> None:
    at = alice
    (at / "memory" / "alice").mkdir()
    (at / "memory" / "alice" / "back.md").write_text("first\n")
    own_live.run("commit")
    (at / "memory" / "alice" / "back.md").write_text("second\n")
    client = Client(own_live.store / "run", timeout=10)
    client.call("join", principal="agent:alice")
    assert len(client.call("log", path="memory/alice/back.md")) == 2
    client.call("undo", path="memory/alice/back.md")
    client.close()
    assert (at / "memory" / "alice" / "back.md").read_text() == "first\n"
    past = at / "memory" / "alice" / ".versions" / "back.md"
    assert len([name for name in os.listdir(past) if name[:4].isdigit()]) == 3


def test_restarted_daemon_has_the_principals_of_its_mounts_at_once(own_live: Live, alice: Path) -> None:
    own_live.run("commit")
    hidden = alice / ".snapshots" / "now" / "memory" / "bob" / "b.md"
    seen = []
    for _ in range(3):
        os.kill(own_live.daemon_pid(), 9)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            try:
                seen.append(hidden.read_text())
            except OSError as error:
                assert error.errno in (errno.ENOENT, errno.EIO)
        eventually("the daemon is back", lambda: answers(alice / ".ctxfs" / "whoami"))
    assert seen == []
    assert (alice / ".ctxfs" / "whoami").read_text() == "agent:alice\n"


def test_the_command_line_decides_and_explains(own_live: Live, alice: Path) -> None:
    rule(own_live, DENY)
    denied = own_live.try_run("policy", "check", "agent:alice", "read", "memory/shared/area/x.md")
    assert (denied.returncode, "deny agent:*" in denied.stdout) == (1, True)
    allowed = own_live.try_run("policy", "check", "agent:alice", "read", "memory/shared/x.md", "--json")
    assert json.loads(allowed.stdout)["allowed"]
    explanation = own_live.run("policy", "explain", "agent:alice", "memory/alice/.versions/x.md")
    assert "write  allowed" in explanation
    assert own_live.try_run("policy", "check", "alice", "read", "x").returncode == 2


def test_an_mcp_session_acts_for_its_agent(own_live: Live, alice: Path) -> None:
    (own_live.at / "memory" / "bob").mkdir(exist_ok=True)
    (own_live.at / "memory" / "bob" / "b.md").write_text("bob's\n")
    calls = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "ctx_read", "arguments": {"path": "memory/bob/b.md"}}},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "ctx_read", "arguments": {"path": ".ctxfs/whoami"}}},
    ]  # fmt: skip
    with subprocess.Popen(
        own_live.command("mcp", "--as", "agent:alice"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        answers = {}
        for call in calls:
            server.stdin.write(json.dumps(call).encode() + b"\n")
            server.stdin.flush()
            if "id" in call:
                answer = json.loads(server.stdout.readline())
                answers[answer["id"]] = answer
        server.stdin.close()
    assert answers[2]["result"]["isError"]
    assert "bob's" not in json.dumps(answers[2])
    assert "agent:alice" in answers[3]["result"]["content"][0]["text"]


def test_no_request_is_sent_before_join_succeeds(tmp_path: Path) -> None:
    places = {name: str(tmp_path / name) for name in ("run", "at", "store", "journal")}
    (tmp_path / "run").mkdir()
    process = MountProcess(
        {**places, "principal": "agent:alice", "loop": "trio", "cache_seconds": 1.0, "allow_other": False},
        lambda _: None,
    )
    asked = []

    async def call(method: str, **arguments: object) -> None:
        asked.append(method)

    process._client.call = call  # type: ignore[method-assign]
    assert refused(lambda: trio.run(process._call, "read")) == errno.EIO
    assert asked == []
    process._is_bound = True
    trio.run(process._call, "read")
    assert asked == ["read"]


def test_a_secret_that_is_written_is_in_the_status(own_live: Live) -> None:
    file = own_live.at / "pad" / "keys.txt"
    file.write_text("first\nexport KEY=" + "AKIA" + "IOSFODNN7EXAMPLE\n")
    secret = eventually("it is noticed", lambda: own_live.status()["secrets"].get("pad/keys.txt"))
    assert secret == ["line 2: AWS Access Key"]
    assert "pad/keys.txt" in own_live.run("status")
    file.write_text("first\n")
    eventually("it is mended", lambda: "pad/keys.txt" not in own_live.status()["secrets"])


@pytest.mark.parametrize(
    "command",
    [
        ["sed", "-i", "s/MARK/agent:alice/"],
        ["perl", "-pi", "-e", "s/MARK/agent:alice/"],
        [
            "vim",
            "-u",
            "NONE",
            "-es",
            "-c",
            "set backup writebackup backupskip=",
            "-c",
            "%s/MARK/agent:alice/",
            "-c",
            "wq",
        ],
        ["vim", "-u", "NONE", "-es", "-c", "set backupcopy=no backupskip=", "-c", "%s/MARK/agent:alice/", "-c", "wq"],
    ],
    ids=["sed", "perl", "vim-backup", "vim-rename"],
)
def test_editors_that_replace_a_file_edit_the_rules(own_live: Live, alice: Path, command: list[str]) -> None:
    rules, folder = own_live.at / ".ctxfs" / "policy.toml", own_live.at / ".ctxfs"
    shared = alice / "memory" / "shared" / "area"
    names = {
        "errors.jsonl",
        "memory.toml",
        "mounts",
        "policy.toml",
        "policy.toml~",
        "skipped.jsonl",
        "status",
        "whoami",
    }
    try:
        rules.write_text(DENY.replace("agent:*", "MARK") + "# kept\n")
        done = subprocess.run(
            [*command, str(rules)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
        )
        assert "agent:alice" in rules.read_text(), done.stderr
        assert rules.read_text().endswith("# kept\n")
        eventually("the rule holds", lambda: not shared.exists())
        assert (own_live.store / "policy.toml").read_text() == rules.read_text()
        assert set(os.listdir(folder)) <= names
        assert code_of(lambda: (alice / ".ctxfs" / "x").write_text("x")) in (errno.EPERM, errno.EACCES, errno.ENOENT)
    finally:
        (own_live.store / "policy.toml").unlink()


def test_people_write_rules_through_the_tree(own_live: Live, alice: Path) -> None:
    mine, shared = own_live.at / ".ctxfs" / "policy.toml", alice / "memory" / "shared" / "area"
    assert not mine.read_text().replace("#", "").startswith("[")  # an example, commented out
    assert not (alice / ".ctxfs" / "policy.toml").exists()
    try:
        mine.write_text(DENY.replace("agent:*", "group:watched") + '[groups]\nwatched = ["agent:alice"]\n')
        eventually("the rule holds", lambda: not shared.exists())
        assert "policy.toml, rule 1" in own_live.run("policy", "explain", "agent:alice", "memory/shared/area")
        mine.write_text("[[rule]\n")
        eventually("the mistake is named", lambda: "policy.toml" in own_live.status()["policy"]["fault"])
        assert "the last good rules stay" in own_live.run("status")
        assert own_live.try_run("doctor").returncode == 6
        assert not shared.exists()
        own_live.run("mount", "--help")  # the store is as usable as before
    finally:
        mine.write_text("# none\n")
    eventually("nothing denies it", shared.exists)
    assert own_live.status()["policy"]["fault"] == ""


def test_rules_are_edited_in_the_editor_of_the_user(own_live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "sed -i '1ioops = 1'")
    done = own_live.try_run("policy", "edit")
    assert done.returncode == 1
    assert "there is no 'oops' here" in done.stderr
    monkeypatch.setenv("EDITOR", "sed -i '/oops/d'")
    assert "in force" in own_live.run("policy", "edit")
    monkeypatch.setenv("EDITOR", "true")
    assert "nothing was changed" in own_live.run("policy", "edit")


def test_agent_appends_to_its_own_records_and_sees_no_other(own_live: Live, alice: Path) -> None:
    own_live.run("record", "--session", "people", "said in private")
    with contextlib.closing(Client(own_live.store / "run", timeout=20)) as client:
        client.call("join", principal="agent:bob")
        client.call("record", said=[{"kind": "note", "text": "bob's"}], session="bob")
    day = datetime.now(UTC).date().isoformat()
    with (alice / "history" / day / "alice.jsonl").open("a") as file:
        file.write("what alice says of herself\n")
    assert sorted(os.listdir(alice / "history")) == [day, "by-session"]
    assert os.listdir(alice / "history" / "by-session") == ["alice"]
    assert os.listdir(alice / "history" / day) == ["alice.jsonl"]
    assert "of herself" in (alice / "history" / day / "alice.jsonl").read_text()
    for other in ("people", "bob"):
        assert refused(lambda name=other: (alice / "history" / day / f"{name}.jsonl").read_text()) == errno.ENOENT  # type: ignore[misc]
    with pytest.raises(OSError, match=r"No such file|denied"):
        (alice / "history" / day / "forged.jsonl").open("a")
    for attempt in ((alice / "history" / day / "alice.jsonl").unlink, lambda: (alice / "history" / "audit").stat()):
        assert refused(attempt) in (errno.EPERM, errno.EACCES, errno.ENOENT)


_STRANGER = """
import os, socket, struct, sys
os.chdir(sys.argv[1])
if sys.argv[3] != "0":
    os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))
peer = socket.socket(socket.AF_UNIX)
peer.settimeout(10)
peer.connect("socket")
frame = [bytes.fromhex(sys.argv[2])]
try:
    peer.sendmsg(frame, [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("3i", os.getpid(), 0, 0))])
except PermissionError:
    print("the kernel refuses forged credentials")
try:
    if os.getuid():
        peer.sendmsg(frame)
    print("answered" if peer.recv(100) else "hung up")
except ConnectionError:
    print("hung up")
"""


@pytest.mark.parametrize(
    ("uid", "said"), [(0, ["answered"]), (65534, ["the kernel refuses forged credentials", "hung up"])]
)
def test_other_user_of_the_machine_is_refused_even_where_modes_permit(
    own_live: Live, uid: int, said: list[str]
) -> None:
    run = own_live.store / "run"
    frame = pack_frame([1, "status", {}]).hex()
    run.chmod(0o711)
    (run / "socket").chmod(0o666)
    try:
        command = [sys.executable, "-c", _STRANGER, str(run), frame, str(uid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    finally:
        (run / "socket").chmod(0o600)
        run.chmod(0o700)
    assert done.stdout.splitlines() == said, done.stderr
