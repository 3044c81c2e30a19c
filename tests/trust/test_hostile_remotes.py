"""Test strict parsing of remote objects: they reach no file outside, lift no mark and impersonate no principal."""

import contextlib
import hashlib
import json
import os
import random
import subprocess
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.versions.objects.commits import MAX_TIME_NS, decode_commit
from ctxfs.versions.objects.large_objects import LargeStore
from ctxfs.versions.objects.name_encoding import MAX_PATH_NAMES
from ctxfs.versions.objects.sidecar import decode_sidecar, encode_sidecar
from ctxfs.versions.objects.trees import encode_tree, parse_tree
from ctxfs.versions.recording.pathindex import ALL_COMMITS
from tests.versions.conftest import ALICE, BOB, LARGE, Past, check_sound

Entry = tuple[str, str, bytes]  # mode, object, name
SECRET = b"a file of the host"
FUZZ_SECONDS = float(os.environ.get("CTXFS_FUZZ_SECONDS", "2"))


class Hub:
    """A bare repository that an attacker writes, object by object."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder)], check=True)
        self.head = ""
        self.large_listing: list[Entry] = []

    def put(self, kind: str, data: bytes) -> str:
        whole = b"%b %d\0" % (kind.encode(), len(data)) + data
        oid = hashlib.sha1(whole).hexdigest()
        file = self.folder / "objects" / oid[:2] / oid[2:]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(zlib.compress(whole))
        return oid

    def blob(self, data: bytes) -> str:
        return self.put("blob", data)

    def tree(self, *entries: Entry) -> str:
        ordered = sorted(entries, key=lambda entry: entry[2] + (b"/" if entry[0] == "40000" else b""))
        return self.put(
            "tree", b"".join(b"%b %b\0" % (mode.encode(), name) + bytes.fromhex(oid) for mode, oid, name in ordered)
        )

    def directory(self, names: list[bytes], *entries: Entry) -> Entry:
        """Return an entry of nested directories of these names, with `entries` in the innermost."""
        oid = self.tree(*entries)
        for name in reversed(names[1:]):
            oid = self.tree(("40000", oid, name))
        return ("40000", oid, names[0])

    def commit(self, root: str, *, trailers: str = "", subject: str = "evil", at: int | None = None) -> str:
        parent = f"parent {self.head}\n" if self.head else ""
        at = int(time.time()) if at is None else at
        text = f"tree {root}\n{parent}author human:root <r@ctxfs> {at} +0000\ncommitter ctxfs <c@c> {at} +0000\n\n{subject}\n\n"
        self.head = self.put("commit", (text + trailers).encode("utf-8", "surrogateescape"))
        self.point("refs/heads/main", self.head)
        return self.head

    def point(self, ref: str, oid: str) -> None:
        file = self.folder / ref
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{oid}\n")

    def hold(self, *entries: Entry, **options: str) -> str:
        """Commit a version with these entries in memory/a."""
        return self.commit(self.tree(self.directory([b"memory", b"a"], *entries)), **options)

    def file(self, name: bytes, data: bytes = b"text", side: object = None) -> list[Entry]:
        """Return the entries of a file and its side-car, which `side` gives as bytes or as JSON data."""
        entries = [("100644", self.blob(data), name)]
        if side is not None:
            text = side if isinstance(side, bytes) else json.dumps(side).encode()
            entries.append(("100644", self.blob(text), b".x~" + name))
        return entries

    def offer_large(self, contents: Mapping[bytes, bytes]) -> None:
        root = self.tree(*(("100644", self.blob(data), name) for name, data in contents.items()))
        commit = f"tree {root}\nauthor a <a@a> 1 +0000\ncommitter a <a@a> 1 +0000\n\nlarge\n"
        self.point("refs/ctxfs/large", self.put("commit", commit.encode()))

    def offer_content(self, name: str, oid: str) -> None:
        self.point(f"refs/ctxfs/content/{name}", oid)


@pytest.fixture
def hub(past: Past, tmp_path: Path) -> Hub:
    """Return an untrusted remote of `past`, beside a host file that must not be changed."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_bytes(SECRET)
    past.version("memory/own/x.md", "our own")
    made = Hub(tmp_path / "hub.git")
    past.archive.remotes.add("hub", str(made.folder))
    return made


