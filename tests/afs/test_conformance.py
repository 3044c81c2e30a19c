"""Run the published conformance suite of AFS, with its own runner, against `ctxfs serve`.

The suite is not part of this repository: `make test-afs AFS_SUITE=<folder of the suite>`. Its cases over WebSocket are
for user interfaces and are skipped by the runner.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live
from tests.serve.server import Server, issue_token, serving

ROOT = Path(__file__).parent.parent.parent
BUILD = ROOT / "build" / "afs"
SUITE = os.environ.get("AFS_SUITE", "")
MOUNTS = {"alpha": "provider-a", "beta": "provider-b"}
HTTP_CASES = 83
_PASSED = re.compile(r"(\d+) passed")

pytestmark = pytest.mark.skipif(not SUITE, reason="AFS_SUITE names no suite")


@pytest.fixture(scope="module")
def suite() -> Path:
    """Return a copy of the suite beside the packages that it needs."""
    copy = BUILD / "suite"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(SUITE, copy, ignore=shutil.ignore_patterns("node_modules"))
    return copy


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, suite: Path) -> Live:
    live = Live(tmp_path_factory.mktemp("afs"))
    live.run("init")
    root = live.store / "tree" / "pad" / "afs"
    shutil.copytree(suite / "fixtures", root)
    for name, provider in MOUNTS.items():
        shutil.copytree(suite / "fixtures-l3" / provider, root / name)
    return live


@pytest.fixture(scope="module")
def servers(live: Live) -> Iterator[dict[str, Server]]:
    root = ("--afs-root", "pad/afs")
    with (
        serving(live, *root) as plain,
        serving(live, *root, "--afs-actions", "safe") as safe,
        serving(live, *root, "--afs-block", "archive") as blocking,
    ):
        yield {"plain": plain, "safe": safe, "blocking": blocking}


def run_level(suite: Path, server: Server, token: str, level: str, name: str = "") -> str:
    """Run the cases of a level whose names contain `name`, and return the report of the runner."""
    program = ["node", "--import", "tsx", "--import", str(Path(__file__).with_name("authorize.mjs"))]
    runner = [*program, str(suite / "src" / "runner.ts"), "--url", f"{server.url}/rpc", "--level", level]
    done = subprocess.run(
        [*runner, "--specs", str(suite / "specs"), *(("--filter", name) if name else ())],
        cwd=BUILD,
        env={**os.environ, "CTXFS_TOKEN": token, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_all_cases_over_http_pass(suite: Path, live: Live, servers: dict[str, Server]) -> None:
    token = issue_token(live, "agent:alice")
    reports = [run_level(suite, servers["plain"], token, level) for level in ("l1", "l2", "l3", "l4", "l6")]
    reports.append(run_level(suite, servers["safe"], token, "l5", "exec guard"))
    reports.append(run_level(suite, servers["blocking"], token, "l5", "blocked actions"))
    passed = sum(int(_PASSED.findall(report)[-1]) for report in reports)
    print(f"\nAFS conformance: {passed} of {HTTP_CASES} cases over HTTP passed")
    assert passed == HTTP_CASES
