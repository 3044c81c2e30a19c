"""Remotes: a copy of the history elsewhere, for backup and for sharing one memory between machines.

Any place that git can push to will do. Large contents travel as blobs under a ref of their own. Histories that went apart
are merged file by file: one-sided changes are taken, texts changed on both sides are merged by lines where that is clean,
else both are kept. A merge never waits for a person.
"""

import errno
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as HostPath

from ctxfs.model.errors import CommandError, path_error
from ctxfs.versions.commits import Actor, Commit, decode_commit
from ctxfs.versions.erase import FORGOTTEN
from ctxfs.versions.git import BRANCH, Repository, check_url, is_local
from ctxfs.versions.git_config import read_remotes, write_remotes
from ctxfs.versions.git_process import helper_command
from ctxfs.versions.ledger import ABSENT, Ledger, State
from ctxfs.versions.names import split_path
from ctxfs.versions.rollback import Rollback
from ctxfs.versions.sidecar import SideCar
from ctxfs.versions.trees import EMPTY_TREE, MODE_DIR, MODE_FILE, MODE_PROGRAM, Parts, TreeEntry

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LARGE = "refs/ctxfs/large"
_TEXT_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of a pull: `state` is `current`, `forward` or `merged`; `conflicts` are paths where theirs was kept beside."""

    state: str
    commits: int
    conflicts: tuple[bytes, ...] = ()
    kept: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Pushing:
    """A push: where to, the newest revision, git's orders, and the commit made for large contents (empty: none)."""

    name: str
    head: str
    orders: tuple[str, ...]
    large: str


