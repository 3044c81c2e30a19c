"""Check shared stores against a model: random operations on some nodes, interleaved with each other and with faults.

`CTXFS_SHARED_ROUNDS` is the number of operations of a run, `CTXFS_SHARED_SEED` the first seed. A fault prints its seed.
"""

import os
from pathlib import Path

import pytest

from tests.shared.checking.run import check_world

ROUNDS = int(os.environ.get("CTXFS_SHARED_ROUNDS", "60"))
SEED = int(os.environ.get("CTXFS_SHARED_SEED", "1"))
RUNS = int(os.environ.get("CTXFS_SHARED_RUNS", "1"))
# A killed node is an exception, whose frames keep its git processes until they are collected.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.mark.parametrize("nodes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(SEED, SEED + RUNS))
def test_random_operations_with_faults_lose_nothing_and_undo_nothing(
    engine_url: str, store_name: str, tmp_path: Path, seed: int, nodes: int
) -> None:
    check_world(tmp_path, engine_url, store_name, seed, nodes, ROUNDS)
