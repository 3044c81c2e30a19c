import tracemalloc

from ctxfs.fuse.inodes import Area, NodeTable
from ctxfs.model.path import Path

AREA = Area(1, Path(("pad",)), "/host", True)


def test_two_names_of_one_file_share_a_number() -> None:
    table = NodeTable()
    one = table.backed_node(table.root, b"a", AREA, 5, 77, 0)
    assert table.backed_node(table.root, b"b", AREA, 5, 77, 0) is one


def test_an_inode_that_the_host_uses_again_gets_a_node_of_its_own() -> None:
    table = NodeTable()
    old = table.backed_node(table.root, b"a", AREA, 5, 77, 0)
    old.lookups = 1
    table.remove_name(table.root, b"a")
    new = table.backed_node(table.root, b"b", AREA, 5, 77, 0)
    assert new is not old
    assert new.number != old.number


def test_a_listing_makes_the_nodes_that_lookups_would() -> None:
    table, one_by_one = NodeTable(), NodeTable()
    folder = table.backed_node(table.root, b"d", AREA, 5, 1, 0o040000)
    same = one_by_one.backed_node(one_by_one.root, b"d", AREA, 5, 1, 0o040000)
    is_open = table.backed_node(folder, b"open", AREA, 5, 10, 0o100000)
    is_open.add_fd(3)
    one_by_one.backed_node(same, b"open", AREA, 5, 10, 0o100000)
    names = [b"a", b"b", b"c", b"open", b"moved", b"on another device"]
    inodes = [(5, 7), (5, 8), (5, 7), (5, 10), (5, 11), (6, 8)]  # the first has two names
    before = table.backed_node(table.root, b"old", AREA, 5, 11, 0o100000)
    one_by_one.backed_node(one_by_one.root, b"old", AREA, 5, 11, 0o100000)
    seen = [(at, 200 * at, *inodes[at], (1, 2, 3, 0o100644)) for at in range(len(names))]
    others = table.add_listed(folder, AREA, names, seen)
    for name, (device, inode) in zip(names, inodes, strict=True):
        one_by_one.backed_node(same, name, AREA, device, inode, 0o100000).lookups += 1
    for name in names:
        mine, its = table.node_named(folder, name), one_by_one.node_named(same, name)
        assert mine is not None and its is not None
        assert (mine.key, mine.number, mine.path, mine.lookups) == (its.key, its.number, its.path, its.lookups)
        assert mine.reported == (1, 2, 3, 0o100644)
    twice = table.node_named(folder, b"a")
    assert twice is not None and twice is table.node_named(folder, b"c") and twice.lookups == 2
    assert before.path == Path(("d", "moved"))
    assert [(at, node.name) for at, _, node in others] == [(600, b"open"), (1000, b"on another device")]
    assert others[1][1] != others[1][2].number, "that number is another file's"
    assert len(table) == len(one_by_one)


def test_rename_moves_the_subtree() -> None:
    table = NodeTable()
    folder = table.backed_node(table.root, b"a", AREA, 5, 1, 0)
    file = table.backed_node(folder, b"f", AREA, 5, 2, 0)
    table.rename(table.root, b"a", table.root, b"b")
    assert file.path == Path(("b", "f"))
    assert table.node_named(table.root, b"a") is None


def test_node_is_freed_when_its_lookup_count_is_zero() -> None:
    table = NodeTable()
    node = table.backed_node(table.root, b"a", AREA, 5, 77, 0)
    node.lookups = 3
    table.forget(node.number, 2)
    assert len(table) == 2
    table.forget(node.number, 1)
    assert len(table) == 1
    assert table.node_named(table.root, b"a") is None


def test_a_forgotten_node_stays_while_a_descriptor_is_open() -> None:
    table = NodeTable()
    node = table.backed_node(table.root, b"a", AREA, 5, 77, 0)
    node.lookups = 1
    node.add_fd(9)
    table.forget(node.number, 1)
    assert table[node.number] is node


def test_exchanged_files_swap_their_nodes() -> None:
    table = NodeTable()
    one = table.backed_node(table.root, b"a", AREA, 5, 1, 0)
    two = table.backed_node(table.root, b"b", AREA, 5, 2, 0)
    table.exchange(table.root, b"a", table.root, b"b")
    assert (table.node_named(table.root, b"a"), table.node_named(table.root, b"b")) == (two, one)


def test_forgotten_nodes_take_no_memory() -> None:
    """Look up 100,000 files, of which the kernel still has ten."""
    tracemalloc.start()
    try:
        table = NodeTable()
        before = tracemalloc.get_traced_memory()[0]
        folder = table.backed_node(table.root, b"d", AREA, 5, 1, 0)
        for number in range(100_000):
            table.backed_node(folder, b"%d" % number, AREA, 5, 10 + number, 0).lookups = 1
        full = tracemalloc.get_traced_memory()[0] - before
        for _, node in table.names_in(folder)[10:]:
            table.forget(node.number, 1)
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert left < full / 10
    assert [node.name for _, node in table.names_in(folder)] == [b"%d" % number for number in range(10)]
    kept = table.node_named(folder, b"3")
    assert kept is not None
    assert table[kept.number] is kept
    assert table.backed_node(folder, b"3", AREA, 5, 13, 0) is kept
