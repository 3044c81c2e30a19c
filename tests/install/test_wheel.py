"""Build the wheel from the files of the repository, install it in clean environments, and use it there.

An environment for each supported Python takes a minute or two, so these run by `make test-wheel`.
"""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
HOME = "https://example.org/ctxfs"
MAX_BASE_MB = 200  # without the bytecode that pip compiles
PROGRAMS = ROOT / "build" / "release" / "bin"  # release/build.py installs them
UV = PROGRAMS / "uv"
REAL_FOLDERS = {"mounts": "mounts", "mcp_server": "mcp_server", "builtin_tools": "tools"}  # name in ctxfs → folder


def run(*command: str | Path, folder: Path, seconds: int = 900, more: Mapping[str, str] | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CTXFS", "PYTHON"))}
    environment |= {"UV_PYTHON_DOWNLOADS": "never", **(more or {})}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, env=environment)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def find_python(version: str) -> Path | None:
    """Return an interpreter of a version: this one, one of the PATH, or one that pyenv has installed."""
    if sys.version.startswith(f"{version}."):
        return Path(sys.executable).resolve()
    installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    named = shutil.which(f"python{version}")
    return installed[-1] if installed else Path(named) if named else None


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a release, as release/build.py makes and checks it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, ROOT / "release" / "build.py", "--out", folder, "--home", HOME, folder=ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (file,) = built.glob("*.whl")
    return file


def list_modules() -> set[str]:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "ctxfs").rglob("*.py")}
    for name, folder in REAL_FOLDERS.items():
        real = ROOT / folder
        modules |= {f"ctxfs/{name}/{path.relative_to(real)}" for path in real.rglob("*.py")}
    return modules


def test_wheel_has_one_top_level_package_with_every_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    name = wheel.name.split("-cp")[0]
    assert {path.split("/")[0] for path in names} == {"ctxfs", f"{name}.dist-info", f"{name}.data"}
    assert {path for path in names if path.endswith(".py")} == list_modules()
    assert {
        f"ctxfs/builtin_tools/{path.parent.name}/tool.toml" for path in (ROOT / "tools").glob("*/tool.toml")
    } <= names
    assert {f"ctxfs/mcp_server/views/{path.name}" for path in (ROOT / "mcp_server" / "views").iterdir()} <= names
    assert {f"{name}.data/data/share/man/man1/{page}.1" for page in ("ctxfs", "ctxfs-mount", "ctxfs-search")} <= names


def test_index_accepts_the_wheel_and_shows_its_page(wheel: Path) -> None:
    assert "-cp311-abi3-manylinux_2_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    addresses = dict(value.split(", ") for value in metadata.get_all("Project-URL", []))
    assert addresses["Homepage"] == HOME
    links = re.findall(r"\]\(([^)]+)\)", metadata.get_payload())
    assert len(links) > 10
    assert all(link.startswith(("https://", "#")) for link in links), links
    assert f"{HOME}/raw/main/docs/session.svg" in links
    local = {
        link.removeprefix(f"{HOME}/blob/main/").split("#")[0] for link in links if link.startswith(f"{HOME}/blob/")
    }
    assert all((ROOT / path).exists() for path in local)


def test_source_distribution_has_every_module_and_the_compiled_part(built: Path) -> None:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert list_modules() | {"ctxfs/fuse/transports/fastpath.c", "setup.py", "LICENSE"} <= names


