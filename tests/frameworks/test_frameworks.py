"""Test the adapters for LangGraph, LangChain, LlamaIndex and the OpenAI Agents SDK with the real libraries.

They are not in the environment of the other tests: `make test-frameworks` installs them beside it.
"""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Model, ModelResponse, Runner, Session, Usage
from langchain_core.retrievers import BaseRetriever
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore, GetOp, PutOp, SearchOp
from llama_index.core.readers.base import BaseReader
from openai.types.responses import ResponseOutputMessage, ResponseOutputText
from typing_extensions import TypedDict

import ctxfs
from ctxfs.integrations.langchain_retriever import ContextRetriever
from ctxfs.integrations.langgraph_store import ContextStore
from ctxfs.integrations.llama_index_reader import ContextReader
from ctxfs.integrations.openai_agents_session import ContextSession
from tests.live import Live

AGENT = "agent:alice"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    live = Live(tmp_path_factory.mktemp("store"))
    live.run("init")
    live.corpus.mkdir()
    (live.corpus / "keys.md").write_text("# Keys\n\nRotate the signing keys every ninety days.\n")
    (live.corpus / "lunch.md").write_text("# Lunch\n\nThe canteen opens at noon.\n")
    (live.corpus / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)))
    live.run("add", str(live.corpus), "--name", "handbook")
    return live


@pytest.fixture
def store(live: Live) -> Iterator[ctxfs.Store]:
    with ctxfs.open(str(live.store), principal=AGENT) as store:
        yield store


class TestLangGraphStore:
    @pytest.fixture
    def items(self, store: ctxfs.Store) -> BaseStore:
        return ContextStore(store)

    def test_items_are_files_with_versions(self, items: BaseStore, store: ctxfs.Store) -> None:
        items.put(("users", "ada lovelace"), "../likes/tea", {"text": "Ada likes green tea", "cups": 3})
        item = items.get(("users", "ada lovelace"), "../likes/tea")
        assert item is not None
        assert (item.value, item.key, item.namespace) == (
            {"text": "Ada likes green tea", "cups": 3},
            "../likes/tea",
            ("users", "ada lovelace"),
        )
        (path,) = store.glob("memory/alice/items/users/**")
        assert ".." not in path.split("/")
        assert len(store.log(path)) == 1
        items.put(("users", "ada lovelace"), "../likes/tea", {"text": "Ada likes black tea"})
        changed = items.get(("users", "ada lovelace"), "../likes/tea")
        assert changed is not None
        assert changed.created_at == item.created_at < changed.updated_at
        assert len(store.log(path)) == 2
        items.delete(("users", "ada lovelace"), "../likes/tea")
        assert items.get(("users", "ada lovelace"), "../likes/tea") is None
        items.delete(("users", "ada lovelace"), "../likes/tea")
        store.undo(path)
        assert items.get(("users", "ada lovelace"), "../likes/tea") == changed

    def test_search_ranks_filters_and_pages(self, items: BaseStore) -> None:
        for number in range(5):
            items.put(("notes", "work"), f"n{number}", {"text": f"note {number} on the zanzibar route", "n": number})
        items.put(("notes", "home"), "h", {"text": "water the plants", "n": 9})
        assert [item.key for item in items.search(("notes",), limit=2)] == ["h", "n4"]
        assert {item.key for item in items.search(("notes", "work"), filter={"n": {"$gte": 2, "$lt": 4}})} == {
            "n2",
            "n3",
        }
        assert [item.key for item in items.search(("notes",), filter={"text": "water the plants"})] == ["h"]
        found = items.search(("notes",), query="zanzibar route", limit=3)
        assert len(found) == 3
        assert {item.namespace for item in found} == {("notes", "work")}
        assert all(item.score is not None for item in found)
        assert items.search(("nowhere",), query="zanzibar") == []
        with pytest.raises(ValueError, match="unknown operator"):
            items.search(("notes",), filter={"n": {"$regex": "x"}})

    def test_namespaces_are_listed(self, items: BaseStore) -> None:
        for namespace in (("a", "b", "c"), ("a", "d", "c"), ("e", "f")):
            items.put(namespace, "k", {"v": 1})
        assert items.list_namespaces(prefix=("a",)) == [("a", "b", "c"), ("a", "d", "c")]
        assert items.list_namespaces(prefix=("a", "*", "c"), max_depth=1) == [("a",)]
        assert ("e", "f") in items.list_namespaces(suffix=("f",))

    def test_batches_run_under_asyncio(self, items: BaseStore) -> None:
        async def main() -> list[Any]:
            return await items.abatch([PutOp(("async",), "k", {"v": 1}), GetOp(("async",), "k"), SearchOp(("async",))])

        _, item, found = asyncio.run(main())
        assert item.value == found[0].value == {"v": 1}

    def test_rights_and_foreign_files_are_respected(self, items: BaseStore, store: ctxfs.Store) -> None:
        with pytest.raises((PermissionError, FileNotFoundError)):
            ContextStore(store, "memory/bob/items").put(("x",), "k", {"v": 1})
        store.write("memory/alice/items/odd/broken.json", "not json")
        store.write("memory/alice/items/odd/list.json", "[1]")
        assert items.get(("odd",), "broken") is None
        assert items.search(("odd",)) == []

    def test_graph_runs_with_the_store(self, items: BaseStore) -> None:
        class State(TypedDict):
            said: str

        def remember(state: State, *, store: BaseStore) -> State:
            store.put(("graph",), "last", {"said": state["said"]})
            return state

        graph = StateGraph(State)
        graph.add_node("remember", remember)
        graph.add_edge(START, "remember")
        graph.add_edge("remember", END)
        graph.compile(store=items).invoke({"said": "hello"})
        item = items.get(("graph",), "last")
        assert item is not None
        assert item.value == {"said": "hello"}


