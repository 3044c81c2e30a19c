"""The worked examples of docs/extending: the code blocks of each page are run as they stand."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ctxfs.daemon.api import methods
from ctxfs.store.layout import Layout, create_store

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "extending"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced code block: its language and its text."""

    language: str
    text: str


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks with a language of a page, in order."""
    blocks = [Block(*match) for match in _BLOCK.findall((PAGES / page).read_text())]
    assert blocks, f"{page} has no code"
    return blocks


def run_python(blocks: list[Block], page: str, **names: Any) -> dict[str, Any]:
    """Run the Python blocks in one namespace, and return it."""
    namespace: dict[str, Any] = {"__name__": "example", **names}
    for number, block in enumerate(blocks, 1):
        if block.language == "python":
            exec(compile(block.text, f"{page}, block {number}", "exec"), namespace)
    return namespace


def run_shell(script: str, folder: Path, **variables: str) -> str:
    """Run a `sh` block in a folder, stopping at the first failure, and return its output."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | variables
    done = subprocess.run(
        ["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def apply_diff(diff: str, root: Path) -> None:
    """Apply a diff without line numbers: the old lines of each hunk occur exactly once."""
    name = re.search(r"^\+\+\+ b/(.*)$", diff, re.MULTILINE)
    assert name is not None
    file = root / name[1]
    text = file.read_text()
    for hunk in re.split(r"^@@ .*\n", diff, flags=re.MULTILINE)[1:]:
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(old) == 1, f"{name[1]} has changed: {old}"
        text = text.replace(old, new)
    file.write_text(text)


def test_format_page_adds_a_format_that_is_found(tmp_path: Path) -> None:
    reader, diff, script = blocks_of("format.md")
    code = tmp_path / "code"
    for package in ("ctxfs", "mounts", "mcp_server", "tools"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    formats = code / "ctxfs" / "index" / "extract" / "formats"
    (formats / "srt.py").write_text(reader.text)
    apply_diff(diff.text, code)
    # A wrapper instead of the installed command, which would import the code of this repository.
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "ctxfs"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ctxfs "$@"\n')
    wrapper.chmod(0o755)
    output = run_shell(
        script.text,
        tmp_path,
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        PYTHONPATH=str(code),
        CTXFS_STORE=str(tmp_path / "store"),
    )
    assert "knowledge/films/a.srt:3-7" in output
    assert "The otter keeps the key." in output
    assert "-->" not in output


def test_tool_page_makes_a_tool_that_counts(tmp_path: Path) -> None:
    store = make_store_with_note(tmp_path)
    definition, program, script = blocks_of("tool.md")
    folder = store.root / "tools" / "word-count"
    folder.mkdir(parents=True)
    (folder / "tool.toml").write_text(definition.text)
    (folder / "run.py").write_text(program.text)
    output = run_shell(script.text, tmp_path, CTXFS_STORE=str(store.root))
    assert '{"words": 2}' in output
    assert "Count the words of a text file" in output


def test_embedder_page_embeds_by_a_class_and_by_a_server() -> None:
    namespace = run_python(blocks_of("embedder.md"), "embedder.md")
    assert namespace["remote"].dimensions == namespace["embedder"].dimensions


def test_rpc_method_page_adds_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store_with_note(tmp_path)
    monkeypatch.setattr(methods, "METHODS", methods.METHODS)  # so that the example's change ends with the test
    namespace = run_python(blocks_of("rpc-method.md"), "rpc-method.md", store_folder=store.root)
    assert namespace["answer"] == {"words": 4}
    assert "word_count" in methods.METHODS


def make_store_with_note(folder: Path) -> Layout:
    """Create a store with the note that the pages use."""
    store = create_store(folder / "store")
    (store.tree / "memory" / "shared" / "note.md").write_text("rotate the keys now\n")
    return store
