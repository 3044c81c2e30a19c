"""Test that each engine needs its own library only."""

import sys
from collections.abc import Callable

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.shared.engines import open_log
from ctxfs.shared.log import EMPTY
from tests.shared.engines import PASSWORD, Postgres
from tests.shared.seaweedfs import SeaweedFs

_MODULES = ("postgres_log", "s3_log", "object_storage")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that hides an installed library."""

    def hide(library: str) -> None:
        for name in _MODULES:
            monkeypatch.delitem(sys.modules, f"ctxfs.shared.{name}", raising=False)
        for name in [name for name in sys.modules if name.startswith(f"{library}.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, library, None)

    return hide


def check_works(url: str, store: str) -> None:
    log = open_log(url, store, PASSWORD, create=True)
    assert log.head() == EMPTY and log.now()
    log.close()


def check_refused(url: str, library: str, extra: str) -> None:
    with pytest.raises(CommandError, match=f"needs {library}$") as refused:
        open_log(url, "main", PASSWORD)
    assert f"ctxfs[{extra}]" in refused.value.remedy


def test_postgresql_works_without_the_library_of_object_storage(
    without: Callable[[str], None], postgres: Postgres, store_name: str
) -> None:
    without("obstore")
    check_works(postgres.url(), store_name)
    check_refused("s3://bucket/prefix", "obstore", "s3")


def test_missing_library_of_postgresql_is_named(without: Callable[[str], None]) -> None:
    without("psycopg")
    check_refused("postgresql://ctxfs@127.0.0.1:1/none", "psycopg", "postgres")


@pytest.mark.long
def test_object_storage_works_without_the_library_of_postgresql(
    without: Callable[[str], None], seaweedfs: SeaweedFs, store_name: str
) -> None:
    url = seaweedfs.url()
    without("psycopg")
    check_works(url, store_name)
