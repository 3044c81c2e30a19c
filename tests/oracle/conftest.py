"""Real tokenizers to count by. `make test-budget` fetches them; they are no part of ctxfs and nothing else needs them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ORACLES = Path(os.environ.get("CTXFS_ORACLES", "build/oracles")) / "litellm" / "litellm_core_utils" / "tokenizers"
FILES = ("anthropic_tokenizer.json", "deepseek_tokenizer.json")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fail loudly when they are asked for and not there."""
    mine = [item for item in items if Path(__file__).parent in Path(item.fspath).parents]
    if mine and not ORACLES.is_dir():
        raise pytest.UsageError(f"no tokenizers in {ORACLES}: run `make test-budget`")


@pytest.fixture(scope="session")
def oracles() -> Mapping[str, Callable[[str], int]]:
    """Name, as a request gives it → tokens of a text."""
    os.environ["TIKTOKEN_CACHE_DIR"] = str(ORACLES)
    from ctxfs.context.build.tokens import open_tokenizer

    names = ("cl100k_base", "o200k_base", *(str(ORACLES / name) for name in FILES))
    return {name: open_tokenizer(name).count for name in names}
