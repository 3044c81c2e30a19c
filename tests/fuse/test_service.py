"""Test `ctxfs service`: systemd accepts the unit, and its process mounts until it is stopped."""

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.live import Live, eventually

pytestmark = pytest.mark.fuse


def unit_of(live: Live, monkeypatch: pytest.MonkeyPatch, at: Path, *options: str) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(live.at.parent / "config"))
    live.run("service", "install", "--no-start", *options, str(at))
    (unit,) = (live.at.parent / "config" / "systemd" / "user").glob("ctxfs-*.service")
    return unit


def test_service_of_the_unit_mounts_and_unmounts(own_live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    at = own_live.at.parent / 'mnt "odd" 100% name'
    unit = unit_of(own_live, monkeypatch, at, "--read-only")
    (line,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    command = shlex.split(line.partition("=")[2].replace("%%", "%"))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        eventually("it is mounted", lambda: os.path.ismount(at))
        assert "pad" in os.listdir(at)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert not os.path.ismount(at)


def test_a_mount_process_that_dies_does_not_end_the_service(own_live: Live) -> None:
    at = own_live.at.parent / "mnt-service"
    with subprocess.Popen(own_live.command("mount", "--foreground", str(at)), stdout=subprocess.PIPE) as process:

        def pid() -> int:
            return next((int(mount["pid"]) for mount in own_live.status()["mounts"] if mount["at"] == str(at)), 0)

        eventually("it is mounted", lambda: os.path.ismount(at))
        first = eventually("it is known", pid)
        os.kill(first, signal.SIGKILL)
        eventually("another one serves it", lambda: pid() not in (0, first) and os.path.ismount(at))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert not os.path.ismount(at)


def test_systemd_finds_no_fault_in_the_unit(own_live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = unit_of(own_live, monkeypatch, own_live.at.parent / "mnt-a")
    if shutil.which("systemd-analyze") is None:
        assert "[Install]\nWantedBy=default.target" in unit.read_text()
        return
    done = subprocess.run(["systemd-analyze", "verify", "--user", str(unit)], capture_output=True, text=True)
    assert str(unit.name) not in done.stderr, done.stderr


def test_uninstalled_service_is_not_removed(own_live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_live.at.parent / "config"))
    done = own_live.try_run("service", "remove", "/nowhere")
    assert done.returncode == 1 and "no service" in done.stderr


@pytest.mark.parametrize("has_systemctl", [False, True], ids=["without systemctl", "systemctl fails"])
def test_install_that_fails_leaves_no_unit(
    own_live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_systemctl: bool
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    if has_systemctl:
        (programs / "systemctl").write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
        (programs / "systemctl").chmod(0o755)
    (programs / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    done = own_live.try_run("service", "install", str(tmp_path / "mnt"))
    assert done.returncode != 0
    assert ("Failed to connect" if has_systemctl else "no systemctl here") in done.stderr
    assert "wrote" not in done.stdout
    assert not list((tmp_path / "config").rglob("*.service"))
    monkeypatch.undo()
