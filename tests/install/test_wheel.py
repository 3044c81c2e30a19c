"""Build the wheel from the files of the repository, install it in clean environments, and use it there.

An environment for each supported Python takes a minute or two, so these run by `make test-wheel`.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
REAL_FOLDERS = {"mounts": "mounts", "mcp_server": "mcp_server", "builtin_tools": "tools"}  # name in ctxfs → folder


def run(*command: str | Path, folder: Path, seconds: int = 900) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CTXFS", "PYTHON"))}
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
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy of the files of the repository, without the output of earlier builds."""
    folder = tmp_path_factory.mktemp("build")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=ROOT)
    for name in filter(None, listed.split("\0")):
        if not (ROOT / name).exists():
            continue
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, folder / "source", folder=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_has_one_top_level_package_with_every_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0] for name in names} == {"ctxfs", wheel.name.split("-cp")[0] + ".dist-info"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "ctxfs").rglob("*.py")}
    for name, folder in REAL_FOLDERS.items():
        real = ROOT / folder
        modules |= {f"ctxfs/{name}/{path.relative_to(real)}" for path in real.rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert {
        f"ctxfs/builtin_tools/{path.parent.name}/tool.toml" for path in (ROOT / "tools").glob("*/tool.toml")
    } <= names


@pytest.mark.parametrize("version", VERSIONS)
def test_installed_package_mounts_searches_and_runs_tools(version: str, wheel: Path, tmp_path: Path) -> None:
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed here: NOT TESTED on it")
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
