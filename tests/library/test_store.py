"""Test the Python library, with a daemon and without one, blocking and asynchronous."""

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import ctxfs
from ctxfs.library import requests
from ctxfs.rpc.client import Client, NoDaemon
from tests.live import Live, eventually

AGENT = "agent:alice"
FACT = "The signing keys are rotated every ninety days."


@pytest.fixture(scope="module", params=["daemon", "no daemon"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = Live(tmp_path_factory.mktemp("store"))
    live.run("init")
    live.corpus.mkdir()
    (live.corpus / "keys.md").write_text("# Keys\n\nRotate the signing keys every ninety days.\n")
    live.run("add", str(live.corpus), "--name", "handbook")
    if request.param == "no daemon":
        yield live
        return
    daemon = start_daemon(live)
    live.wait_idle()
    yield live
    stop_daemon(daemon)


def start_daemon(live: Live) -> subprocess.Popen[bytes]:
    daemon = subprocess.Popen(live.command("daemon"), stderr=subprocess.DEVNULL)

    def is_served() -> bool:
        try:
            Client(live.store / "run").close()
        except NoDaemon:
            return False
        return True

    eventually("the daemon answers", is_served)
    return daemon


def stop_daemon(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    daemon.wait(20)


@pytest.fixture
def store(live: Live) -> Iterator[ctxfs.Store]:
    with ctxfs.open(str(live.store), principal=AGENT) as store:
        yield store


def test_import_is_cheap_and_names_the_library() -> None:
    code = (
        "import sys, ctxfs; assert not {'trio', 'msgpack', 'anyio', 'numpy'} & set(sys.modules); "
        "assert {'open', 'open_async', 'Store', 'CommandError'} <= set(dir(ctxfs)); ctxfs.nothing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "module 'ctxfs' has no attribute 'nothing'" in done.stderr


def test_files_are_written_read_edited_and_removed(store: ctxfs.Store) -> None:
    path = "pad/library/deep/plan.md"
    written = store.write(path, "one\r\ntwo\r\n")
    assert store.read(path) == b"one\r\ntwo\r\n"
    assert written.revision == store.meta(path)["sha256"]
    edited = store.edit(path, "one\ntwo", "one\nthree")
    assert store.read(path) == b"one\r\nthree\r\n", "the line ends of the file are kept"
    with pytest.raises(OSError, match="not in it") as missing:
        store.edit(path, "two", "four")
    assert missing.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="more than once, in lines 1, 2"):
        store.edit(path, "e", "E")
    assert store.read(path) == b"one\r\nthree\r\n"
    store.edit(path, "e", "E", replace_all=True)
    assert store.read_text(path) == "onE\r\nthrEE\r\n"
    with pytest.raises(OSError) as stale:
        store.write(path, "late", expects=edited.revision)
    assert stale.value.errno == errno.ESTALE
    with pytest.raises(FileExistsError):
        store.write(path, "late", expects="absent")
    store.move(path, "pad/library/deep/new.md")
    assert [entry.name for entry in store.list("pad/library/deep")] == ["new.md"]
    assert not store.exists(path)
    store.remove("pad/library/deep/new.md")
    with pytest.raises(FileNotFoundError):
        store.read("pad/library/deep/new.md")
    store.make_directory("pad/library/a/b")
    store.make_directory("pad/library/a/b")
    assert store.stat("pad/library/a/b").is_dir
    with pytest.raises(FileExistsError):
        store.write("pad/library/file", "")
        store.make_directory("pad/library/file")


def test_attributes_are_set_read_and_removed(store: ctxfs.Store) -> None:
    store.write("pad/library/x.md", "x", attributes={"tags": "a,b", "user.mine": "1"})
    assert store.meta("pad/library/x.md")["tags"] == "a,b"
    assert store.meta("pad/library/x.md")["user.mine"] == "1"
    store.set_meta("pad/library/x.md", {"tags": None, "description": "short"})
    assert "tags" not in store.meta("pad/library/x.md")
    assert store.meta("pad/library/x.md")["description"] == "short"


def test_policy_is_that_of_the_principal(store: ctxfs.Store, live: Live) -> None:
    with ctxfs.open(str(live.store)) as person:
        person.write("memory/bob/secret.md", "otter\n")
        assert person.whoami().startswith("human:")
    with pytest.raises(OSError) as hidden:
        store.read("memory/bob/secret.md")
    assert hidden.value.errno in (errno.ENOENT, errno.EACCES)
    assert not store.exists("memory/bob/secret.md")
    assert not list(store.grep("otter"))
    with pytest.raises(PermissionError):
        store.write("knowledge/handbook/keys.md", "no")
    with pytest.raises(PermissionError):
        store.snapshot("mine")
    with pytest.raises(ctxfs.CommandError):
        ctxfs.open(str(live.store), principal="no principal")
    with pytest.raises((ctxfs.CommandError, OSError)):
        ctxfs.open(str(live.store), token="ctx_forged")


def test_missing_store_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ctxfs.CommandError, match="no store at") as error:
        ctxfs.open(str(tmp_path / "none"))
    assert "init" in error.value.remedy


def test_questions_have_typed_answers(store: ctxfs.Store) -> None:
    answer = store.search("how often are the signing keys rotated?", below="knowledge")
    assert answer.verdict != "unknown"
    assert answer[0].place == "knowledge/handbook/keys.md:1-3"
    assert "ninety days" in answer[0].text
    assert [hit.path for hit in answer] == ["knowledge/handbook/keys.md"] * len(answer)
    assert store.search("zzyzx qqfoo", below="knowledge").verdict != "known"
    matches = store.grep("^Rotate", below="knowledge")
    assert [(match.path, match.line) for match in matches] == [("knowledge/handbook/keys.md", 3)]
    assert store.glob("**/keys.md") == ["knowledge/handbook/keys.md"]
    with pytest.raises(OSError) as malformed:
        store.grep("(")
    assert malformed.value.errno == errno.EINVAL
    with pytest.raises(FileNotFoundError):
        store.search("keys", below="knowledge/none")


def test_contexts_fit_their_budget_and_are_reproducible(store: ctxfs.Store) -> None:
    context = store.context("how often are the signing keys rotated?", budget=400, paths=["knowledge"])
    assert "every ninety days" in str(context)
    assert 0 < context.tokens <= 400
    assert context.manifest["request"]["budget"] == 400
    assert store.verify_context(context)
    with pytest.raises(OSError, match="unknown key") as unknown:
        store.context("keys", options={"nonsense": 1})
    assert unknown.value.errno == errno.EINVAL


def test_event_log_is_appended_to_and_read(store: ctxfs.Store) -> None:
    assert store.record("hello", {"kind": "output", "text": "We chose Zanzibar.", "speaker": "Bob"}, session="lib") == 2
    records = store.history(session="lib")
    assert [(record.kind, record.text, record.speaker) for record in records] == [
        ("note", "hello", ""),
        ("output", "We chose Zanzibar.", "Bob"),
    ]
    assert records[0].principal == AGENT
    assert records[0].time is not None


def test_versions_are_listed_shown_undone_and_restored(store: ctxfs.Store) -> None:
    path = "pad/library-versions/x.md"
    store.write(path, "one")
    first = store.log(path, changes=True)[0]
    assert first.principal == AGENT
    assert first.changed is not None
    assert [change.path for change in first.changed] == [path]
    store.write(path, "two")
    assert store.show(path, first.revision) == b"one"
    assert "+two" in store.diff(path, first.revision)
    preview = store.undo(path, dry_run=True)
    assert (preview.version, store.read(path)) == (None, b"two")
    undone = store.undo(path)
    assert undone.version is not None
    assert store.read(path) == b"one"
    store.redo(path)
    assert store.read(path) == b"two"
    store.restore(path, first.revision)
    assert store.read(path) == b"one"


def test_memories_are_added_checked_corrected_and_promoted(store: ctxfs.Store) -> None:
    written = store.memory.add(FACT, source="knowledge/handbook/keys.md:3", confidence=0.9)
    assert written.path == "memory/alice/fact/the-signing-keys-are-rotated-every-ninety-days.md"
    assert store.meta(written.path)["confidence"] == "0.9"
    (checked,) = store.memory.check(written.path)
    assert (checked.state, checked.citations[0].cites) == ("holds", "knowledge/handbook/keys.md:3")
    eventually("it is found", lambda: store.memory.search(FACT, kind="fact", owner="alice").hits)
    again = store.memory.add(FACT)
    assert again.path != written.path
    assert any("already" in warning for warning in again.warnings)
    with pytest.raises(FileExistsError):
        store.memory.add(FACT, name=written.path.rpartition("/")[2])
    correction = store.memory.correct(
        again.path, "The signing keys are rotated every 30 days.", because="policy changed"
    )
    assert correction.was.startswith("The signing keys")
    assert "30 days" in store.read_text(correction.path)
    store.write("pad/library/thought.md", "Lunch is at noon on Fridays.\n")
    promotion = store.memory.promote("pad/library/thought.md", "memory/alice/fact")
    assert promotion.review, "nothing supports it"
    assert promotion.reasons
    assert store.exists("pad/library/thought.md")
    store.memory.set_state(again.path, "archived")
    assert store.meta(again.path)["state"] == "archived"
    assert store.memory.add("日本語", kind="episodic").path == "memory/alice/episodic/memory.md"


def test_closed_store_says_so(live: Live) -> None:
    store = ctxfs.open(str(live.store))
    store.close()
    store.close()
    with pytest.raises(ctxfs.CommandError, match="closed"):
        store.stat("memory")


def test_threads_share_a_store(store: ctxfs.Store) -> None:
    names = [f"pad/threads/{number}.md" for number in range(20)]
    threads = [threading.Thread(target=store.write, args=(name, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.read_text(name) for name in names] == names


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_asynchronous_store_has_every_method(live: Live, backend: str) -> None:
    blocking = {name for name in dir(ctxfs.Store) if not name.startswith("_")} - {"send"}
    assert blocking <= set(dir(ctxfs.AsyncStore)), "each method of Store has its asynchronous form"

    async def main() -> None:
        async with await ctxfs.open_async(str(live.store), principal=AGENT) as store:
            await store.write("pad/async/x.md", "x")
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(store.write, f"pad/async/{number}.md", "x")
            assert len(await store.list("pad/async")) == 6
            assert (await store.memory.folder("fact")) == "memory/alice/fact"
            with pytest.raises(FileNotFoundError):
                await store.read("pad/async/none")

    anyio.run(main, backend=backend)


class TestReplacedDaemon:
    """A store object outlives the daemon that it was opened with."""

    @pytest.fixture
    def live(self, tmp_path: Path) -> Live:
        live = Live(tmp_path)
        live.run("init")
        return live

    def test_requests_go_on_with_what_is_there(self, live: Live) -> None:
        with ctxfs.open(str(live.store), principal=AGENT) as store:
            store.write("pad/x.md", "local")
            daemon = start_daemon(live)
            assert store.read("pad/x.md") == b"local"
            store.write("pad/x.md", "daemon")
            assert store.log("pad/x.md")[0].principal == AGENT
            stop_daemon(daemon)
            daemon = start_daemon(live)
            assert store.stat("pad/x.md").size == 6
            assert store.whoami() == AGENT
            stop_daemon(daemon)

    def test_changes_are_watched(self, live: Live) -> None:
        with ctxfs.open(str(live.store)) as person, ctxfs.open(str(live.store), principal=AGENT) as store:
            with pytest.raises(ctxfs.CommandError, match="no ctxfs daemon"):
                store.watch()
            daemon = start_daemon(live)
            for path in ("pad/seen/a.md", "memory/bob/a.md"):
                person.write(path, "1")
            changes = store.watch(timeout=0.2)
            person.write("memory/bob/a.md", "22")
            person.write("pad/seen/a.md", "22")
            seen = set[str]()
            # A daemon that has just started reports the whole tree, once it follows the files.
            eventually("the change is seen", lambda: seen.update(next(changes)) or {"pad/seen/a.md", ""} & seen)
            person.remove("pad/seen/a.md")
            seen.clear()
            eventually("the deletion is seen", lambda: seen.update(next(changes)) or "pad/seen/a.md" in seen)
            changes.close()
            assert not [path for path in seen if path.startswith("memory/bob") or path.endswith(".tmp")]
            quiet = store.watch("memory/alice", timeout=0.01)
            assert next(quiet) == []
            quiet.close()
            stop_daemon(daemon)


def test_requests_that_change_are_not_repeated() -> None:
    assert not requests.put("pad/x", b"", {}, "").is_repeatable
    assert not requests.record([], "").is_repeatable
    assert not requests.rollback("undo", "", {}).is_repeatable
    assert requests.stat("pad").is_repeatable
