"""Provide an agent of the store `live`, and the fixtures of tests/versions, which drive versions without a daemon."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.live import Live
from tests.trust.principal import PrincipalClient
from tests.versions.conftest import past as past


@pytest.fixture(scope="module")
def alice(live: Live) -> Iterator[PrincipalClient]:
    agent = PrincipalClient(live, "agent:alice")
    with contextlib.closing(agent.client):
        yield agent
