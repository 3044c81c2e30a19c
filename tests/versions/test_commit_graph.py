"""Compare the questions about the graph of commits with plain reachability, on random graphs."""

from hypothesis import given
from hypothesis import strategies as st

from ctxfs.versions.objects.commits import Actor, Commit, encode_commit
from ctxfs.versions.objects.trees import EMPTY_TREE
from ctxfs.versions.remotes.commit_graph import CommitGraph

Graph = dict[str, tuple[str, ...]]


def oid(number: int) -> str:
    return f"{number:040x}"


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, dict[str, int]]:
    """Return the parents and times of up to 14 commits; some clocks are wrong."""
    count = draw(st.integers(1, 14))
    parents: Graph = {}
    for number in range(count):
        earlier = draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True)) if number else []
        parents[oid(number)] = tuple(map(oid, earlier))
    skew = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    is_skewed = draw(st.booleans())
    return parents, {oid(n): 10**18 + n + (skew[n] if is_skewed else 0) for n in range(count)}


def ancestors(parents: Graph, tip: str) -> set[str]:
    reached, pending = set[str](), [tip]
    while pending:
        current = pending.pop()
        if current not in reached:
            reached.add(current)
            pending += parents[current]
    return reached


def is_in_order(parents: Graph, times: dict[str, int]) -> bool:
    """Return True if every commit is newer than its parents."""
    return all(times[parent] < times[child] for child, names in parents.items() for parent in names)


def graph_of(parents: Graph, times: dict[str, int]) -> CommitGraph:
    def read(name: str) -> bytes:
        actor = Actor("agent:a", "s")
        return encode_commit(Commit(name, EMPTY_TREE, parents[name], times[name], actor, "write", "x"))

    return CommitGraph(read)


@given(graphs(), st.data())
def test_base_is_a_newest_common_ancestor(made: tuple[Graph, dict[str, int]], data: st.DataObject) -> None:
    parents, times = made
    ours, theirs = (data.draw(st.sampled_from(sorted(parents))) for _ in range(2))
    base = graph_of(parents, times).find_base(ours, theirs)
    common = ancestors(parents, ours) & ancestors(parents, theirs)
    assert bool(base) == bool(common)
    if base:
        assert base in common
        if is_in_order(parents, times):
            assert not any(base in ancestors(parents, other) for other in common - {base})


@given(graphs(), st.data())
def test_new_commits_are_those_that_the_known_one_lacks(
    made: tuple[Graph, dict[str, int]], data: st.DataObject
) -> None:
    parents, times = made
    tip, known = (data.draw(st.sampled_from(sorted(parents))) for _ in range(2))
    graph = graph_of(parents, times)
    assert set(graph.list_new(tip, "")) == ancestors(parents, tip)
    listed = graph.list_new(tip, known)
    assert set(listed) >= ancestors(parents, tip) - ancestors(parents, known)
    if is_in_order(parents, times):
        assert set(listed) == ancestors(parents, tip) - ancestors(parents, known)
    for position, commit in enumerate(listed):
        assert all(parent not in listed[position:] for parent in parents[commit])
