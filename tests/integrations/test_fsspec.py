"""Test the fsspec file system: the abstract suite that fsspec publishes, and properties of the tree."""

import io
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.tests import abstract

import ctxfs
from ctxfs.integrations.fsspec_filesystem import ContextFileSystem
from tests.live import Live


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = Live(tmp_path_factory.mktemp("store"))
    live.run("init")
    yield live
    ContextFileSystem.clear_instance_cache()


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, live: Live) -> ContextFileSystem:
        return ContextFileSystem(str(live.store), skip_instance_cache=False)

    @pytest.fixture
    def fs_path(self) -> str:
        return "pad/fsspec"


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass


@pytest.fixture
def fs(live: Live) -> ContextFileSystem:
    return ContextFileSystem(str(live.store))


def test_urls_open_the_tree(live: Live, fs: ContextFileSystem) -> None:
    with fsspec.open("ctx://pad/t/table.csv", "w", store=str(live.store)) as file:
        file.write("a,b\n1,2\n")
    with fsspec.open("ctx:///pad/t/table.csv", store=str(live.store)) as file:
        assert file.read() == b"a,b\n1,2\n"
    assert fs.cat_file("pad/t/table.csv", 2, 4) == b"b\n"
    assert fs.ls("", detail=False)[:2] == ["AGENTS.md", "context"]
    assert fs.glob("pad/**/*.csv") == ["pad/t/table.csv"]


def test_file_is_one_version_when_it_is_closed(live: Live, fs: ContextFileSystem) -> None:
    with ctxfs.open(str(live.store)) as store:
        fs.pipe_file("pad/v/x.md", b"one\n")
        with fs.open("pad/v/x.md", "ab") as file:
            file.write(b"two\n")
            file.write(b"three\n")
            assert store.read("pad/v/x.md") == b"one\n"
        assert store.read("pad/v/x.md") == b"one\ntwo\nthree\n"
        with pytest.raises(RuntimeError), fs.open("pad/v/x.md", "wb") as file:
            file.write(b"half")
            raise RuntimeError
        assert store.read("pad/v/x.md") == b"one\ntwo\nthree\n"
        with pytest.raises(RuntimeError), fs.transaction:
            with fs.open("pad/v/y.md", "wb") as file:
                file.write(b"y")
            raise RuntimeError
        assert not store.exists("pad/v/y.md")
        with fs.transaction, fs.open("pad/v/y.md", "wb") as file:
            file.write(b"y")
        assert store.read("pad/v/y.md") == b"y"
        with pytest.raises(FileExistsError):
            fs.open("pad/v/y.md", "xb")
        with pytest.raises(IsADirectoryError):
            fs.open("pad/v", "wb")


def test_rights_are_those_of_the_principal(live: Live) -> None:
    fs = ContextFileSystem(str(live.store), principal="agent:alice")
    fs.pipe_file("memory/alice/fact/x.md", b"mine\n")
    with pytest.raises((PermissionError, FileNotFoundError)):
        fs.pipe_file("memory/bob/fact/x.md", b"no\n")
    with pytest.raises(PermissionError):
        fs.pipe_file("AGENTS.md", b"no\n")


def test_pickled_file_system_is_the_same(live: Live, fs: ContextFileSystem, tmp_path: Path) -> None:
    import pickle

    fs.pipe_file("pad/p/x", b"1")
    assert pickle.loads(pickle.dumps(fs)).cat_file("pad/p/x") == b"1"
    fs.get("pad/p/x", str(tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == b"1"
    assert isinstance(fs.open("pad/p/x"), io.IOBase)