class Command:
    """The installed command, on a store of its own."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program, folder

    def run(self, *arguments: str) -> str:
        return run(self._program, "--store", self._folder / "store", *arguments, folder=self._folder, seconds=120)

    def check_search(self) -> None:
        """Check that a document is found by its words."""
        (self._folder / "notes").mkdir()
        (self._folder / "notes" / "keys.md").write_text("# Keys\n\nSigning keys rotate every 90 days.\n")
        self.run("init")
        self.run("add", str(self._folder / "notes"))
        assert "rotate every 90 days" in self.run("search", "mode:words rotate keys")

    def check_installer(self, name: str) -> None:
        """Check that doctor names the installer, and its commands for the missing packages."""
        report = self._doctor()
        assert report["python"]["detail"].endswith(f"installed by {name}")
        assert not report["model"]["ok"]
        assert "ctxfs[meaning] @ file://" in report["model"]["remedy"]

    def _doctor(self) -> dict[str, dict[str, Any]]:
        words = [self._program, "--store", self._folder / "store", "doctor", "--json"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        return {check["name"]: check for check in json.loads(done.stdout)}


def require_python(version: str) -> Path:
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed here: NOT TESTED on it")
    return python


def test_base_needs_no_compiler_and_little_space(wheel: Path, tmp_path: Path) -> None:
    """Only wheels are installed: a package that has none for this Python would need a compiler."""
    python = require_python(VERSIONS[-1])
    run(UV, "venv", "--quiet", "--python", python, tmp_path / "env", folder=tmp_path)
    install = [UV, "pip", "install", "--quiet", "--only-binary", ":all:", "--link-mode", "copy"]
    run(*install, "--python", tmp_path / "env" / "bin" / "python", wheel, folder=tmp_path)
    listed = run("du", "-sm", tmp_path / "env", folder=tmp_path)
    assert int(listed.split()[0]) <= MAX_BASE_MB
    command = Command(tmp_path / "env" / "bin" / "ctxfs", tmp_path)
    command.check_search()
    command.check_installer("uv")


def test_uv_installs_the_tool(wheel: Path, tmp_path: Path) -> None:
    python = require_python(VERSIONS[0])
    places = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    run(UV, "tool", "install", "--quiet", "--python", python, wheel, folder=tmp_path, more=places)
    command = Command(tmp_path / "bin" / "ctxfs", tmp_path)
    command.check_search()
    command.check_installer("uv tool")
    run(UV, "tool", "uninstall", "--quiet", "ctxfs", folder=tmp_path, more=places)
    assert not (tmp_path / "bin" / "ctxfs").exists()


def test_pipx_installs_the_command_and_its_manual(wheel: Path, tmp_path: Path) -> None:
    python = require_python(VERSIONS[0])
    names = {"PIPX_HOME": "home", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man"}
    places = {name: str(tmp_path / folder) for name, folder in names.items()}
    run(PROGRAMS / "pipx", "install", "--quiet", "--python", python, wheel, folder=tmp_path, more=places)
    assert (tmp_path / "man" / "man1" / "ctxfs-mount.1").exists()
    command = Command(tmp_path / "bin" / "ctxfs", tmp_path)
    command.check_search()
    command.check_installer("pipx")


def test_pip_installs_for_a_user(wheel: Path, tmp_path: Path) -> None:
    python = require_python(VERSIONS[0])
    stdlib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))", folder=tmp_path)
    if (Path(stdlib.strip()) / "EXTERNALLY-MANAGED").exists():
        pytest.skip("pip refuses --user for this Python (PEP 668): NOT TESTED")
    base = {"PYTHONUSERBASE": str(tmp_path / "base")}
    run(python, "-m", "pip", "install", "--quiet", "--user", wheel, folder=tmp_path, more=base)
    assert "ctxfs" in run(tmp_path / "base" / "bin" / "ctxfs", "--version", folder=tmp_path, more=base)


@pytest.mark.parametrize("version", VERSIONS)
def test_installed_package_mounts_searches_and_runs_tools(version: str, wheel: Path, tmp_path: Path) -> None:
    python = require_python(version)
    run(python, "-m", "venv", tmp_path / "env", folder=tmp_path)
    programs = tmp_path / "env" / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", wheel, folder=tmp_path)
    for name in ("mounts", "mcp_server", "tools"):
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
        run(programs / "python", "-c", code, folder=tmp_path)

    def ctxfs(*arguments: str) -> str:
        return run(programs / "ctxfs", "--store", str(tmp_path / "store"), *arguments, folder=tmp_path, seconds=120)

    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "keys.md").write_text("# Keys\n\nSigning keys rotate every 90 days.\n")
    ctxfs("init")
    ctxfs("add", str(tmp_path / "notes"))
    ctxfs("mount", str(tmp_path / "m"))
    try:
        (tmp_path / "m" / "memory" / "shared" / "zebra.md").write_text("The zebra is called Zanzibar.\n")
        ctxfs("status", "--wait", "words")
        assert "memory/shared/zebra.md" in ctxfs("search", "mode:words zanzibar")
        assert "rotate every 90 days" in (tmp_path / "m" / "knowledge" / "notes" / "keys.md").read_text()
        assert "2026-12-25" in ctxfs("tools", "run", "calendar", "--json", '{"text": "2026-12-24 + 1 day"}')
        assert "memory/shared/zebra.md" in ctxfs("log")
    finally:
        ctxfs("unmount", "--all")
