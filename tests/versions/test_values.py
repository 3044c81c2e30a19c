"""Test the formats: encoded values decode to equal values, and git agrees."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxfs.versions.history import parse_moment
from ctxfs.versions.objects.commits import Actor, Commit, decode_commit, encode_commit
from ctxfs.versions.objects.git import Repository, create_repository
from ctxfs.versions.objects.name_encoding import is_valid_name, real_name, sidecar_name, stored_name
from ctxfs.versions.objects.sidecar import Large, SideCar, decode_sidecar, encode_sidecar
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, MODE_FILE, TreeEntry, Trees, encode_tree, parse_tree

NAMES = st.binary(min_size=1, max_size=60).filter(is_valid_name)
XATTRS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20).map(
    "user.{}".format
)
OIDS = st.text("0123456789abcdef", min_size=40, max_size=40)
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@given(st.sets(NAMES))
def test_every_name_has_a_distinct_entry_in_a_tree(names: set[bytes]) -> None:
    places = [stored_name(name) for name in names] + [sidecar_name(name) for name in names]
    assert len(set(places)) == 2 * len(names)
    assert {real_name(stored_name(name)) for name in names} == names
    assert all(real_name(sidecar_name(name)) is None for name in names)


@given(st.dictionaries(NAMES, st.tuples(st.sampled_from([MODE_DIR, MODE_FILE]), OIDS)))
def test_a_tree_is_parsed_as_it_was_written(listing: dict[bytes, tuple[int, str]]) -> None:
    entries = {name: TreeEntry(*entry) for name, entry in listing.items()}
    assert parse_tree(encode_tree(entries)) == entries


@given(
    st.dictionaries(XATTRS, st.binary(max_size=50)),
    st.none() | st.integers(0, 0o7777),
    st.none() | st.builds(Large, st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 1 << 50)),
)
def test_side_car_round_trips_with_deterministic_bytes(
    xattrs: dict[str, bytes], mode: int | None, large: Large | None
) -> None:
    side = SideCar(xattrs, mode, large)
    data = encode_sidecar(side)
    assert decode_sidecar(data) == side
    assert encode_sidecar(SideCar(dict(reversed(xattrs.items())), mode, large)) == data


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"mode": "zz"}', b'{"large": {}}', b'{"xattrs": {"a": {}}}', b"\xff"]
)
def test_a_damaged_side_car_is_an_error_not_an_empty_one(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_sidecar(data)


@given(st.text(max_size=40), st.text(max_size=40), st.lists(st.tuples(NAMES, NAMES), max_size=3))
def test_no_text_can_forge_a_commit(subject: str, reason: str, moves: list[tuple[bytes, bytes]]) -> None:
    actor = Actor("agent:alice", "s1", "mcp", reason)
    commit = Commit("x", "1" * 40, ("2" * 40,), 1_795_000_000_123_456_789, actor, "write", subject, tuple(moves))
    decoded = decode_commit("x", encode_commit(commit))
    assert (decoded.tree, decoded.parents, decoded.time_ns, decoded.op) == (
        commit.tree,
        commit.parents,
        commit.time_ns,
        "write",
    )
    assert (decoded.actor.principal, decoded.actor.session) == ("agent:alice", "s1")
    assert decoded.moves == commit.moves


def test_tree_edits_agree_with_git(tmp_path: Path) -> None:
    create_repository(tmp_path / "r.git")
    repo = Repository(tmp_path / "r.git")
    trees = Trees(repo)
    repo.write("tree", b"")
    blob = TreeEntry(MODE_FILE, repo.write("blob", b"x"))
    root = trees.edit(
        EMPTY_TREE,
        {(b"a", b"b", b"c"): blob, (b"a.txt",): blob, (b"a-b",): blob, (b"empty",): TreeEntry(MODE_DIR, EMPTY_TREE)},
    )
    root = trees.edit(root, {(b"a", b"d"): blob, (b"a-b",): None, (b"nowhere", b"x"): None})
    listed = subprocess.run(
        ["git", f"--git-dir={tmp_path}/r.git", "ls-tree", "-r", "-t", "--name-only", root],
        capture_output=True,
        check=True,
    )
    assert listed.stdout.split() == [b"a.txt", b"a", b"a/b", b"a/b/c", b"a/d", b"empty"]
    subprocess.run(["git", f"--git-dir={tmp_path}/r.git", "fsck", "--strict", root], check=True)
    assert [change.parts for change in trees.compare(EMPTY_TREE, root)][:2] == [(b"a",), (b"a", b"b")]
    repo.close()


@pytest.mark.parametrize("count", [3, 400])
def test_deferred_objects_are_read_before_and_after_they_are_stored(tmp_path: Path, count: int) -> None:
    """Few are stored as loose objects, many in a pack."""
    create_repository(tmp_path / "r.git")
    repo = Repository(tmp_path / "r.git")
    contents = [b"%d" % number * (number * 7 % 300) for number in range(count)]
    dropped = b"never stored"
    with repo.deferring_writes():
        oids = [repo.write("blob", data) for data in contents]
        assert repo.read(oids[-1]) == contents[-1]
        assert repo.describe(oids[-1]) == ("blob", len(contents[-1]))
    assert Repository(tmp_path / "r.git").has(oids[-1]) is False
    repo.store_pending()
    with repo.deferring_writes():
        lost = repo.write("blob", dropped)
    repo.drop_pending()
    assert not repo.has(lost)
    repo.close_readers()
    assert repo.read_many(oids) == dict(zip(oids, contents, strict=True))
    assert list(repo.sizes(oids).values()) == [len(data) for data in dict.fromkeys(contents)]
    subprocess.run(["git", f"--git-dir={tmp_path}/r.git", "fsck", "--strict"], check=True, capture_output=True)
    repo.close()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1h-ago", "2026-11-21T11:00:00+00:00"),
        ("90m", "2026-11-21T10:30:00+00:00"),
        ("yesterday", "2026-11-20T23:59:59.999999+00:00"),
        ("2026-11-20", "2026-11-20T23:59:59.999999+00:00"),
        ("2026-11-20T10:00", "2026-11-20T10:00:59.999999+00:00"),
        ("2026-11-20T10:00:05", "2026-11-20T10:00:05.999999+00:00"),
        ("2026-11-20T10:00:00+02:00", "2026-11-20T08:00:00.999999+00:00"),
    ],
)
def test_times_denote_the_last_matching_moment(text: str, wanted: str) -> None:
    moment = parse_moment(text, NOW)
    assert moment is not None
    assert datetime.fromtimestamp(moment // 1000 / 1e6, UTC) == datetime.fromisoformat(wanted)


@pytest.mark.parametrize("text", ["", "soon", "h-ago", "2026-13-01", "release-1", "10:00 o'clock", "999999w"])
def test_invalid_time_is_none(text: str) -> None:
    assert parse_moment(text, NOW) is None
