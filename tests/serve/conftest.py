"""Provide a served store, and tokens of two agents."""

from collections.abc import Iterator

import pytest

from tests.live import Live
from tests.serve.server import Server, issue_token, serving


@pytest.fixture(scope="session")
def server(live: Live) -> Iterator[Server]:
    with serving(live) as made:
        yield made


@pytest.fixture(scope="session")
def alice(live: Live) -> str:
    return issue_token(live, "agent:alice")


@pytest.fixture(scope="session")
def bob(live: Live) -> str:
    return issue_token(live, "agent:bob", "--allow", "pad/**:lrw", "--allow", "knowledge/**:lr")
