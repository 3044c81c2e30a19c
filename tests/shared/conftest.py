"""A PostgreSQL server and an object storage a worker, and the engines that the contract runs over."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctxfs.shared.engines import open_log
from ctxfs.shared.log import SharedLog, Unreachable
from tests.live import eventually
from tests.shared.engines import PASSWORD, Postgres, running_postgres
from tests.shared.seaweedfs import SeaweedFs, running_seaweedfs

Opener = Callable[..., SharedLog]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFs]:
    with running_seaweedfs() as server:
        # Its first write makes volumes, which takes a busy machine longer than a request may.
        eventually("it stores an object", lambda: _stores(server), 60)
        yield server


def _stores(server: SeaweedFs) -> bool:
    try:
        open_log(server.url(), "first", PASSWORD, create=True).close()
    except Unreachable:
        return False
    return True


@pytest.fixture(params=["folder", "postgres", pytest.param("s3", marks=pytest.mark.long)])
def engine_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an engine."""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        return server.url()
    if request.param == "s3":
        storage: SeaweedFs = request.getfixturevalue("seaweedfs")
        return storage.url()
    (tmp_path / "engine").mkdir()
    return f"file://{tmp_path}/engine"


@pytest.fixture
def store_name() -> str:
    """Return a name that no other test uses in the engine."""
    return f"s{secrets.token_hex(6)}"


@pytest.fixture
def opened(engine_url: str, store_name: str) -> Iterator[Opener]:
    """Return a function that opens the log of one store, as often as wanted."""
    logs: list[SharedLog] = []

    def open_again(store: str = store_name, *, create: bool = True) -> SharedLog:
        logs.append(open_log(engine_url, store, PASSWORD, create=create))
        return logs[-1]

    yield open_again
    for log in logs:
        log.close()