def check_refused(past: Past, hub: Hub, words: str) -> None:
    """Check that the pull fails with the reason, that nothing has changed, and that the store works as before."""
    before, head, files = past.picture(), past.archive.newest, sorted(past.layout.root.parent.rglob("*"))
    outside = past.layout.root.parent / "outside" / "victim"
    with pytest.raises(CommandError) as caught:
        past.archive.remotes.pull("hub", ALICE)
    assert words in str(caught.value), str(caught.value)
    assert past.picture() == before
    assert past.archive.newest == head
    assert outside.read_bytes() == SECRET
    there = set(past.layout.root.parent.rglob("*")) - set(files)
    assert all(past.layout.repo in path.parents for path in there)
    past.version("memory/own/x.md", f"our own, after {head}")


NAMES: dict[str, tuple[list[bytes], str]] = {
    "up": ([b".n~..", b"x"], "no name of a file"),
    "up and up": ([b".n~.."] * 6 + [b"outside", b"x"], "no name of a file"),
    "here": ([b".n~.", b"x"], "no name of a file"),
    "nothing": ([b".n~"], "no name of a file"),
    "a second spelling": ([b".n~plain"], "no name of a file"),
    "too long": ([b"n" * 256], "no name of a file"),
    "a repository": ([b".n~.git", b"config"], "could start programs"),
    "a repository of another spelling": ([b".n~.GIT", b"config"], "could start programs"),
    "a store": ([b".ctxfs", b"ctxfs.toml"], "could start programs"),
    "attributes of nothing": ([b".x~"], "no name of a file"),
    "attributes of the directory above": ([b".x~.."], "no name of a file"),
    "git's up": ([b"..", b"x"], "cannot pull"),
    "git's own": ([b".git", b"config"], "cannot pull"),
    "a slash": ([b"../../x"], "cannot pull"),
    "very deep": ([b"d"] * (MAX_PATH_NAMES + 10) + [b"x"], f"more than {MAX_PATH_NAMES} directories"),
}


def test_names_that_no_store_has_written_are_refused(past: Past, hub: Hub) -> None:
    for names, words in NAMES.values():
        leaf = ("100644", hub.blob(b"OWNED"), names[-1])
        hub.head = ""
        hub.hold(hub.directory(names[:-1], leaf) if names[:-1] else leaf)
        check_refused(past, hub, words)


def test_modes_that_no_store_has_written_are_refused(past: Past, hub: Hub) -> None:
    for mode in ("160000", "100664", "104755", "140000"):
        hub.head = ""
        hub.hold((mode, hub.blob(b"x"), b"x.md"))
        check_refused(past, hub, "")


