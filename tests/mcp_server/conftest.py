"""Provide one store with an owner's mount to the tests of MCP."""

from collections.abc import Iterator

import pytest

from tests.live import Live, make_corpus


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield an indexed store, mounted for its owner and for agent:alice at `mnt-alice`."""
    live = Live(tmp_path_factory.mktemp("mcp"))
    live.corpus = make_corpus(live.store.parent / "corpus")
    live.run("init")
    live.run("add", str(live.corpus), "--name", "handbook")
    live.run("mount", str(live.at))
    live.run("mount", str(live.at.parent / "mnt-alice"), "--as", "agent:alice")
    live.wait_idle()
    yield live
    live.close()
