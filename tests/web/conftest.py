"""Provide a page of the shared store, and its owner's session."""

from collections.abc import Iterator

import pytest

from tests.live import Live
from tests.web.site import Site, Visitor, running


@pytest.fixture(scope="session")
def site(live: Live) -> Iterator[Site]:
    with running(live) as made:
        yield made


@pytest.fixture
def owner(site: Site) -> Visitor:
    return site.visitor()