SIDES: dict[str, object] = {
    "a path as hash": {"large": {"sha256": "../../../../outside/victim", "size": 18}},
    "an absolute path as hash": {"large": {"sha256": "/etc/hostname", "size": 18}},
    "a short hash": {"large": {"sha256": "ab" * 31, "size": 18}},
    "a hash in capitals": {"large": {"sha256": "AB" * 32, "size": 18}},
    "a negative size": {"large": {"sha256": "ab" * 32, "size": -1}},
    "a size beyond 64 bits": {"large": {"sha256": "ab" * 32, "size": 1 << 64}},
    "a size that is none": {"large": {"sha256": "ab" * 32, "size": True}},
    "set-user": {"mode": "4755"},
    "set-group": {"mode": "2755"},
    "sticky": {"mode": "1777"},
    "a mode that is none": {"mode": "0o755"},
    "a mode that is a number": {"mode": 511},
    "capabilities": {"xattrs": {"security.capability": {"base64": "AQAAAgAgAAAAAAAAAAAAAAAAAAA="}}},
    "trusted": {"xattrs": {"trusted.overlay.opaque": "y"}},
    "an access list": {"xattrs": {"system.posix_acl_access": {"base64": "AgAAAA=="}}},
    "an attribute without a name": {"xattrs": {"user.": "x"}},
    "an attribute with NUL": {"xattrs": {"user.a\0b": "x"}},
    "an attribute of a very long name": {"xattrs": {"user." + "n" * 300: "x"}},
    "a very long value": {"xattrs": {"user.x": "v" * 70_000}},
    "half of a pair": b'{"xattrs": {"user.ctx.kind": "\\ud83d"}}',
    "bad base64": {"xattrs": {"user.x": {"base64": "***"}}},
    "a list": b"[]",
    "another member": {"owner": "root"},
    "very deep": b'{"xattrs": ' + b"[" * 100_000,
    "a number without end": b'{"large": {"sha256": "' + b"ab" * 32 + b'", "size": ' + b"9" * 5000 + b"}}",
    "no JSON": b"\xff\xfe",
}


WELL_FORMED = ("set-user", "set-group", "sticky")


def test_attributes_that_no_store_has_written_are_refused(past: Past, hub: Hub) -> None:
    for name, side in SIDES.items():
        data = side if isinstance(side, bytes) else json.dumps(side).encode()
        if name in WELL_FORMED:
            assert decode_sidecar(data).mode
        else:
            with pytest.raises(ValueError):
                decode_sidecar(data)
        if name not in (*WELL_FORMED, "a path as hash", "capabilities", "very deep", "a number without end"):
            continue  # each pull takes a while, and refuses the same input as the parser does
        hub.head = ""
        hub.hold(*hub.file(b"x.md", side=side))
        check_refused(past, hub, "'memory/a/x.md': ")


def test_fault_in_an_older_version_is_refused_like_one_in_the_newest(past: Past, hub: Hub) -> None:
    hub.hold(*hub.file(b"x.md", side={"mode": "4755"}))
    hub.hold(*hub.file(b"x.md"))
    check_refused(past, hub, "'memory/a/x.md': its mode is 4755")


def test_side_car_that_is_a_link_or_a_program_is_refused(past: Past, hub: Hub) -> None:
    hub.hold(*hub.file(b"x.md"), ("120000", hub.blob(b"/etc/passwd"), b".x~x.md"))
    check_refused(past, hub, "attributes are no file")


def test_links_are_stored_as_data_and_their_targets_bounded(past: Past, hub: Hub, tmp_path: Path) -> None:
    for target in (b"", b"a\0b", b"x" * 5000):
        hub.hold(("120000", hub.blob(target), b"link"))
        check_refused(past, hub, "'memory/a/link': its target")
    hub.head = ""
    outside = str(tmp_path / "outside").encode()
    hub.hold(("120000", hub.blob(outside), b"out"))
    # Then a directory of the same name with content: it must not be written through the link.
    hub.hold(hub.directory([b"out"], ("100644", hub.blob(b"OWNED"), b"victim")), ("120000", hub.blob(outside), b"z"))
    past.archive.remotes.pull("hub", ALICE)
    assert (tmp_path / "outside" / "victim").read_bytes() == SECRET
    assert os.readlink(past.tree / "memory/a/z") == os.fsdecode(outside)
    assert (past.tree / "memory/a/out/victim").read_bytes() == b"OWNED"
    hub.hold(("120000", hub.blob(outside), b"out"))
    past.archive.remotes.pull("hub", ALICE)
    assert os.readlink(past.tree / "memory/a/out") == os.fsdecode(outside)
    assert os.listdir(tmp_path / "outside") == ["victim"]
    check_sound(past)


