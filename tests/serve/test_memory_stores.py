"""Test the memory stores with the `anthropic` SDK, which defines their shapes, over a real server."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import anthropic
import pytest
from anthropic.types.beta import BetaManagedAgentsMemoryStore

from tests.live import Live, eventually
from tests.serve.server import Server, issue_token, serving

NEVER = {"type": "content_sha256", "content_sha256": "0" * 64}


def sdk(server: Server, token: str) -> anthropic.Anthropic:
    """Return a client of the SDK that does not repeat refused requests."""
    return anthropic.Anthropic(api_key=token, base_url=server.url, max_retries=0)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def client(server: Server, alice: str) -> Iterator[anthropic.Anthropic]:
    with sdk(server, alice) as made:
        yield made


@pytest.fixture
def store(client: anthropic.Anthropic) -> BetaManagedAgentsMemoryStore:
    return client.beta.memory_stores.create(name="Preferences of Ada", description="What Ada likes")


class TestStores:
    def test_a_store_is_made_changed_archived_and_deleted(self, client: anthropic.Anthropic) -> None:
        stores = client.beta.memory_stores
        made = stores.create(name="Notes", metadata={"user": "ada", "team": "x"})
        assert (made.type, made.name, made.description, made.archived_at) == ("memory_store", "Notes", "", None)
        changed = stores.update(made.id, name="Better notes", description="d", metadata={"team": None, "kind": "y"})
        assert changed.metadata == {"user": "ada", "kind": "y"}
        assert stores.retrieve(made.id) == changed
        assert changed.updated_at > made.updated_at
        stores.memories.create(made.id, path="/a.md", content="a")
        archived = stores.archive(made.id)
        assert archived.archived_at
        for refused in (
            lambda: stores.memories.create(made.id, path="/b.md", content="b"),
            lambda: stores.update(made.id, name="again"),
        ):
            with pytest.raises(anthropic.BadRequestError, match="archived"):
                refused()
        assert made.id not in [store.id for store in stores.list(limit=100)]
        assert made.id in [store.id for store in stores.list(limit=100, include_archived=True)]
        assert stores.delete(made.id).type == "memory_store_deleted"
        with pytest.raises(anthropic.NotFoundError):
            stores.retrieve(made.id)

    def test_lists_have_pages_and_times(self, client: anthropic.Anthropic) -> None:
        made = [client.beta.memory_stores.create(name=f"page {number}").id for number in range(5)]
        listed = [store.id for store in client.beta.memory_stores.list(limit=2)]
        assert [store_id for store_id in listed if store_id in made] == made[::-1]
        assert not list(client.beta.memory_stores.list(created_at_lte=datetime(2020, 1, 1, tzinfo=UTC)))
        assert made[0] in [
            s.id for s in client.beta.memory_stores.list(created_at_gte=datetime(2020, 1, 1, tzinfo=UTC))
        ]

    @pytest.mark.parametrize(
        "fields",
        [
            {"name": ""},
            {"name": "x" * 256},
            {"name": "a\nb"},
            {"name": "x", "description": "d" * 1025},
            {"name": "x", "metadata": {"k" * 65: "v"}},
            {"name": "x", "metadata": {"k": "v" * 513}},
            {"name": "x", "metadata": {str(number): "v" for number in range(17)}},
        ],
    )
    def test_bad_fields_are_refused_with_a_sentence(self, client: anthropic.Anthropic, fields: dict[str, str]) -> None:
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.beta.memory_stores.create(**fields)
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["error"]["type"] == "invalid_request_error"
        assert len(caught.value.body["error"]["message"]) > 10

    @pytest.mark.parametrize("name", ["memstore_none", "..", "memstore_../../x", "x", "memstore_" + "a" * 300, "%00"])
    def test_unknown_ids_are_not_found(self, client: anthropic.Anthropic, name: str) -> None:
        for call in (
            lambda: client.beta.memory_stores.retrieve(name),
            lambda: client.beta.memory_stores.delete(name),
            lambda: client.beta.memory_stores.memories.list(name),
            lambda: client.beta.memory_stores.memory_versions.list(name),
        ):
            with pytest.raises((anthropic.NotFoundError, anthropic.BadRequestError, ValueError)):
                call()

    def test_a_store_belongs_to_its_principal(
        self, server: Server, bob: str, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore
    ) -> None:
        client.beta.memory_stores.memories.create(store.id, path="/secret.md", content="the colour is teal")
        with sdk(server, bob) as stranger:
            assert store.id not in [other.id for other in stranger.beta.memory_stores.list(limit=100)]
            for call in (
                lambda: stranger.beta.memory_stores.retrieve(store.id),
                lambda: stranger.beta.memory_stores.memories.list(store.id),
                lambda: stranger.beta.memory_stores.delete(store.id),
            ):
                with pytest.raises(anthropic.NotFoundError):
                    call()
        with sdk(server, "ctx_00000000_" + "A" * 43) as forger, pytest.raises(anthropic.AuthenticationError):
            forger.beta.memory_stores.list()

    def test_a_damaged_record_costs_its_store_only(
        self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore, live: Live
    ) -> None:
        other = client.beta.memory_stores.create(name="whole")
        record = live.store / "tree" / "memory" / "alice" / "stores" / f"{store.id}.json"
        for content in (b"\xff", b"[]", b"{}", b"[" * 100_000, json.dumps({"id": "../../x"}).encode()):
            record.write_bytes(content)
            with pytest.raises(anthropic.NotFoundError):
                client.beta.memory_stores.retrieve(store.id)
            assert other.id in [listed.id for listed in client.beta.memory_stores.list(limit=100)]


class TestMemories:
    def test_a_memory_is_made_read_changed_and_deleted(
        self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore
    ) -> None:
        memories = client.beta.memory_stores.memories
        made = memories.create(store.id, path="/food/tea.md", content="Ada likes green tea")
        assert (made.content, made.content_sha256) == (None, sha256("Ada likes green tea"))
        assert made.content_size_bytes == 19
        whole = memories.retrieve(made.id, memory_store_id=store.id)
        assert (whole.content, whole.path) == ("Ada likes green tea", "/food/tea.md")
        changed = memories.update(made.id, memory_store_id=store.id, content="Ada likes coffee", view="full")
        assert (changed.id, changed.content) == (made.id, "Ada likes coffee")
        assert changed.memory_version_id != made.memory_version_id
        assert changed.created_at <= made.created_at < changed.updated_at
        assert memories.delete(made.id, memory_store_id=store.id).type == "memory_deleted"
        with pytest.raises(anthropic.NotFoundError):
            memories.retrieve(made.id, memory_store_id=store.id)

    def test_the_second_of_two_writers_is_refused(
        self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore
    ) -> None:
        memories = client.beta.memory_stores.memories
        made = memories.create(store.id, path="/turn.md", content="one")
        with pytest.raises(anthropic.ConflictError):
            memories.create(store.id, path="/turn.md", content="other")
        precondition = {"type": "content_sha256", "content_sha256": made.content_sha256}
        memories.update(made.id, memory_store_id=store.id, content="two", precondition=precondition)
        for refused in (
            lambda: memories.update(made.id, memory_store_id=store.id, content="three", precondition=precondition),
            lambda: memories.update(made.id, memory_store_id=store.id, path="/new.md", precondition=precondition),
            lambda: memories.update(made.id, memory_store_id=store.id, precondition=NEVER),
            lambda: memories.delete(made.id, memory_store_id=store.id, expected_content_sha256=made.content_sha256),
        ):
            with pytest.raises(anthropic.ConflictError):
                refused()
        assert memories.retrieve(made.id, memory_store_id=store.id).content == "two"
        memories.delete(made.id, memory_store_id=store.id, expected_content_sha256=sha256("two"))

    def test_a_renamed_memory_keeps_its_id(
        self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore
    ) -> None:
        memories = client.beta.memory_stores.memories
        made = memories.create(store.id, path="/a.md", content="first")
        memories.create(store.id, path="/taken.md", content="x")
        with pytest.raises(anthropic.ConflictError):
            memories.update(made.id, memory_store_id=store.id, path="/taken.md")
        moved = memories.update(made.id, memory_store_id=store.id, path="/deep/b.md", content="second", view="full")
        assert (moved.id, moved.path, moved.content) == (made.id, "/deep/b.md", "second")
        other = memories.create(store.id, path="/a.md", content="another")
        assert other.id != made.id
        again = memories.update(made.id, memory_store_id=store.id, path="/c.md")
        assert again.id == made.id
        ids = {item.path: item.id for item in memories.list(store.id) if item.type == "memory"}
        assert ids["/c.md"] == made.id
        assert ids["/a.md"] == other.id
        assert memories.retrieve(other.id, memory_store_id=store.id).content == "another"

    def test_lists_have_prefixes_depths_and_pages(
        self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore
    ) -> None:
        memories = client.beta.memory_stores.memories
        paths = ["/a.md", "/notes/b.md", "/notes/c/d.md", "/notes-archive/e.md"]
        for path in paths:
            memories.create(store.id, path=path, content=path)
        assert [item.path for item in memories.list(store.id, limit=1)] == sorted(paths)
        assert [item.path for item in memories.list(store.id, path_prefix="/notes/")] == [
            "/notes/b.md",
            "/notes/c/d.md",
        ]
        top = [(item.type, item.path) for item in memories.list(store.id, depth=1)]
        assert ("memory_prefix", "/notes/") in top
        assert ("memory", "/a.md") in top
        assert len(top) == 3
        full = [item.content for item in memories.list(store.id, view="full") if item.type == "memory"]
        assert full == sorted(paths)
        assert not list(memories.list(store.id, path_prefix="/none/"))

    @pytest.mark.parametrize(
        "path",
        [
            "relative.md",
            "/",
            "",
            "/a//b",
            "/a/../b",
            "/./a",
            "/a\0b",
            "/a\u202eb",
            "/a\u2028b",
            "/" + "n" * 300,
            "/" + "/".join("a" * 21),
            "/e\u0301",
            "/" + "é" * 600,
        ],
    )
    def test_bad_paths_are_refused(
        self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore, path: str
    ) -> None:
        with pytest.raises(anthropic.BadRequestError):
            client.beta.memory_stores.memories.create(store.id, path=path, content="x")
        assert not list(client.beta.memory_stores.memories.list(store.id))

    def test_contents_are_limited_and_texts(
        self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore
    ) -> None:
        memories = client.beta.memory_stores.memories
        with pytest.raises(anthropic.BadRequestError):
            memories.create(store.id, path="/big.md", content="words " * 17_067)
        with pytest.raises(anthropic.BadRequestError):
            memories.create(store.id, path="/none.md", content=None)
        assert memories.create(store.id, path="/full.md", content="words\n" * 17_066).content_size_bytes == 102_396
        assert memories.create(store.id, path="/empty.md", content="", view="full").content == ""
        with pytest.raises(anthropic.APIStatusError) as caught:
            memories.create(store.id, path="/huge.md", content="words " * 400_000)
        assert caught.value.status_code == 413

    @pytest.mark.parametrize("name", ["mem_none", "mem_Li4vLi4vYQ", "mem_L2E.999", "x", "mem_" + "L" * 7000, "mem_%2F"])
    def test_impossible_ids_are_not_found(
        self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore, name: str
    ) -> None:
        memories = client.beta.memory_stores.memories
        for call in (
            lambda: memories.retrieve(name, memory_store_id=store.id),
            lambda: memories.update(name, memory_store_id=store.id, content="x"),
            lambda: memories.delete(name, memory_store_id=store.id),
        ):
            with pytest.raises(anthropic.NotFoundError):
                call()


class TestVersions:
    def test_every_change_is_a_version(self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore) -> None:
        stores, versions = client.beta.memory_stores, client.beta.memory_stores.memory_versions
        made = stores.memories.create(store.id, path="/v.md", content="one")
        changed = stores.memories.update(made.id, memory_store_id=store.id, content="two")
        stores.memories.update(made.id, memory_store_id=store.id, path="/w.md")
        stores.memories.delete(made.id, memory_store_id=store.id)
        listed = list(versions.list(store.id, memory_id=made.id, view="full"))
        assert [version.operation for version in listed] == ["deleted", "modified", "modified", "created"]
        assert [version.content for version in listed] == [None, "two", "two", "one"]
        assert [version.path for version in listed] == ["/w.md", "/w.md", "/v.md", "/v.md"]
        assert {version.memory_id for version in listed} == {made.id}
        assert listed[2].id == changed.memory_version_id
        first = versions.retrieve(listed[3].id, memory_store_id=store.id)
        assert (first.content, first.content_sha256) == ("one", sha256("one"))
        assert first.created_by is not None
        assert first.created_by.type == "api_actor"
        assert first.created_by.api_key_id == "agent:alice"
        assert versions.retrieve(listed[0].id, memory_store_id=store.id).content_sha256 is None

    def test_filters_and_pages_of_versions(
        self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore, live: Live
    ) -> None:
        assert not list(client.beta.memory_stores.memory_versions.list(store.id))
        versions = client.beta.memory_stores.memory_versions
        for number in range(4):
            client.beta.memory_stores.memories.create(store.id, path=f"/{number}.md", content=str(number))
        (live.store / "tree" / "memory" / "alice" / "stores" / store.id / "empty").mkdir()
        assert len(list(versions.list(store.id, limit=1))) == 4
        assert not list(versions.list(store.id, operation="deleted"))
        assert len(list(versions.list(store.id, api_key_id="agent:alice"))) == 4
        assert not list(versions.list(store.id, session_id="none"))
        assert not list(versions.list(store.id, created_at_lte="2020-01-01T00:00:00Z"))
        with pytest.raises(anthropic.NotFoundError):
            versions.retrieve("memver_1_L2E", memory_store_id=store.id)

    def test_a_change_through_a_mount_is_a_version(
        self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore, live: Live
    ) -> None:
        made = client.beta.memory_stores.memories.create(store.id, path="/m.md", content="by http\n")
        (Path(live.at) / "memory" / "alice" / "stores" / store.id / "m.md").write_text("by mount\n")

        def changed() -> bool:
            read = client.beta.memory_stores.memories.retrieve(made.id, memory_store_id=store.id)
            return read.content == "by mount\n" and read.memory_version_id != made.memory_version_id

        eventually("the change is a version", changed)
        newest = next(iter(client.beta.memory_stores.memory_versions.list(store.id, memory_id=made.id)))
        assert newest.operation == "modified"
        assert newest.created_by is not None
        assert newest.created_by.type != "api_actor"


class TestRedaction:
    @pytest.fixture
    def curator(self, offline: Live) -> Iterator[anthropic.Anthropic]:
        """Yield a client that may administer a store of its own."""
        rule = '[[rule]]\nprincipal = "agent:curator"\npath = "**"\nverbs = "lrwxa"\n'
        (offline.store / "policy.toml").write_text(rule)
        with serving(offline) as server, sdk(server, issue_token(offline, "agent:curator")) as made:
            yield made

    def test_a_redacted_version_has_no_content_any_more(self, curator: anthropic.Anthropic, offline: Live) -> None:
        stores, versions = curator.beta.memory_stores, curator.beta.memory_stores.memory_versions
        store = stores.create(name="redacted")
        made = stores.memories.create(store.id, path="/r.md", content="the word is xylophone")
        stores.memories.create(store.id, path="/other.md", content="it stays")
        for content in ("a secret mandolin", "a later text"):
            stores.memories.update(made.id, memory_store_id=store.id, content=content)
        before = list(versions.list(store.id, memory_id=made.id, view="full"))
        for version in before[1:]:
            redacted = versions.redact(version.id, memory_store_id=store.id)
            assert (redacted.content, redacted.content_sha256, redacted.path) == (None, None, None)
            assert redacted.redacted_at
            assert redacted.redacted_by is not None
            assert redacted.redacted_by.api_key_id == "agent:curator"
        after = list(versions.list(store.id, memory_id=made.id, view="full"))
        assert [version.id for version in after] == [version.id for version in before]
        assert [version.operation for version in after] == ["modified", "modified", "created"]
        assert [version.content for version in after] == ["a later text", None, None]
        assert versions.redact(before[1].id, memory_store_id=store.id).redacted_at == after[1].redacted_at
        log = json.loads(offline.run("log", f"memory/curator/stores/{store.id}/r.md", "--json"))
        for version in log:
            done = offline.try_run("show", f"memory/curator/stores/{store.id}/r.md", "--at", version["revision"])
            assert "xylophone" not in done.stdout
            assert "mandolin" not in done.stdout
        assert stores.memories.retrieve(made.id, memory_store_id=store.id).content == "a later text"

    def test_the_current_content_is_not_redacted(self, curator: anthropic.Anthropic) -> None:
        stores = curator.beta.memory_stores
        store = stores.create(name="current")
        made = stores.memories.create(store.id, path="/now.md", content="now")
        with pytest.raises(anthropic.ConflictError):
            stores.memory_versions.redact(made.memory_version_id, memory_store_id=store.id)
        stores.memories.delete(made.id, memory_store_id=store.id)
        stores.memory_versions.redact(made.memory_version_id, memory_store_id=store.id)
        listed = list(stores.memory_versions.list(store.id, memory_id=made.id, view="full"))
        assert [(version.operation, version.content) for version in listed] == [("deleted", None), ("created", None)]

    def test_an_agent_does_not_redact(self, client: anthropic.Anthropic, store: BetaManagedAgentsMemoryStore) -> None:
        stores = client.beta.memory_stores
        made = stores.memories.create(store.id, path="/x.md", content="old")
        stores.memories.update(made.id, memory_store_id=store.id, content="new")
        with pytest.raises(anthropic.PermissionDeniedError):
            stores.memory_versions.redact(made.memory_version_id, memory_store_id=store.id)
        assert stores.memory_versions.retrieve(made.memory_version_id, memory_store_id=store.id).content == "old"


def test_errors_have_the_form_of_the_interface(server: Server) -> None:
    answer = server.send("GET", "/v1/memory_stores", "")
    assert (answer.status, answer.json["error"]["type"]) == (401, "authentication_error")


def test_a_second_server_serves_the_same_stores(
    live: Live, alice: str, store: BetaManagedAgentsMemoryStore, client: anthropic.Anthropic
) -> None:
    made = client.beta.memory_stores.memories.create(store.id, path="/x.md", content="shared")
    with serving(live) as second, sdk(second, alice) as other:
        assert other.beta.memory_stores.memories.retrieve(made.id, memory_store_id=store.id).content == "shared"
