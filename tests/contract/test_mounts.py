"""Test the contract of `Mount` on each provider and on the namespace that combines them."""

import contextlib
import errno
import json
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path as HostPath

import pytest
import trio

from ctxfs.app import App
from ctxfs.model.change import Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.entry import Entry
from ctxfs.model.mount import Backing, Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.mounts.folders import create_source_mount
from ctxfs.store.config import add_source
from ctxfs.store.layout import Layout
from ctxfs.store.settings import ServerSource, Source
from ctxfs.versions.objects.commits import Actor
from ctxfs.vfs.caller_context import BranchRef, in_branch
from ctxfs.vfs.mount_wrapper import MountWrapper

ROOT_FOLDER = HostPath(__file__).parent.parent.parent
SOME_QUESTION = Path.parse("how to rotate keys")


@pytest.fixture
def app(layout: Layout, corpus: HostPath, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """Yield an opened store with one source and no index."""
    add_source(layout.config, Source("handbook", str(corpus)))
    add_source(layout.config, ServerSource("wiki", ("true",)))
    add_sqlite_provider(layout, corpus.parent, monkeypatch)
    folder = layout.servers / "wiki"
    (folder / "resources" / "memo").mkdir(parents=True)
    (folder / "resources" / "memo" / "one.md").write_text("a document")
    tool = {"name": "look", "inputSchema": {"type": "object"}, "description": "Look"}
    prompt = {"name": "greet", "arguments": [{"name": "who", "required": True}]}
    state = {
        "name": "wiki",
        "instructions": "Be careful.",
        "tools": [tool],
        "prompts": [prompt],
        "resources": [{"uri": "memo://one.md", "name": "one"}],
        "templates": [{"uriTemplate": "memo://made/{id}", "name": "made"}],
    }
    (folder / "state.json").write_text(json.dumps(state))
    memory = layout.tree / "memory" / "a" / "fact"
    memory.mkdir(parents=True)
    (memory / "one.md").write_text("a fact")
    made = App(layout)
    trio.run(made.tree.apply, MakeDir(Path.parse("context/my-task")))
    yield made
    made.archive.close()


def add_sqlite_provider(layout: Layout, folder: HostPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the provider of docs/extending/mount.md, as a package with an entry point, and name it in ctxfs.toml."""
    page = (ROOT_FOLDER / "docs/extending/mount.md").read_text()
    code = re.search(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert code is not None
    packages = folder / "packages"
    information = packages / "ctxfs_sqlite-1.0.dist-info"
    information.mkdir(parents=True, exist_ok=True)
    (packages / "ctxfs_sqlite.py").write_text(code[1])
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: ctxfs-sqlite\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[ctxfs.mounts]\nsqlite = ctxfs_sqlite:provide\n")
    monkeypatch.syspath_prepend(packages)
    monkeypatch.delitem(sys.modules, "ctxfs_sqlite", raising=False)
    with contextlib.closing(sqlite3.connect(folder / "orders.db")) as database:
        database.executescript("CREATE TABLE orders (item, amount); INSERT INTO orders VALUES ('bolt', 3), ('nut', 4);")
    section = f'[[provider]]\nname = "orders"\nkind = "sqlite"\noptions = {{ file = "{folder / "orders.db"}" }}\n'
    layout.config.write_text(f"{layout.config.read_text()}\n{section}")


def at(place: str) -> Callable[[App], Mount]:
    return lambda app: app.namespace.mountpoints[Path.parse(place)]


PROVIDERS: dict[str, Callable[[App], Mount]] = {
    **{
        place or "root": at(place)
        for place in (
            "",
            "memory",
            "pad",
            "search",
            "context",
            "human",
            "history",
            "tools",
            ".ctxfs",
            "knowledge/handbook",
            "knowledge/wiki",
            "knowledge/orders",
        )
    },
    "namespace": lambda app: app.tree,
    "view": lambda app: app.search_view.at(Path.parse("knowledge/handbook")),
    "versions": lambda app: app.namespace._views[".versions"].at(Path.parse("memory/a/fact")),
    "past": lambda app: committed(app).namespace._views[".versions"].at(Path.parse("memory/a/fact")),
    "branches": lambda app: branched(app).namespace.mountpoints[Path.parse(".branches")],
    "memory of a branch": lambda app: AreaOfBranch(branched(app).namespace.mountpoints[Path.parse("memory")]),
    "pad of a branch": lambda app: AreaOfBranch(branched(app).namespace.mountpoints[Path.parse("pad")]),
    "snapshots": lambda app: committed(app).namespace.mountpoints[Path.parse(".snapshots")],
}


class AreaOfBranch(MountWrapper):
    """An area of the tree, with `idea` as the acting branch."""

    async def stat(self, path: Path) -> Entry:
        with in_branch(BranchRef("idea")):
            return await self._tree.stat(path)

    async def list(self, path: Path) -> Sequence[Entry]:
        with in_branch(BranchRef("idea")):
            return await self._tree.list(path)

    async def read(self, path: Path) -> bytes:
        with in_branch(BranchRef("idea")):
            return await self._tree.read(path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        with in_branch(BranchRef("idea")):
            return await self._tree.metadata(path)

    async def apply(self, change: Change) -> None:
        with in_branch(BranchRef("idea")):
            await self._tree.apply(change)

    def backing(self, path: Path) -> Backing | None:
        with in_branch(BranchRef("idea")):
            return self._tree.backing(path)


def branched(app: App) -> App:
    app.archive.branches.create("idea", Actor("human:owner", "s", "test", ""))
    return app


def committed(app: App) -> App:
    app.archive.snapshots.create("first")
    return app


@pytest.fixture(params=PROVIDERS)
def mount(request: pytest.FixtureRequest, app: App) -> Mount:
    return PROVIDERS[request.param](app)


async def every_entry(mount: Mount, below: Path = ROOT, depth: int = 5) -> list[tuple[Path, object]]:
    entries: list[tuple[Path, object]] = []
    for entry in await mount.list(below):
        path = below / entry.name
        entries.append((path, entry))
        if entry.is_dir and depth:
            entries += await every_entry(mount, path, depth - 1)
    return entries


async def code_of(call: Callable[[], object]) -> int:
    try:
        await call()  # type: ignore[misc]
    except OSError as error:
        assert error.strerror
        return error.errno or 0
    return 0


def test_the_root_is_a_directory(mount: Mount) -> None:
    assert trio.run(mount.stat, ROOT).is_dir


def test_listing_and_stat_agree_and_a_read_has_their_size(mount: Mount) -> None:
    async def check() -> None:
        for path, listed in await every_entry(mount):
            entry = await mount.stat(path)
            if path.name == "status":
                continue  # it describes the running process, so it changes between two reads
            assert (entry.name, entry.kind) == (path.name, listed.kind)  # type: ignore[attr-defined]
            assert listed.size in (None, entry.size)  # type: ignore[attr-defined]
            if entry.kind == "file":
                assert len(await mount.read(path)) == entry.size

    trio.run(check)


def test_names_are_listed_once_and_in_a_stable_order(mount: Mount) -> None:
    async def names() -> list[str]:
        return [entry.name for entry in await mount.list(ROOT)]

    first = trio.run(names)
    assert first == trio.run(names)
    assert len(set(first)) == len(first)


def test_missing_path_returns_enoent(mount: Mount) -> None:
    async def check() -> None:
        missing = Path.parse(".no-such-thing")
        assert await code_of(lambda: mount.stat(missing)) == errno.ENOENT
        assert await code_of(lambda: mount.read(missing)) == errno.ENOENT

    trio.run(check)


def test_a_directory_is_not_read_and_a_file_is_not_listed(mount: Mount) -> None:
    async def check() -> None:
        assert await code_of(lambda: mount.read(ROOT)) == errno.EISDIR
        for path, entry in await every_entry(mount):
            if entry.kind == "file":  # type: ignore[attr-defined]
                assert await code_of(lambda path=path: mount.list(path)) in (errno.ENOTDIR, errno.ENOENT)

    trio.run(check)


def test_created_path_exists_and_a_refused_change_has_no_effect(mount: Mount) -> None:
    async def check() -> None:
        before = {str(path) for path, _ in await every_entry(mount)}
        for change in (
            Put(Path.parse("new-file.md"), b"x"), MakeDir(SOME_QUESTION), Move(Path.parse("nope"), Path.parse("nope2")),
            SetMeta(Path.parse("nope"), "user.x", b"1"), Remove(Path.parse("nope")),
        ):  # fmt: skip
            code = await code_of(lambda change=change: mount.apply(change))
            if code == 0:
                assert await mount.stat(change.path)
                await mount.apply(Remove(change.path))
            assert {str(path) for path, _ in await every_entry(mount)} == before

    trio.run(check)


def test_backing_file_contains_the_bytes(mount: Mount) -> None:
    async def check() -> None:
        for path, entry in await every_entry(mount):
            backing = mount.backing(path)
            if backing is not None and entry.kind == "file":  # type: ignore[attr-defined]
                assert HostPath(backing.root, *backing.relative.parts).read_bytes() == await mount.read(path)

    trio.run(check)


def test_no_link_leads_out_of_a_folder(app: App, corpus: HostPath, tmp_path: HostPath) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s.txt").write_text("secret")
    (corpus / "dir-link").symlink_to(tmp_path / "secret")
    mount = create_source_mount(Source("x", str(corpus)))

    async def check() -> None:
        assert await code_of(lambda: mount.read(Path.parse("dir-link/s.txt"))) == errno.ENOTDIR
        assert await code_of(lambda: mount.read(Path.parse("outside-link"))) == errno.ELOOP
        assert (await mount.stat(Path.parse("outside-link"))).target == "/etc/hostname"

    trio.run(check)


def test_broken_mount_returns_eio_and_the_others_work(app: App) -> None:
    class Broken(Mount):
        async def stat(self, path: Path) -> object:  # type: ignore[override]
            raise ZeroDivisionError("unforeseen")

        async def list(self, path: Path) -> object:  # type: ignore[override]
            raise ZeroDivisionError("unforeseen")

        async def read(self, path: Path) -> bytes:
            raise ZeroDivisionError("unforeseen")

    app.namespace.attach(Path.parse("broken"), Broken())

    async def check() -> None:
        assert await code_of(lambda: app.tree.read(Path.parse("broken/x"))) == errno.EIO
        assert {"broken", "memory"} <= {entry.name for entry in await app.tree.list(ROOT)}
        assert await app.tree.read(Path.parse("memory/a/fact/one.md")) == b"a fact"

    trio.run(check)


def test_moves_between_mounts_are_exdev_and_mountpoints_stay(app: App) -> None:
    async def check() -> None:
        move = Move(Path.parse("memory/a/fact/one.md"), Path.parse("pad/one.md"))
        assert await code_of(lambda: app.tree.apply(move)) == errno.EXDEV
        assert await code_of(lambda: app.tree.apply(Remove(Path.parse("memory")))) == errno.EPERM
        assert await app.tree.read(Path.parse("memory/a/fact/one.md")) == b"a fact"

    trio.run(check)


def test_source_with_a_missing_folder_does_not_hide_the_others(app: App, layout: Layout, tmp_path: HostPath) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    add_source(layout.config, Source("gone", str(gone)))
    app.sources.reload()
    gone.rmdir()

    async def check() -> None:
        assert {entry.name for entry in await app.tree.list(Path.parse("knowledge"))} == {
            "gone",
            "handbook",
            "orders",
            "wiki",
        }

    trio.run(check)


def test_provider_of_the_documentation_shows_rows_as_files(app: App) -> None:
    data = trio.run(app.tree.read, Path.parse("knowledge/orders/orders/2.json"))
    assert json.loads(data) == {"item": "nut", "amount": 4}
    assert app.sources.providers.status() == {"orders": "ok"}


def test_provider_that_cannot_be_opened_is_an_empty_directory_with_a_reason(app: App, layout: Layout) -> None:
    text = layout.config.read_text()
    layout.config.write_text(
        f'{text}\n[[provider]]\nname = "absent"\nkind = "nowhere"\n'
        '[[provider]]\nname = "wrong"\nkind = "sqlite"\noptions = { file = "relative.db" }\n'
    )
    app.sources.reload()
    assert trio.run(app.tree.list, Path.parse("knowledge/absent")) == []
    status = app.sources.providers.status()
    assert status["absent"].startswith("down: no installed package offers 'nowhere'")
    assert status["wrong"].startswith("down: ValueError: 'file' is the absolute path")
    layout.config.write_text(text)
    app.sources.reload()
    assert "absent" not in {entry.name for entry in trio.run(app.tree.list, Path.parse("knowledge"))}