def test_tree_that_unpacks_without_end_is_refused(past: Past, hub: Hub) -> None:
    entry = ("100644", hub.blob(b"x"), b"x")
    for _ in range(10):
        oid = hub.tree(entry, *(("40000" if entry[0] == "40000" else "100644", entry[1], b"%d" % n) for n in range(10)))
        entry = ("40000", oid, b"d")
    hub.hold(entry)
    started = time.monotonic()
    check_refused(past, hub, "paths")
    assert time.monotonic() - started < 20


def test_repository_of_other_areas_is_refused(past: Past, hub: Hub) -> None:
    hub.commit(hub.tree(hub.directory([b"history"], *hub.file(b"x.md"))))
    check_refused(past, hub, "not the history of a ctxfs store")
    hub.commit(hub.tree(("100644", hub.blob(b"x"), b"memory")))
    check_refused(past, hub, "not the history of a ctxfs store")


@pytest.mark.parametrize(
    "at", ["9" * 30, str(1 << 62), str(time.time_ns() + 3 * 86_400 * 10**9)], ids=["huge", "2116", "soon"]
)
def test_version_from_the_future_is_refused(past: Past, hub: Hub, at: str) -> None:
    hub.hold(*hub.file(b"x.md"), trailers=f"Ctxfs-Time: {at}\n")
    check_refused(past, hub, "the clock of its machine is ahead")


def test_large_contents_match_their_names_and_digests(past: Past, hub: Hub, tmp_path: Path) -> None:
    data = os.urandom(LARGE)
    name = hashlib.sha256(data).hexdigest()
    side = {"large": {"sha256": name, "size": len(data)}}
    hub.hold(*hub.file(b"big.bin", b"pointer", side))
    check_refused(past, hub, "did not come along")
    hub.offer_large({name.encode(): b"other" * 20_000})
    with pytest.raises(OSError, match="arrived damaged"):
        past.archive.remotes.pull("hub", ALICE)
    hub.offer_content(name, hub.blob(b"other" * 20_000))
    with pytest.raises(OSError, match="arrived damaged"):
        past.archive.remotes.pull("hub", ALICE)
    hub.offer_content(name, hub.head)
    with pytest.raises(OSError, match="another length"):
        past.archive.remotes.pull("hub", ALICE)
    (hub.folder / "refs/ctxfs/content" / name).unlink()
    hub.offer_content("e" * 64, hub.blob(b"nobody names this"))
    hub.offer_content("no-digest", hub.blob(b"x"))
    hub.offer_large({name.encode(): data, b"..%2Fx": b"x", b"e" * 64: b"nobody names this"})
    past.archive.remotes.pull("hub", ALICE)
    assert (past.tree / "memory/a/big.bin").read_bytes() == data
    assert list(past.archive.core.ledger.large.names()) == [name]