class Remotes:
    """The remotes of one repository. Used under the archive's lock, but for `push` and `fetch`."""

    def __init__(self, ledger: Ledger, rollback: Rollback) -> None:
        self._ledger = ledger
        self._rollback = rollback

    @property
    def _repo(self) -> Repository:
        return self._ledger.repo

    def places(self) -> dict[str, str]:
        """Names of remotes and where they are."""
        return read_remotes(self._repo.folder)

    def add(self, name: str, url: str) -> None:
        """Remember a place. CommandError if the name is taken or is none."""
        if not _NAME.fullmatch(name):
            raise CommandError(f"'{name}' cannot name a remote", "use letters, digits, '.', '_' and '-'", 2)
        places = self.places()
        if name in places:
            raise CommandError(f"a remote '{name}' exists already", f"remove it: ctxfs remote remove {name}")
        write_remotes(self._repo.folder, {**places, name: check_url(url)})

    def remove(self, name: str) -> None:
        """Forget a place; what is there stays there."""
        self._known(name)
        write_remotes(self._repo.folder, {key: url for key, url in self.places().items() if key != name})
        for ref, oid in self._repo.refs(f"refs/remotes/{name}/").items():
            self._repo.delete(f"refs/remotes/{name}/{ref}", oid)

    def ready_to_push(self, name: str, *, replace: bool = False) -> Pushing:
        """What there is to send; to be ended with `pushed`. `replace` drops what is only there."""
        self._known(name)
        head = self._ledger.head
        assert head is not None
        force = "+" if replace else ""
        orders = [f"{force}{BRANCH}:{BRANCH}", f"{force}refs/tags/*:refs/tags/*"]
        large = self._pack_large()
        if large:
            orders.append(f"+{_LARGE}:{_LARGE}")
        return Pushing(name, head.oid, tuple(orders), large)

    def push(self, pushing: Pushing) -> None:
        """Send it. Needs no lock: it reads objects that stay. CommandError says what is in the way."""
        try:
            options = self._options(pushing.name, "--receive-pack", "receive-pack")
            self._repo.run_remote("push", "--quiet", "--no-follow-tags", *options, "--", pushing.name, *pushing.orders)
        except OSError as error:
            said = error.strerror or ""
            if "non-fast-forward" in said or "fetch first" in said:
                raise CommandError(
                    f"'{pushing.name}' has versions that are not here", f"ctxfs remote pull {pushing.name}, then push"
                ) from error
            if "hidden ref" in said:
                raise CommandError(
                    f"'{pushing.name}' is a ctxfs store: nobody may change its history behind its files",
                    "push to a bare repository between the two, or pull from the other side",
                ) from error
            raise CommandError(f"cannot push to '{pushing.name}': {said}", "check its place: ctxfs remote") from error

    def pushed(self, pushing: Pushing) -> None:
        """Let go of what was only there to be sent."""
        if pushing.large:
            self._repo.delete(_LARGE, pushing.large)

    def fetch(self, name: str) -> None:
        """Bring what is there into the repository, beside our own. Needs no lock."""
        self._known(name)
        place = f"refs/remotes/{name}"
        orders = [f"+{BRANCH}:{place}/main", "refs/tags/*:refs/tags/*", f"+{_LARGE}*:{place}-large*"]
        try:
            options = self._options(name, "--upload-pack", "upload-pack")
            quiet = ("--quiet", "--no-tags", "--no-auto-gc", "--no-recurse-submodules", "--no-write-fetch-head")
            self._repo.run_remote("fetch", *quiet, *options, "--", name, *orders)
        except OSError as error:
            raise CommandError(
                f"cannot pull from '{name}': {error.strerror}", "check its place: ctxfs remote"
            ) from error

    def forgotten_here(self) -> set[str]:
        """Blobs that were erased and are not here now."""
        file = self._repo.folder / FORGOTTEN
        return {oid for oid in file.read_text().split() if not self._repo.has(oid)} if file.exists() else set()

    def take_in(self, name: str, actor: Actor, forgotten: set[str]) -> Pulled:
        """Follow, or merge with, what was fetched. The work tree goes along; both sides' changes are kept.

        `forgotten` are blobs that must not have come along: then nothing is taken in.
        """
        place = f"refs/remotes/{name}"
        self._repo.forget_helpers()
        if any(self._repo.has(oid) for oid in forgotten):
            self._drop_fetched(name)
            raise CommandError(
                f"'{name}' still holds what was forgotten here: nothing was pulled",
                f"forget it on the other machines too, then: ctxfs remote push --replace {name}",
            )
        self._unpack_large(f"{place}-large")
        self._ledger.read_tags()
        oid = self._repo.ref(f"{place}/main")
        if oid is None:
            raise CommandError(f"'{name}' holds no versions", "push to it first")
        theirs = decode_commit(oid, self._repo.read(oid))
        head = self._ledger.head
        assert head is not None
        base = self._base(head.oid, oid)
        if base == oid:
            return Pulled("current", 0)
        news = self._repo.run("rev-list", "--topo-order", "--reverse", oid, "--not", head.oid).decode().split()
        self._check_shape(news)
        if base == head.oid:
            kept = self._rollback.follow(theirs.tree)
            self._ledger.adopt(theirs)
            return Pulled("forward", len(news), (), tuple(kept))
        return self._merge(theirs, base, news, actor, name)

    # inside

    def _drop_fetched(self, name: str) -> None:
        for ref, oid in self._repo.refs(f"refs/remotes/{name}").items():
            self._repo.delete(f"refs/remotes/{name}{ref}", oid)
        self._repo.run_upkeep("repack", "-a", "-d", "-l", "-q")
        self._repo.run_upkeep("prune", "--expire=now")
        self._repo.forget_helpers()

    def _options(self, name: str, option: str, service: str) -> tuple[str, ...]:
        """Return git's option that shuts in a repository which it opens on this machine."""
        place = check_url(self.places()[name])
        return (f"{option}={helper_command(service)}",) if is_local(place) else ()

    def _known(self, name: str) -> None:
        if name not in self.places():
            raise CommandError(f"no remote is called '{name}'", "ctxfs remote add NAME PLACE")

    def _base(self, ours: str, theirs: str) -> str:
        """The newest common commit; empty for histories without one."""
        try:
            return self._repo.run("merge-base", ours, theirs).decode().split()[0]
        except (OSError, IndexError):
            return ""

    def _check_shape(self, news: Iterable[str]) -> None:
        """Refuse a history that is not one of a store: its trees would be taken for the areas."""
        for oid in news:
            tree = decode_commit(oid, self._repo.read(oid)).tree
            if any(
                entry.mode != MODE_DIR
                for name, entry in self._ledger.trees.listing(tree).items()
                if not name.startswith(b".")
            ):
                raise CommandError(
                    "what is there is not the history of a ctxfs store", "pull from a place that a store was pushed to"
                )

    def _merge(self, theirs: Commit, base: str, news: list[str], actor: Actor, name: str) -> Pulled:
        ledger = self._ledger
        base_tree = decode_commit(base, self._repo.read(base)).tree if base else EMPTY_TREE
        states: dict[Parts, State] = {}
        conflicts: dict[Parts, None] = {}
        for change in ledger.changes(base_tree, theirs.tree):
            parts = split_path(change.path)
            if any(parts[:depth] in conflicts for depth in range(1, len(parts))):
                continue  # it lies in a directory that is kept beside, whole
            old, mine, other = (ledger.state(tree, parts) for tree in (base_tree, ledger.tree, theirs.tree))
            merged = self._merge_state(old, mine, other)
            if merged is None:
                conflicts[parts] = None
                states[self._beside(parts, theirs)] = other
            elif merged != mine:
                states[parts] = merged
        tree = ledger.edited(ledger.tree, dict(sorted(states.items())))
        kept = self._rollback.follow(tree)
        ledger.index_more(news)
        subject = f"merge {len(news)} versions from {name}"
        ledger.merge(tree, theirs, actor, subject)
        return Pulled("merged", len(news), tuple(b"/".join(parts) for parts in conflicts), tuple(kept))

    def _merge_state(self, old: State, mine: State, other: State) -> State | None:
        """What a path becomes; None if both sides' contents have to be kept."""
        if _same(mine, other) or _same(old, other):
            return mine
        if _is_tree(mine) and _is_tree(other):
            assert mine.entry is not None
            return State(mine.entry, self._merge_sides(old, mine, other))
        if _same(old, mine):
            # An emptied directory may hold what only this side has: it goes when nothing is left in it.
            if other.entry is None and _is_tree(mine) and mine.entry is not None and old.entry is not None:
                return ABSENT if mine.entry.oid == old.entry.oid else mine
            return other if not _is_tree(other) or mine.entry is None else mine
        if other.entry is None:
            return mine
        if mine.entry is None:
            return other
        if _is_tree(mine) or _is_tree(other):
            return None
        side = self._merge_sides(old, mine, other)
        if mine.entry == other.entry:
            return State(mine.entry, side)
        if old.entry == mine.entry:
            return State(other.entry, side)
        if old.entry == other.entry:
            return State(mine.entry, side)
        merged = self._merge_lines(old, mine, other)
        return State(merged, side) if merged is not None else None

    def _merge_sides(self, old: State, mine: State, other: State) -> str:
        """Attribute by attribute; where both changed one, ours stays and history has theirs."""
        was, ours, theirs = (self._ledger.side(state.side) for state in (old, mine, other))
        names = was.xattrs.keys() | ours.xattrs.keys() | theirs.xattrs.keys()
        merged = {}
        for name in names:
            mine_now = ours.xattrs.get(name)
            value = theirs.xattrs.get(name) if mine_now == was.xattrs.get(name) else mine_now
            if value is not None:
                merged[name] = value
        mode = theirs.mode if ours.mode == was.mode else ours.mode
        large = ours.large if mine.entry != old.entry else theirs.large
        return self._ledger.write_side(SideCar(merged, mode, large))

    def _merge_lines(self, old: State, mine: State, other: State) -> TreeEntry | None:
        """Both sides' lines in one text, if git finds that they do not touch."""
        entries = [state.entry for state in (mine, old, other)]
        if any(entry is None or entry.mode not in (MODE_FILE, MODE_PROGRAM) for entry in entries):
            return None
        if any(self._ledger.side(state.side).large for state in (mine, old, other)):
            return None
        texts = [self._ledger.content(state) for state in (mine, old, other)]
        if any(b"\0" in text or len(text) > _TEXT_BYTES for text in texts):
            return None
        with tempfile.TemporaryDirectory(prefix="ctxfs-merge-") as folder:
            files = [os.path.join(folder, name) for name in ("mine", "base", "theirs")]
            for file, text in zip(files, texts, strict=True):
                HostPath(file).write_bytes(text)
            try:
                lines = self._repo.run("merge-file", "-p", "-q", *files)
            except OSError:
                return None  # the number of conflicts is the exit code
        assert mine.entry is not None
        return TreeEntry(mine.entry.mode, self._repo.write("blob", lines))

    def _beside(self, parts: Parts, theirs: Commit) -> Parts:
        """Where the other side's content is kept: `name.conflict-<principal>-<revision>`."""
        who = re.sub(r"[^A-Za-z0-9._-]", "-", theirs.actor.principal)
        suffix = f".conflict-{who}-{theirs.oid[:8]}".encode()
        return (*parts[:-1], parts[-1][: 255 - len(suffix)] + suffix)

    def _pack_large(self) -> str:
        """A commit that holds every large content as a blob; empty if there is none."""
        names = sorted(self._ledger.large.names())
        if not names:
            return ""
        listing = {}
        for name in names:
            file = str(self._ledger.large.path(name))
            oid = self._repo.run("hash-object", "-w", "--no-filters", "--", file).decode().strip()
            listing[name.encode()] = TreeEntry(MODE_FILE, oid)
        tree = self._ledger.trees.write(listing)
        commit = self._repo.run("commit-tree", "-m", "large contents", tree).decode().strip()
        self._repo.update(_LARGE, commit, self._repo.ref(_LARGE))
        return commit

    def _unpack_large(self, below: str) -> None:
        """Keep the large contents that came along; git drops its copies at the next upkeep."""
        for name, oid in self._repo.refs(below).items():
            tree = decode_commit(oid, self._repo.read(oid)).tree
            known = set(self._ledger.large.names())
            for sha256, entry in self._ledger.trees.listing(tree).items():
                if sha256.decode() in known:
                    continue
                data = self._repo.read(entry.oid)
                found = self._ledger.large.add_bytes(data)
                if found.sha256 != sha256.decode():
                    raise path_error(errno.EIO, sha256.decode(), "a large content arrived damaged")
            self._repo.delete(below + name, oid)


def _is_tree(state: State) -> bool:
    return state.entry is not None and state.entry.mode == MODE_DIR


def _same(one: State, two: State) -> bool:
    """The same, where directories are judged by their attributes alone."""
    if _is_tree(one) and _is_tree(two):
        return one.side == two.side
    return one == two
