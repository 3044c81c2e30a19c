"""Test the commands that add optional packages, for each installer, and the sentence of each missing package."""

import importlib.util
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from ctxfs.cli.main import cli
from ctxfs.context.build.tokens import FileTokenizer
from ctxfs.fuse.transports import make_transport
from ctxfs.index.engines.embedders.sentence_model import SentenceModel
from ctxfs.model import installation
from ctxfs.model.errors import CommandError
from ctxfs.model.installation import EXTRAS, Installer, find_installer, install_command, pip_command, upgrade_command

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set of modules that seem not to be installed."""
    names: set[str] = set()
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in names else real(name, *rest))
    return names


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}  # type: ignore[index]


def test_extras_bring_the_modules_that_commands_ask_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for extra, modules in EXTRAS.items():
        brought = requirement_names(extras[extra])
        for requirement in extras[extra]:
            if nested := re.fullmatch(r"ctxfs\[(.*)\]", requirement):
                brought |= requirement_names([name for other in nested[1].split(",") for name in extras[other]])
        assert set(modules) == brought - {"ctxfs"}, extra
    separate = {"meaning", "postgres", "s3", "shared"}
    assert set(EXTRAS) == set(re.search(r"\[(.*)\]", extras["all"][0])[1].split(",")) | separate  # type: ignore[index]
    base = requirement_names(project["dependencies"])
    assert not base & {"pyfuse3", "hnswlib", "onnx", "onnxruntime", "safetensors"}


@pytest.mark.parametrize(
    ("receipt", "installer"),
    [("uv-receipt.toml", Installer.UV_TOOL), ("pipx_metadata.json", Installer.PIPX), ("pyvenv.cfg", Installer.PIP)],
)
def test_installer_is_known_by_its_receipt(receipt: str, installer: Installer, tmp_path: Path) -> None:
    (tmp_path / receipt).write_text("")
    assert find_installer(str(tmp_path)) is installer


def test_environment_without_pip_is_one_of_uv(absent: set[str], tmp_path: Path) -> None:
    absent.add("pip")
    assert find_installer(str(tmp_path)) is Installer.UV


@pytest.mark.parametrize("installer", Installer)
def test_commands_name_the_extra_and_the_program(installer: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_installer", lambda: installer)
    words = shlex.split(install_command("graph"))
    assert words[-1].startswith("ctxfs[graph]")
    assert (sys.executable in words) == (installer in (Installer.PIP, Installer.UV))
    assert shlex.split(upgrade_command())[-1] == "ctxfs"


def test_pip_is_found_beside_an_environment_without_one(
    absent: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    absent.add("pip")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="neither pip nor uv"):
        pip_command()
    for name, command in (("pip3", ["pip3"]), ("uv", ["uv", "tool", "run", "pip"])):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        assert pip_command() == [str(tmp_path / command[0]), *command[1:]]


def test_each_missing_package_is_a_sentence_with_the_command(absent: set[str], tmp_path: Path) -> None:
    absent |= {"pyfuse3", "onnx", "onnxruntime", "tokenizers", "jinja2"}
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.onnx").write_text("")
    with pytest.raises(CommandError, match="needs pyfuse3") as refused:
        make_transport("trio")
    assert "ctxfs[fuse]" in refused.value.remedy
    with pytest.raises(CommandError, match="needs onnxruntime, tokenizers") as refused:
        SentenceModel(tmp_path, 1)
    assert "ctxfs[meaning]" in refused.value.remedy
    with pytest.raises(OSError, match=r"needs tokenizers: .*ctxfs\[meaning\]"):
        FileTokenizer(tmp_path / "tokenizer.json")
    shell = CliRunner(env={"XDG_DATA_HOME": str(tmp_path / "data"), "NO_COLOR": "1"})
    for command, extra in ((["model", "install"], "model"), (["web", "--no-open"], "web")):
        error = shell.invoke(cli, command).exception
        assert isinstance(error, CommandError)
        assert f"ctxfs[{extra}]" in error.remedy


def test_doctor_finds_no_fault_in_the_absence_of_an_extra(absent: set[str], tmp_path: Path) -> None:
    absent |= {"pyfuse3", "hnswlib"}
    result = CliRunner().invoke(cli, ["--store", str(tmp_path / "none"), "doctor", "--json"])
    checks = {check["name"]: check for check in json.loads(result.output)}
    for name, extra in (("pyfuse3", "fuse"), ("graph", "graph")):
        assert checks[name]["ok"]
        assert f"ctxfs[{extra}]" in checks[name]["detail"]