def test_langchain_retriever_returns_passages_with_their_place(store: ctxfs.Store) -> None:
    retriever: BaseRetriever = ContextRetriever(store=store, below="knowledge")
    document = retriever.invoke("how often are the signing keys rotated?")[0]
    assert "ninety days" in document.page_content
    assert document.metadata["source"] == "knowledge/handbook/keys.md"
    assert document.id == "knowledge/handbook/keys.md:1-3"
    assert asyncio.run(retriever.ainvoke("how often are the signing keys rotated?"))[0] == document
    assert ContextRetriever(store=store, below="knowledge", k=1).invoke("zzyzx qqfoo") == []


def test_llama_index_reader_loads_files_with_text(store: ctxfs.Store) -> None:
    reader: BaseReader = ContextReader(store)
    documents = {document.id_: document for document in reader.load_data("**", below="knowledge")}
    assert set(documents) == {"knowledge/handbook/keys.md", "knowledge/handbook/lunch.md"}
    assert "canteen" in documents["knowledge/handbook/lunch.md"].text
    assert documents["knowledge/handbook/keys.md"].metadata["path"] == "knowledge/handbook/keys.md"


class EchoModel(Model):
    """Answers with the number of items that it was given."""

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:  # noqa: A002
        text = ResponseOutputText(annotations=[], text=f"{len(input)} items", type="output_text")
        message = ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def test_openai_agents_session_keeps_the_items_of_a_conversation(live: Live) -> None:
    async def main() -> None:
        async with await ctxfs.open_async(str(live.store), principal=AGENT) as store:
            session = ContextSession("user/1", store)
            assert isinstance(session, Session)
            agent = Agent(name="echo", model=EchoModel())
            first = await Runner.run(agent, "hello", session=session)
            second = await Runner.run(agent, "again", session=session)
            assert (first.final_output, second.final_output) == ("1 items", "3 items")
            assert len(await session.get_items()) == 4
            assert (await session.get_items(limit=1))[0]["role"] == "assistant"
            assert await session.get_items(limit=0) == []
            popped = await session.pop_item()
            assert popped is not None
            assert popped["role"] == "assistant"
            others = [
                ContextSession("user/1", await ctxfs.open_async(str(live.store), principal=AGENT)) for _ in range(3)
            ]
            await asyncio.gather(
                *(other.add_items([{"role": "user", "content": str(n)}]) for n, other in enumerate(others))
            )
            assert len(await session.get_items()) == 6
            for other in others:
                await other._store.close()
            await session.clear_session()
            assert await session.get_items() == []
            assert await session.pop_item() is None
            assert await store.log(session.path)

    asyncio.run(main())


def test_recipe_for_langgraph_keeps_and_finds_a_memory(
    live: Live, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CTXFS_STORE", str(live.store))
    page = Path(__file__).parent.parent.parent / "docs" / "recipes" / "langgraph.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(code, str(page), "exec"), {"__name__": "recipe"})
    assert "ninety days" in capsys.readouterr().out
    assert "last" in live.run("ls", "memory/graph/items/memories/ada")
