"""Test the lifecycle of mounts: obstacles are reported, closed files survive every kill."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from ctxfs.fuse.mounting import is_dead
from ctxfs.model.errors import CommandError
from tests.live import Live, code_of, eventually

pytestmark = pytest.mark.fuse


def is_mounted(at: Path) -> bool:
    return any(line.split(" ")[4] == str(at) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def test_closed_file_survives_a_kill_of_all_processes(own_live: Live) -> None:
    live = own_live
    written = {}
    for number in range(50):
        path = live.at / "memory" / "shared" / f"{number}.md"
        path.write_text(f"fact {number}\n" * (number + 1))
        written[path.name] = path.read_text()
    daemon, mount = live.daemon_pid(), live.mount_pid()
    os.kill(daemon, signal.SIGKILL)
    os.kill(mount, signal.SIGKILL)
    eventually("the mount is dead, and no bare directory", lambda: is_dead(live.at))
    live.run("mount", str(live.at))
    assert {path.name: path.read_text() for path in (live.at / "memory" / "shared").iterdir()} == written
    eventually(
        "search has caught up",
        lambda: "memory/shared/49.md" in live.try_run("search", "fact 49", "-n", "50").stdout,
    )


def test_backed_files_are_served_while_the_daemon_restarts(own_live: Live) -> None:
    live = own_live
    daemon = live.daemon_pid()
    os.kill(daemon, signal.SIGKILL)
    assert "Rotate the signing keys" in (live.at / "knowledge" / "handbook" / "rotation.md").read_text()
    (live.at / "pad" / "meanwhile.txt").write_text("kept")
    eventually("another daemon", lambda: live.daemon_pid() != daemon and (live.store / "run" / "socket").exists())

    def answers() -> bool:
        try:
            names = os.listdir(live.at / "search" / "rotate signing keys")
            return any(name.startswith("01 ") and "rotation.md:" in name for name in names)
        except OSError:
            return False

    eventually("questions are answered again", answers)
    assert (live.at / "pad" / "meanwhile.txt").read_text() == "kept"
    assert any(mount["at"] == str(live.at) for mount in live.status()["mounts"])
    live.run("unmount", str(live.at))
    assert not is_mounted(live.at)


def test_a_mount_process_that_dies_is_replaced(own_live: Live) -> None:
    live = own_live
    pid = live.mount_pid()
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        try:
            return "pad" in os.listdir(live.at) and live.mount_pid() != pid
        except (OSError, StopIteration):
            return False

    eventually("the tree is back", back)


def test_adopted_mount_process_that_dies_is_replaced(own_live: Live) -> None:
    """Mount processes of a replaced daemon are not children of the new one."""
    live = own_live
    daemon, pid = live.daemon_pid(), live.mount_pid()
    os.kill(daemon, signal.SIGKILL)

    def adopted() -> bool:
        try:
            return live.daemon_pid() != daemon and live.mount_pid() == pid
        except (CommandError, OSError, StopIteration, ValueError):
            return False

    eventually("the next daemon has adopted it", adopted, 60)
    os.kill(pid, signal.SIGKILL)
    (live.at / "pad" / "after.md").write_text("kept")  # waits in the dead connection
    assert (live.store / "tree" / "pad" / "after.md").read_text() == "kept"
    assert live.mount_pid() != pid
    live.run("unmount", "--all")
    assert os.listdir(live.at) == []


def test_files_written_below_a_mount_point_are_brought_into_the_store(own_live: Live) -> None:
    live = own_live
    live.run("unmount", "--all")
    (live.at / "pad" / "mine").mkdir(parents=True)
    (live.at / "pad" / "mine" / "note.md").write_text("written to the bare directory")
    (live.at / "link").symlink_to("/etc/hostname")
    output = live.try_run("mount", str(live.at))
    assert output.returncode == 0
    (folder,) = (live.store / "found").iterdir()
    assert str(folder / "files") in output.stderr, "their location is not reported"
    assert (folder / "files" / "pad" / "mine" / "note.md").read_text() == "written to the bare directory"
    assert os.readlink(folder / "files" / "link") == "/etc/hostname"
    assert any(str(folder) in error["message"] for error in live.errors())
    assert str(folder) in live.run("status")
    done = live.try_run("doctor")
    assert str(folder) in done.stdout + done.stderr
    assert done.returncode == 6
    live.run("unmount", "--all")
    assert os.listdir(live.at) == []


def test_process_that_waits_for_a_response_can_be_killed(own_live: Live) -> None:
    live = own_live
    os.kill(live.daemon_pid(), signal.SIGSTOP)
    try:
        waiting = subprocess.Popen(["ls", str(live.at / "search" / "a question nobody answers")])
        eventually("it waits", lambda: _waits(waiting.pid))
        waiting.kill()
        assert waiting.wait(10) == -signal.SIGKILL
        assert (live.at / "pad").is_dir()
    finally:
        os.kill(live.daemon_pid(), signal.SIGCONT)
    assert "status" in os.listdir(live.at / ".ctxfs")


def _waits(pid: int) -> bool:
    """Return True while a process waits for the response to a FUSE request."""
    return "request_wait_answer" in Path(f"/proc/{pid}/wchan").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_daemon_unmounts_cleanly(own_live: Live, number: int) -> None:
    live = own_live
    (live.at / "pad" / "x").write_text("x")
    os.kill(live.daemon_pid(), number)
    eventually("it is unmounted", lambda: not is_mounted(live.at))
    assert (live.store / "tree" / "pad" / "x").read_text() == "x"
    assert os.listdir(live.at) == []


def test_the_daemon_ends_after_the_last_unmount(own_live: Live) -> None:
    live = own_live
    pid = live.daemon_pid()
    live.run("unmount", str(live.at))
    eventually("the daemon is gone", lambda: not Path(f"/proc/{pid}").exists())


def test_foreground_stays_until_it_is_interrupted(own_live: Live) -> None:
    live = own_live
    at = live.at.parent / "mnt-foreground"
    # Background jobs of a shell ignore SIGINT, and this test may be part of one.
    command = ["env", "--default-signal=INT", *live.command("mount", str(at), "--foreground")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        eventually("it is mounted", lambda: is_mounted(at))
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert not is_mounted(at)
    finally:
        process.kill()
        process.communicate()


def test_a_dead_mount_is_recognised_and_replaced(own_live: Live) -> None:
    live = own_live
    assert "pad" in os.listdir(live.at)  # so that the kernel has cached attributes of the root
    os.kill(live.daemon_pid(), signal.SIGSTOP)
    daemon, pid = live.daemon_pid(), mount_pid_offline(live)
    os.kill(pid, signal.SIGKILL)
    os.kill(daemon, signal.SIGKILL)
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        eventually("the mount is dead", lambda: os.listdir(live.at) and False)
    live.run(
        "mount", str(live.at)
    )  # the daemon that this starts may have replaced the mount before the request arrives
    assert "pad" in os.listdir(live.at)
    again = live.try_run("mount", str(live.at))
    assert (again.returncode, "already a mount point" in again.stderr) == (5, True)


def mount_pid_offline(live: Live) -> int:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == live.daemon_pid() and "index_process" not in (process / "cmdline").read_text():
                    return int(process.name)
            except OSError:
                continue
    raise AssertionError("no mount process")


def test_obstacle_to_a_mount_is_reported(own_live: Live, tmp_path: Path) -> None:
    live = own_live
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()
    file = tmp_path / "file"
    file.touch()
    for arguments, words, code in (
        (("mount", str(full)), "not empty", 1),
        (("mount", str(file)), "not a directory", 1),
        (("mount", str(live.at)), "already a mount point", 5),
        (("unmount", str(full)), "not a mount point", 1),
        (("add", str(tmp_path / "nowhere")), "does not exist", 1),
        (("add", str(file)), "is not a folder", 1),
        (("add", str(tmp_path), "--name", "handbook"), "exists already", 1),
        (("add", str(live.corpus), "--name", "a/b"), "cannot name a source", 2),
        (("add", str(live.store)), "inside the store", 1),
        (("remove", "nothing"), "no source is called", 1),
        (("daemon",), "belongs to another ctxfs daemon", 5),
    ):
        done = live.try_run(*arguments)
        assert done.returncode == code, (arguments, done)
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_busy_mount_point_is_unmounted_only_lazily(own_live: Live) -> None:
    live = own_live
    with open(live.at / "pad" / "f", "w") as file:
        done = live.try_run("unmount", str(live.at))
        assert (done.returncode, "in use" in done.stderr) == (5, True)
        file.write("still fine")
    assert (live.at / "pad" / "f").read_text() == "still fine"
    with open(live.at / "pad" / "f"):
        live.run("unmount", "--lazy", str(live.at))
    eventually("it is gone", lambda: not is_mounted(live.at))


def test_full_disk_returns_enospc_and_breaks_nothing_else(own_live: Live, tmp_path: Path) -> None:
    assert os.geteuid() == 0, "this test mounts a small tmpfs, which needs root; CI runs it as root"
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        live = own_live
        live.run("add", str(small), "--writable")
        target = live.at / "knowledge" / "small"
        eventually("the source", target.exists)
        (target / "kept").write_text("kept")
        with pytest.raises(OSError, match="No space left"):
            (target / "big").write_bytes(b"x" * 3_000_000)
        assert (target / "kept").read_text() == "kept"
        (target / "big").unlink()
        # The indexer may still have the removed file open, so that the disk is full until it has read it.
        eventually("there is room", lambda: code_of(lambda: (target / "after").write_text("room again")) == 0)
        assert (small / "after").read_text() == "room again"
        live.run("remove", "small")
    finally:
        eventually(
            "the tmpfs can be unmounted",
            lambda: subprocess.run(["umount", str(small)], capture_output=True).returncode == 0,
        )


def test_vanished_folder_is_reported_and_other_sources_stay(own_live: Live) -> None:
    live = own_live
    moved = live.corpus.with_name("moved")
    assert (live.at / "knowledge" / "handbook" / "rotation.md").exists()
    live.corpus.rename(moved)

    assert {"knowledge", "memory", "pad"} <= set(os.listdir(live.at))
    assert "down" in live.run("status")
    assert live.try_run("doctor").returncode == 6
    moved.rename(live.corpus)
    eventually("it is back", lambda: (live.at / "knowledge" / "handbook" / "rotation.md").exists())


def test_trio_request_loop_serves_the_same_files(tmp_path: Path) -> None:
    """Check `mount.loop = "trio"`, the loop of pyfuse3, which is the fallback."""
    live = Live(tmp_path)
    live.run("init")
    config = live.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[mount]", '[mount]\nloop = "trio"'))
    try:
        live.run("mount", str(live.at))
        (live.at / "pad" / "f").write_text("through trio")
        assert (live.store / "tree" / "pad" / "f").read_text() == "through trio"
        assert "status" in os.listdir(live.at / ".ctxfs")
        live.run("unmount", str(live.at))
        assert not is_mounted(live.at)
    finally:
        live.close()
