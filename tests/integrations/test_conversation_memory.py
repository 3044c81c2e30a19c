"""Test conversations as a memory: messages are found by their user alone, with their times and their metadata."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import ctxfs
from ctxfs.integrations.conversation_memory import ConversationMemory
from tests.library.test_store import start_daemon, stop_daemon
from tests.live import Live

AGENT = "agent:alice"
TURNS = [
    {"role": "user", "content": "Ada: I adopted a greyhound called Zanzibar last week."},
    {"role": "assistant", "content": "Bob: Congratulations! I still play the oboe."},
]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    live = Live(tmp_path_factory.mktemp("store"))
    live.run("init")
    return live


@pytest.fixture
def store(live: Live) -> Iterator[ctxfs.Store]:
    with ctxfs.open(str(live.store), principal=AGENT) as store:
        yield store


@pytest.fixture
def memory(store: ctxfs.Store) -> Iterator[ConversationMemory]:
    memory = ConversationMemory(store)
    yield memory
    memory.reset()


def texts(answer: dict[str, list[dict[str, object]]]) -> list[object]:
    return [record["memory"] for record in answer["results"]]


def test_messages_are_found_with_ids_times_scores_and_metadata(memory: ConversationMemory) -> None:
    added = memory.add(
        TURNS, user_id="ada_0", run_id="s1", metadata={"timestamp": "1:56 pm on 8 May, 2023", "doc": "d1"}, version="v2"
    )
    assert [record["event"] for record in added["results"]] == ["ADD", "ADD"]
    first, *others = memory.search("which greyhound has Ada adopted?", filters={"user_id": "ada_0"}, top_k=2)["results"]
    assert len(others) <= 1
    assert first["memory"] == "Ada: I adopted a greyhound called Zanzibar last week."
    assert first["id"] == added["results"][0]["id"]
    assert first["created_at"] == "1:56 pm on 8 May, 2023"
    assert first["metadata"] == {"timestamp": "1:56 pm on 8 May, 2023", "doc": "d1"}
    assert (first["user_id"], first["run_id"]) == ("ada_0", "s1")
    assert 0 < first["score"] <= 1
    assert memory.get(first["id"]) == {name: value for name, value in first.items() if name != "score"}
    assert memory.search("Zanzibar", user_id="ada_0", threshold=1.1)["results"] == []


@pytest.mark.parametrize("other", ["bob", "ada_0/s1", "../ada_0", "ada_00"])
def test_users_are_kept_apart(memory: ConversationMemory, other: str) -> None:
    memory.add(TURNS[0], user_id="ada_0", run_id="s1")
    memory.add("the other user likes Zanzibar coffee", user_id=other)
    assert texts(memory.search("Zanzibar", user_id=other)) == ["user: the other user likes Zanzibar coffee"]
    assert texts(memory.search("Zanzibar", user_id="ada_0")) == [
        "Ada: I adopted a greyhound called Zanzibar last week."
    ]
    memory.delete_all(user_id=other)
    assert texts(memory.get_all(user_id=other)) == []
    assert texts(memory.search("Zanzibar", user_id=other)) == []
    assert texts(memory.get_all(user_id="ada_0")) == ["Ada: I adopted a greyhound called Zanzibar last week."]


def test_a_run_limits_a_search_and_a_removal(memory: ConversationMemory) -> None:
    memory.add("the password of the cellar is oboe", user_id="ada", run_id="one")
    memory.add("the password of the attic is flute", user_id="ada", run_id="two")
    assert texts(memory.search("password", user_id="ada", run_id="two")) == ["user: the password of the attic is flute"]
    assert len(memory.search("password", user_id="ada")["results"]) == 2
    memory.delete_all(user_id="ada", run_id="two")
    assert texts(memory.get_all(user_id="ada")) == ["user: the password of the cellar is oboe"]


def test_messages_that_are_added_later_have_ids_of_their_own(memory: ConversationMemory) -> None:
    batches = [
        {"role": "user", "name": "Ada", "content": [{"type": "text", "text": "one"}], "timestamp": 1683554160},
        {"role": "user", "content": "   "},
        {"role": "assistant", "content": "two", "date": "2023-05-09"},
    ]
    ids = [record["id"] for batch in batches for record in memory.add([batch], user_id="ada")["results"]]
    everything = memory.get_all(user_id="ada")["results"]
    assert [record["id"] for record in everything] == ids
    assert len(set(ids)) == 2
    assert texts({"results": everything}) == ["Ada: one", "assistant: two"]
    assert [record["created_at"] for record in everything] == ["2023-05-08T13:56:00+00:00", "2023-05-09"]
    memory.delete(ids[0])
    assert [record["id"] for record in memory.get_all(user_id="ada")["results"]] == ids[1:]
    assert memory.get(ids[0]) is None
    for missing in (ids[0], "ada/x.jsonl:1", "nothing", "../../shared/fact/x.jsonl:1"):
        with pytest.raises(FileNotFoundError):
            memory.delete(missing)


def test_no_question_is_an_error(memory: ConversationMemory) -> None:
    memory.add(TURNS, user_id="ada")
    stored = set(texts(memory.get_all(user_id="ada")))
    for query in ('"', 'who said "oboe', "kind: what?", "since:when did Bob play the oboe", "-oboe", "mode:oboe", "?"):
        assert set(texts(memory.search(query, user_id="ada"))) <= stored, query


def test_nothing_is_found_without_messages(memory: ConversationMemory) -> None:
    assert memory.search("oboe", user_id="nobody") == {"results": []}
    assert memory.add([], user_id="ada") == {"results": []}
    memory.add(TURNS, user_id="ada")
    assert memory.search("   ", user_id="ada") == {"results": []}
    assert memory.search("oboe", user_id="ada", limit=0) == {"results": []}
    with pytest.raises(OSError, match="user_id"):
        memory.search("oboe")


def test_two_writers_lose_no_message(live: Live, memory: ConversationMemory) -> None:
    with ctxfs.open(str(live.store), principal=AGENT) as other, ThreadPoolExecutor(2) as pool:
        memories = (memory, ConversationMemory(other))
        list(pool.map(lambda number: memories[number % 2].add(f"message {number}", user_id="ada"), range(12)))
    assert sorted(map(str, texts(memory.get_all(user_id="ada")))) == sorted(f"user: message {n}" for n in range(12))


def test_waiting_without_a_daemon_has_a_remedy(live: Live) -> None:
    with ctxfs.open(str(live.store)) as store, pytest.raises(ctxfs.CommandError) as refused:
        ConversationMemory(store).wait_indexed()
    assert "ctxfs daemon" in refused.value.remedy


@pytest.mark.long
def test_after_waiting_messages_are_found_by_meaning(live: Live) -> None:
    daemon = start_daemon(live)
    try:
        with ctxfs.open(str(live.store)) as store:
            memory = ConversationMemory(store)
            memory.add(TURNS, user_id="ada")
            memory.wait_indexed(60)
            (first, *_) = memory.search("which musical instrument?", user_id="ada")["results"]
            assert first["memory"] == "Bob: Congratulations! I still play the oboe."
            memory.reset()
    finally:
        stop_daemon(daemon)