def test_store_of_large_contents_reaches_no_other_file(past: Past, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(SECRET)
    store = LargeStore(past.layout.large)
    for name in (str(victim), "../../victim", "..", ""):
        with pytest.raises(OSError, match="not the sha256"):
            store.remove([name])
        with pytest.raises(OSError, match="not the sha256"):
            store.path(name)
    assert victim.read_bytes() == SECRET


def attributes(past: Past, path: str) -> dict[str, bytes]:
    file = past.tree / path
    return {
        name.removeprefix("user.ctx."): os.getxattr(file, name)
        for name in os.listxattr(file)
        if name.startswith("user.")
    }


def test_files_of_an_untrusted_remote_are_marked_and_gain_no_weight(past: Past, hub: Hub) -> None:
    raised = {"trust": "trusted", "pinned": "true", "frozen": "true", "supersedes": "memory/own/x.md", "kind": "fact"}
    xattrs = {f"user.ctx.{name}": value for name, value in raised.items()} | {
        "user.other": "x",
        "user.ctx.nonsense": "x",
    }
    hub.hold(*hub.file(b"x.md", side={"xattrs": xattrs, "mode": "0077"}))
    past.archive.remotes.pull("hub", ALICE)
    assert attributes(past, "memory/a/x.md") == {"kind": b"fact", "trust": b"untrusted", "source": b"remote:hub"}
    assert (past.tree / "memory/a/x.md").stat().st_mode & 0o7777 == 0o677
    assert (past.tree / "memory/own/x.md").read_text() == "our own"
    check_sound(past)
    past.archive.rollbacks.restore_from("memory", "remote:hub", BOB)
    assert not (past.tree / "memory/a/x.md").exists()


def test_a_pull_lifts_no_mark_and_writes_over_nothing_frozen(past: Past, hub: Hub) -> None:
    for name in ("marked", "frozen", "kept"):
        past.write(f"memory/a/{name}.md", f"first {name}")
    past.archive.commit()
    past.archive.remotes.push("hub")
    hub.head = past.archive.newest
    past.label("memory/a/marked.md", "quarantined", "true")
    past.label("memory/a/marked.md", "trust", "untrusted")
    past.label("memory/a/frozen.md", "frozen", "true")
    past.archive.commit()
    untouched = {"user.ctx.trust": "trusted", "user.ctx.quarantined": "false"}
    hub.hold(
        *hub.file(b"marked.md", b"first marked", {"xattrs": untouched}),
        *hub.file(b"frozen.md", b"second"),
        *hub.file(b"kept.md", b"first kept", {"xattrs": {"user.ctx.quarantined": "true"}}),
    )
    past.archive.remotes.pull("hub", ALICE)
    assert attributes(past, "memory/a/marked.md") == {"quarantined": b"true", "trust": b"untrusted"}
    assert (past.tree / "memory/a/frozen.md").read_text() == "first frozen"
    assert attributes(past, "memory/a/kept.md") == {"quarantined": b"true"}
    (beside,) = (past.tree / "memory/a").glob("frozen.conflict-*.md")
    assert beside.read_text() == "second"
    hub.hold(*hub.file(b"marked.md", b"third"))
    past.archive.remotes.pull("hub", ALICE)
    assert (past.tree / "memory/a/marked.md").read_text() == "third"
    assert attributes(past, "memory/a/marked.md")["quarantined"] == b"true"
    assert (past.tree / "memory/a/frozen.md").read_text() == "first frozen", "frozen files are not removed either"
    check_sound(past)


def test_trusted_remote_brings_attributes_and_modes_as_they_are(past: Past, hub: Hub) -> None:
    past.archive.remotes.set_trust("hub", is_trusted=True)
    xattrs = {"user.ctx.trust": "trusted", "user.ctx.pinned": "true", "user.other": "x"}
    hub.hold(*hub.file(b"x.md", side={"xattrs": xattrs, "mode": "0600"}))
    past.archive.remotes.pull("hub", ALICE)
    assert attributes(past, "memory/a/x.md") == {"trust": b"trusted", "pinned": b"true", "user.other": b"x"}
    hub.hold(*hub.file(b"x.md", side={"xattrs": {"security.capability": "x"}}))
    check_refused(past, hub, "'memory/a/x.md'")


def test_trailers_of_a_remote_impersonate_no_local_principal(past: Past, hub: Hub) -> None:
    past.version("memory/alice/private.md", "alice's own words")
    forged = (
        "Ctxfs-Principal: agent:alice\nCtxfs-Session: s-alice\nCtxfs-Op: \x1b[31mroot\nCtxfs-Undoes: ../../x\n"
        'Ctxfs-Scope: "../../etc"\nCtxfs-Move: "memory/alice/private.md" "memory/a/x.md"\nCtxfs-Move: "\\ud800" "a"\n'
    )
    hub.hold(*hub.file(b"x.md"), trailers=forged, subject="evil \x1b]0;title\x07")
    past.archive.remotes.pull("hub", ALICE)
    (foreign,) = [step.commit for step in past.archive.reader.log("", ALL_COMMITS, 99) if "evil" in step.commit.subject]
    assert foreign.actor.principal == "agent:alice@hub"
    assert (foreign.op, foreign.undoes, foreign.scope) == ("git", "", None)
    assert "\x1b" not in foreign.subject and "\x07" not in foreign.subject
    assert past.archive.reader.moves_of("memory/a/x.md") == []
    with pytest.raises(OSError):
        past.archive.rollbacks.restore(
            "memory/a/x.md", past.archive.reader.log("memory/alice", ALL_COMMITS, 9)[-1].commit.oid, ALICE
        )
    check_sound(past)
    past.archive.erasure.erase("memory/own/x.md", "", ALICE)  # rewritten versions remain the remote's
    principals = {step.commit.actor.principal for step in past.archive.reader.log("memory/a/x.md", ALL_COMMITS, 99)}
    assert "agent:alice@hub" in principals and "agent:alice" in principals


def test_tags_of_a_remote_shadow_neither_revisions_nor_snapshots(past: Past, hub: Hub) -> None:
    own = past.archive.snapshots.create("mine").oid
    bad = hub.hold(*hub.file(b"x.md", b"one"))
    good = hub.hold(*hub.file(b"x.md", b"two"))
    stray = hub.put("commit", f"tree {hub.tree()}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n".encode())
    for name in ("latest", "HEAD", "deadbeef", "1h-ago", "2026-11-20", "mine", "-x", "a@b", "good"):
        hub.point(f"refs/tags/{name}", good)
    hub.point("refs/tags/stray", stray)
    hub.point("refs/tags/older", bad)
    past.archive.remotes.pull("hub", ALICE)
    assert past.archive.snapshots.commit_ids() == {"mine": own, "good": good, "older": bad}


MUTATIONS: list[Callable[[random.Random, bytearray], None]] = [
    lambda chance, data: data.insert(chance.randrange(len(data) + 1), chance.randrange(256)),
    lambda chance, data: data.pop(chance.randrange(len(data))) and None if data else None,
    lambda chance, data: data.__setitem__(chance.randrange(len(data)), chance.randrange(256)) if data else None,
    lambda chance, data: data.extend(data[chance.randrange(len(data) + 1) :]),
]


def test_no_side_car_tree_or_commit_breaks_its_parser() -> None:
    """Read or refuse mutated objects for `CTXFS_FUZZ_SECONDS`; parsed values must fit all their uses."""
    chance = random.Random(time.time_ns())
    side = encode_sidecar(decode_sidecar(json.dumps({"mode": "0600", "xattrs": {"user.a": "x"}}).encode()))
    large = json.dumps({"large": {"sha256": "ab" * 32, "size": 5}}).encode()
    tree = encode_tree(parse_tree(b"100644 a\0" + bytes(20)))
    commit = (
        b"tree "
        + b"1" * 40
        + b'\nauthor a <a> 5 +0000\n\ns\n\nCtxfs-Time: 5\nCtxfs-Move: "a" "b"\nCtxfs-Scope: "a/b"\n'
    )
    end = time.monotonic() + FUZZ_SECONDS
    while time.monotonic() < end:
        for seed in (side, large, tree, commit):
            data = bytearray(seed)
            for _ in range(chance.randrange(1, 6)):
                chance.choice(MUTATIONS)(chance, data)
            check_parsers(bytes(data))


def check_parsers(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        side = decode_sidecar(data)
        assert decode_sidecar(encode_sidecar(side)) == side
        assert side.mode is None or 0 <= side.mode <= 0o7777
        assert side.large is None or (len(side.large.sha256) == 64 and 0 <= side.large.size < 1 << 63)
        assert all(name.startswith("user.") for name in side.xattrs)
    with contextlib.suppress(ValueError):
        parse_tree(data)
    commit = decode_commit("1" * 40, data)
    assert 0 <= commit.time_ns <= MAX_TIME_NS and commit.time_text
    assert all(len(oid) == 40 for oid in (commit.tree, *commit.parents))
    paths = [path for move in commit.moves for path in move] + ([commit.scope] if commit.scope else [])
    assert not any(b".." in path.split(b"/") or path.startswith(b"/") for path in paths)
