"""Provide real tokenizers, which `make test-budget` fetches; ctxfs itself does not need them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ORACLES = Path(os.environ.get("CTXFS_ORACLES", "build/oracles")) / "litellm" / "litellm_core_utils" / "tokenizers"
FILES = ("anthropic_tokenizer.json", "deepseek_tokenizer.json")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fail if tests of this folder are selected and the tokenizers are missing."""
    mine = [item for item in items if Path(__file__).parent in Path(item.fspath).parents]
    if mine and not ORACLES.is_dir():
        raise pytest.UsageError(f"no tokenizers in {ORACLES}: run `make test-budget`")


@pytest.fixture(scope="session")
def oracles() -> Mapping[str, Callable[[str], int]]:
    """Return the token counter for each tokenizer name, as a request contains it."""
    os.environ["TIKTOKEN_CACHE_DIR"] = str(ORACLES)
    from ctxfs.context.build.tokens import open_tokenizer

    names = ("cl100k_base", "o200k_base", *(str(ORACLES / name) for name in FILES))
    return {name: open_tokenizer(name).count for name in names}
