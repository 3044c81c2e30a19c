"""Provide published clients and suites, which `make test-mcp` fetches; ctxfs itself does not need them."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, eventually, make_corpus

ROOT = Path(__file__).parent.parent.parent
PEERS = Path(os.environ.get("CTXFS_PEERS", ROOT / "build" / "peers"))
SKILL = """---
name: key-rotation
description: Rotate the signing keys of the platform
---

# Rotating keys

See references/STEPS.md.
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fail if tests of this folder are selected and the peers are missing."""
    mine = [item for item in items if Path(__file__).parent in Path(item.fspath).parents]
    if mine and not (PEERS / "node_modules").is_dir():
        raise pytest.UsageError(f"no peers in {PEERS}: run `make test-mcp`")


def node(program: str, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a program of the peers with their Node."""
    executable = PEERS / "node_modules" / ".bin" / program
    command = [PEERS / "node_modules" / ".bin" / "node", executable if executable.exists() else program, *arguments]
    return subprocess.run(command, cwd=PEERS, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with a daemon, a source, and a skill with a folder in it."""
    live = Live(tmp_path_factory.mktemp("peers"))
    live.corpus = make_corpus(live.store.parent / "corpus")
    skill = live.corpus / "skills" / "key-rotation"
    (skill / "references").mkdir(parents=True)
    (skill / "SKILL.md").write_text(SKILL)
    (skill / "references" / "STEPS.md").write_text("1. Rotate.\n")
    live.run("init")
    live.run("add", str(live.corpus), "--name", "handbook")
    live.run("mount", str(live.at))
    live.wait_idle()
    yield live
    live.close()


@pytest.fixture(scope="session")
def url(served: Live) -> Iterator[str]:
    """Yield the address of the tree's HTTP server, with the additions for the conformance suite, for any client."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "tests.mcp_server.everything", str(served.store), f"127.0.0.1:{port}"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:

        def answers() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        eventually("it listens", answers)
        yield f"http://127.0.0.1:{port}/mcp"
        process.terminate()
        _, stderr = process.communicate(timeout=20)
    assert "mcp_server/" not in stderr, (
        stderr
    )  # a traceback of ours; the SDK logs its own, of requests to sessions that ended
