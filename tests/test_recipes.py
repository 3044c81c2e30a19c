"""Test docs/recipes: each block marked `sh` runs as it stands, in a home of its own; the other blocks by their shape."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import make_corpus
from tests.test_readme import run_blocks

RECIPES = Path(__file__).parent.parent / "docs" / "recipes"
IN_A_HOME = ("README", "claude-code", "codex", "cursor", "obsidian", "ci", "team", "backup", "upgrade", "uninstall")
NOT_IN_A_HOME = {"contexts", "docker", "langgraph"}  # test_readme, test_container; tests/frameworks


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home with a folder of documents and the embedding model."""
    make_corpus(tmp_path / "handbook")
    (tmp_path / "project").mkdir()
    model = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "ctxfs/models"
    place = tmp_path / ".local/share/ctxfs/models"
    place.parent.mkdir(parents=True)
    place.symlink_to(model)
    return tmp_path


@pytest.fixture
def environment(home: Path) -> Iterator[dict[str, str]]:
    """Return the variables of the home; its daemons end afterwards."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("CTXFS_", "XDG_"))}
    variables = outer | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        yield variables
    finally:
        for settings in home.glob("**/ctxfs.toml"):
            words = [sys.executable, "-m", "ctxfs", "--store", str(settings.parent), "unmount", "--all"]
            subprocess.run(words, env=variables, capture_output=True)


def json_of(path: Path) -> dict[str, object]:
    value: dict[str, object] = json.loads(path.read_text())
    return value


# The state of the home after a page.
OUTCOMES: dict[str, Callable[[Path], bool]] = {
    "claude-code": lambda home: json_of(home / "project/.mcp.json") == {} and not (home / "project/CLAUDE.md").exists(),
    "codex": lambda home: tomllib.loads((home / "project/.codex/config.toml").read_text()) == {},
    "cursor": lambda home: json_of(home / "project/.cursor/mcp.json") == {},
    "ci": lambda home: "keyctl" in (home / "project/context.md").read_text(),
    "team": lambda home: "Tuesdays" in (home / "ben/tree/memory/shared/release.md").read_text(),
    "backup": lambda home: (home / "restored/store/history").exists() and (home / "shared.ctxb").stat().st_size > 0,
    "uninstall": lambda home: not (home / ".local/share/ctxfs/store").exists(),
}


@pytest.mark.fuse
@pytest.mark.long
@pytest.mark.parametrize("page", IN_A_HOME)
def test_recipe_works(page: str, home: Path, environment: dict[str, str]) -> None:
    if page != "README":
        run_blocks("recipes/README.md", environment, home / "project")
    run_blocks(f"recipes/{page}.md", environment, home / "project")
    assert OUTCOMES.get(page, lambda home: True)(home)


def test_index_lists_every_recipe_and_each_is_tested() -> None:
    pages = {path.stem for path in RECIPES.glob("*.md")}
    assert pages == {*IN_A_HOME, *NOT_IN_A_HOME}
    listed = set(re.findall(r"\]\((\S+?)\.md\) \|", (RECIPES / "README.md").read_text()))
    assert listed == pages - {"README"}


def test_code_of_the_recipe_for_langgraph_is_python() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (RECIPES / "langgraph.md").read_text(), re.MULTILINE | re.DOTALL)
    assert "ContextStore" in {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
