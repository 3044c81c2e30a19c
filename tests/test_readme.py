"""Test the commands of the README: every line of its `sh` blocks is run, top to bottom, in one home."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import Live, make_corpus

ROOT = Path(__file__).parent.parent


def shell_lines(page: str) -> list[str]:
    """Return the lines of the blocks marked `sh`, without `make`, which calls these tests."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip() and not line.startswith("make ")]


@pytest.mark.fuse
@pytest.mark.parametrize(("page", "fewest"), [("README.md", 15), ("docs/tour.md", 50)])
def test_every_command_of_a_page_works(page: str, fewest: int, tmp_path: Path) -> None:
    make_corpus(tmp_path / "handbook")
    model = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "ctxfs/models"
    place = tmp_path / ".local/share/ctxfs/models"
    place.parent.mkdir(parents=True)
    place.symlink_to(model)
    environment = {name: value for name, value in os.environ.items() if name not in ("XDG_DATA_HOME", "CTXFS_STORE")}
    environment |= {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    lines = shell_lines(page)
    assert len(lines) > fewest
    # Each line on its own, so that a failure names it; all in one shell would hide all but the last.
    try:
        for line in lines:
            done = subprocess.run(
                ["bash", "-c", line],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=60,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            assert done.stdout or shlex.split(line)[0] in (
                "mkdir",
                "echo",
                "printf",
                "rm",
                "rmdir",
                "touch",
                "setfattr",
                "git",
            ), f"{line}: no output"
            if "rotate keys" in line and " record " not in line and not line.startswith("printf"):
                assert "rotation.md" in done.stdout or "ninety days" in done.stdout, f"{line}\n{done.stdout}"
    finally:
        subprocess.run(["bash", "-c", "ctxfs unmount --all"], env=environment, cwd=tmp_path, capture_output=True)


@pytest.mark.fuse
def test_contexts_by_shell_scripts_work(own_live: Live, tmp_path: Path) -> None:
    own_live.wait_idle()
    (tmp_path / "ctx").symlink_to(own_live.at)
    repository = tmp_path / "repo"
    repository.mkdir()
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    (repository / "rotate.py").write_text("DAYS = 90\n")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    (repository / "rotate.py").write_text("DAYS = 30  # rotation of signing keys\n")
    environment = os.environ | {
        "CTXFS_STORE": str(own_live.store),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    run_blocks("recipes/contexts.md", environment, tmp_path)
    assert "ninety days" in (tmp_path / "prompt.md").read_text()
    assert "DAYS = 30" in (tmp_path / "prompt.md").read_text()
    assert "decided" in (tmp_path / "digest.md").read_text()


@pytest.mark.fuse
def test_what_the_documents_of_mcp_and_tools_show_works(own_live: Live, tmp_path: Path) -> None:
    own_live.wait_idle()
    (tmp_path / "project").mkdir()
    environment = os.environ | {
        "CTXFS_STORE": str(own_live.store),
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    run_blocks("mcp.md", environment, tmp_path / "project")
    (tmp_path / "other").mkdir()
    run_blocks("tools.md", environment, tmp_path / "other")
    assert "mcpServers" not in json.loads((tmp_path / "project" / ".mcp.json").read_text())


def run_blocks(document: str, environment: dict[str, str], folder: Path) -> None:
    """Each `sh` block of a document, by a shell that stops at the first failure; each prints something."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / document).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        done = subprocess.run(
            ["bash", "-ec", block],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        assert done.stdout, f"{block}: no output"


def test_every_file_that_the_documents_link_to_exists() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_make_names_what_it_can_make() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {line.split()[0] for line in done.stdout.splitlines()} >= {"run", "stop", "test", "bench"}


@pytest.mark.fuse
def test_picture_of_the_readme_shows_a_real_run() -> None:
    done = subprocess.run([sys.executable, "docs/session.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
