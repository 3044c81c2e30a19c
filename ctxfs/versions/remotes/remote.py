"""Remotes: copies of the history elsewhere, for backup and for sharing one memory between machines.

Any repository that git can push to is suitable. Large contents travel as blobs under a ref of their own. Diverged
histories are merged file by file. One-sided changes are taken. Texts changed on both sides are merged by lines if that
is clean; otherwise both are kept. A merge never waits for a person.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path as HostPath

from ctxfs.model.errors import CommandError
from ctxfs.store.atomic_replace import KeptReason
from ctxfs.versions.erase import FORGOTTEN
from ctxfs.versions.history import is_snapshot_name
from ctxfs.versions.objects.commits import Actor, Commit, decode_commit
from ctxfs.versions.objects.git import BRANCH, Repository, check_url, is_local
from ctxfs.versions.objects.git_config import Remote, read_remotes, write_remotes
from ctxfs.versions.objects.git_process import build_service_command
from ctxfs.versions.objects.name_encoding import shown_path, split_path
from ctxfs.versions.objects.sidecar import SideCar
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, MODE_FILE, MODE_LINK, MODE_PROGRAM, Parts, TreeEntry
from ctxfs.versions.recording.ledger import ABSENT, Ledger, State
from ctxfs.versions.remotes.attribute_filter import filter_attributes, is_frozen, merge_value
from ctxfs.versions.remotes.fetch_validation import FetchedHistory
from ctxfs.versions.remotes.large_transfer import LARGE_REF, pack_large, unpack_large
from ctxfs.versions.rollback import ApplyResult, Rollback

_REMOTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_TEXT_BYTES = 4_000_000
_MAX_ROUNDS = 20  # of merging again, with changes that were written meanwhile
_MAX_OPEN_ROUNDS = 2  # of waiting for writers of open files


@dataclass(frozen=True, slots=True)
class PullResult:
    """The result of a pull: `state` is `current`, `forward` or `merged`.

    `conflicts` are paths beside which the remote's content was stored.
    """

    state: str
    commits: int
    conflicts: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Merge:
    """The tree of two merged histories, and the paths of which both contents are kept.

    With `is_forward` the local history is a part of the remote's.
    """

    tree: str
    conflicts: tuple[bytes, ...]
    is_forward: bool


@dataclass(frozen=True, slots=True)
class PushPlan:
    """A prepared push: remote, newest commit, refspecs, and the commit with the large contents (empty: none)."""

    name: str
    head: str
    refspecs: tuple[str, ...]
    large: str


class Remotes:
    """The remotes of one repository. Used under the archive's lock, except for `push` and `fetch`."""

    def __init__(self, ledger: Ledger, rollback: Rollback) -> None:
        self._ledger = ledger
        self._rollback = rollback

    @property
    def _repo(self) -> Repository:
        return self._ledger.repo

    def places(self) -> dict[str, str]:
        """Return the addresses of remotes by name."""
        return {name: remote.url for name, remote in read_remotes(self._repo.folder).items()}

    def trusted(self) -> list[str]:
        """Return the names of the remotes whose history is trusted like the store's own."""
        return sorted(name for name, remote in read_remotes(self._repo.folder).items() if remote.is_trusted)

    def add(self, name: str, url: str, *, is_trusted: bool = False) -> None:
        """Add a remote. Raise CommandError if the name is taken or invalid, OSError EINVAL for an invalid address."""
        if not _REMOTE_NAME.fullmatch(name) or ".." in name or name.endswith((".", ".lock")):
            raise CommandError(f"'{name}' cannot name a remote", "use letters, digits, '.', '_' and '-'", 2)
        remotes = read_remotes(self._repo.folder)
        if name in remotes:
            raise CommandError(f"a remote '{name}' exists already", f"remove it: ctxfs remote remove {name}")
        write_remotes(self._repo.folder, {**remotes, name: Remote(check_url(url), is_trusted)})

    def trust(self, name: str, *, is_trusted: bool) -> None:
        """Set or clear the trust in a remote's history. Commits that were pulled before stay as they are."""
        self._require_remote(name)
        remotes = read_remotes(self._repo.folder)
        write_remotes(self._repo.folder, {**remotes, name: Remote(remotes[name].url, is_trusted)})

    def remove(self, name: str) -> None:
        """Remove a remote and its refs. The remote repository is not changed."""
        self._require_remote(name)
        remotes = read_remotes(self._repo.folder)
        write_remotes(self._repo.folder, {key: remote for key, remote in remotes.items() if key != name})
        self._drop_refs(name)

    def ready_to_push(self, name: str, *, replace: bool = False) -> PushPlan:
        """Prepare a push, to be ended with `pushed`. With `replace`, versions that only the remote has are dropped."""
        self._require_remote(name)
        head = self._ledger.head
        assert head is not None
        force = "+" if replace else ""
        refspecs = [f"{force}{BRANCH}:{BRANCH}", f"{force}refs/tags/*:refs/tags/*"]
        large = pack_large(self._ledger)
        if large:
            refspecs.append(f"+{LARGE_REF}:{LARGE_REF}")
        return PushPlan(name, head.oid, tuple(refspecs), large)

    def push(self, plan: PushPlan) -> None:
        """Push without the lock, since it reads objects that stay. Raise CommandError with the cause of a failure."""
        try:
            options = self._sandbox_options(plan.name, "--receive-pack", "receive-pack")
            self._repo.run_remote("push", "--quiet", "--no-follow-tags", *options, "--", plan.name, *plan.refspecs)
        except OSError as error:
            message = error.strerror or ""
            if "non-fast-forward" in message or "fetch first" in message:
                raise CommandError(
                    f"'{plan.name}' has versions that are not here", f"ctxfs remote pull {plan.name}, then push"
                ) from error
            if "hidden ref" in message:
                raise CommandError(
                    f"'{plan.name}' is a ctxfs store: nobody may change its history behind its files",
                    "push to a bare repository between the two, or pull from the other side",
                ) from error
            raise CommandError(f"cannot push to '{plan.name}': {message}", "check its place: ctxfs remote") from error

    def pushed(self, plan: PushPlan) -> None:
        """Delete the ref that was created only for the push."""
        if plan.large:
            self._repo.delete(LARGE_REF, plan.large)

    def fetch(self, name: str) -> None:
        """Fetch the remote's refs and objects, beside the store's own. This needs no lock."""
        self._require_remote(name)
        prefix = _fetched_prefix(name)
        refspecs = [
            f"+{BRANCH}:refs/remotes/{name}/main",
            f"+refs/tags/*:{prefix}tags/*",
            f"+{LARGE_REF}*:{prefix}large*",
        ]
        try:
            sandbox = self._sandbox_options(name, "--upload-pack", "upload-pack")
            options = ("--quiet", "--no-tags", "--no-auto-gc", "--no-recurse-submodules", "--no-write-fetch-head")
            self._repo.run_remote("fetch", *options, *sandbox, "--", name, *refspecs)
        except OSError as error:
            raise CommandError(
                f"cannot pull from '{name}': {error.strerror}", "check its place: ctxfs remote"
            ) from error

    def drop_fetched_refs(self, name: str) -> None:
        """Delete the refs of a fetch that is not merged."""
        self._drop_refs(name)

    def forgotten_here(self) -> set[str]:
        """Return the ids of erased blobs that the repository does not contain."""
        file = self._repo.folder / FORGOTTEN
        return {oid for oid in file.read_text().split() if not self._repo.has(oid)} if file.exists() else set()

    def take_in(
        self, name: str, actor: Actor, forgotten: set[str], commit: Callable[[Iterable[bytes]], object]
    ) -> PullResult:
        """Fast-forward to the fetched history, or merge with it. The work tree follows; changes of both sides are kept.

        `forgotten` are blobs that the fetch must not contain; otherwise CommandError is raised and nothing is merged.
        `commit` makes versions of uncommitted changes, and of the paths that it receives.
        """
        self._repo.forget_helpers()
        if any(self._repo.has(oid) for oid in forgotten):
            self._drop_fetched(name)
            raise CommandError(
                f"'{name}' still holds what was forgotten here: nothing was pulled",
                f"forget it on the other machines too, then: ctxfs remote push --replace {name}",
            )
        oid = self._repo.ref(f"refs/remotes/{name}/main")
        if oid is None:
            raise CommandError(f"'{name}' holds no versions", "push to it first")
        head = self._ledger.head
        assert head is not None
        base = self._find_merge_base(head.oid, oid)
        if base == oid:
            self._drop_refs(name, keep_head=True)
            return PullResult("current", 0)
        is_trusted = name in self.trusted()
        try:
            new_commits = self._validate_fetched(name, oid, is_trusted=is_trusted)
        except (CommandError, OSError):
            self._drop_refs(name)
            raise
        if not is_trusted:
            self._ledger.origins.add(new_commits, name)
        theirs = self._ledger.commit(oid)
        try:
            result = self._apply_merge(
                lambda: self._merge_histories(theirs, name, is_trusted=is_trusted),
                theirs,
                new_commits,
                actor,
                name,
                commit,
            )
            self._adopt_tags(name, {oid, *new_commits})
            return result
        finally:
            self._drop_refs(name, keep_head=True)

    def _apply_merge(
        self,
        make_merge: Callable[[], "Merge"],
        theirs: Commit,
        new_commits: list[str],
        actor: Actor,
        name: str,
        commit: Callable[[Iterable[bytes]], object],
    ) -> PullResult:
        """Merge the remote's history once the whole work tree has followed.

        A path that could not be replaced is committed on top of the local head, and merged again. A head that differs
        from the work tree would make the next commit revert the remote's changes.
        """
        ledger, rollback, placed_states = self._ledger, self._rollback, dict[bytes, State]()
        merge, applied, open_rounds = make_merge(), ApplyResult(), 0
        for _ in range(_MAX_ROUNDS):
            if open_rounds == _MAX_OPEN_ROUNDS:
                break
            head = ledger.head
            with rollback.holding(merge.tree) as paths:
                commit(paths)
                if ledger.head != head:
                    merge = make_merge()
                applied = rollback.follow(merge.tree, placed_states)
            if not (applied.left or applied.rescued):
                return self._record_merge(merge, theirs, new_commits, actor, name)
            head = ledger.head
            rollback.commit_rescued(applied)
            commit(list(applied.left))
            if ledger.head == head and set(applied.left.values()) == {KeptReason.OCCUPIED}:
                return self._record_merge(self._retain_directories(merge, applied), theirs, new_commits, actor, name)
            open_rounds += set(applied.left.values()) == {KeptReason.OPEN}
            merge = make_merge()
        rollback.go_back(merge.tree)
        path, reason = next(iter(applied.left.items()), (b"", KeptReason.WRITTEN))
        cause = "is open for writing" if reason is KeptReason.OPEN else "is written to all the time"
        raise CommandError(
            f"'{shown_path(path)}' {cause}: nothing was pulled",
            f"close it, or wait for its writer, then: ctxfs remote pull {name}",
        )

    def _retain_directories(self, merge: "Merge", applied: ApplyResult) -> "Merge":
        """Return the merge with those directories added that stay, because unversioned files are in them."""
        ledger = self._ledger
        states = {
            parts: State(TreeEntry(MODE_DIR, EMPTY_TREE), ledger.state(ledger.tree, parts).side)
            for parts in map(split_path, sorted(applied.left))
        }
        return Merge(ledger.edited(merge.tree, states), merge.conflicts, is_forward=False)

    def _record_merge(
        self, merge: "Merge", theirs: Commit, new_commits: list[str], actor: Actor, name: str
    ) -> PullResult:
        if merge.is_forward:
            self._ledger.adopt(theirs)
            return PullResult("forward", len(new_commits))
        self._ledger.index_commits(new_commits)
        self._ledger.merge(merge.tree, theirs, actor, f"merge {len(new_commits)} versions from {name}")
        return PullResult("merged", len(new_commits), merge.conflicts)

    def _validate_fetched(self, name: str, oid: str, *, is_trusted: bool) -> list[str]:
        """Validate the fetched commits and return their ids, oldest first. Store the large contents that they need."""
        ledger = self._ledger
        assert ledger.head is not None
        history = FetchedHistory(self._repo, ledger.trees, name, is_trusted=is_trusted)
        new_commits = history.check(oid, ledger.head.oid)
        large = self._repo.ref(f"{_fetched_prefix(name)}large")
        if large is not None:
            unpack_large(ledger, large, {item.sha256: item.size for item in history.large})
        present = set(ledger.large.names())
        tree = decode_commit(oid, self._repo.read(oid)).tree
        for change in ledger.changes(ledger.tree, tree):
            large_content = ledger.side(change.side).large
            if large_content is not None and large_content.sha256 not in present:
                raise history.refusal(change.path, "its content is too large for git, and did not come along")
        return new_commits

    def _adopt_tags(self, name: str, commits: set[str]) -> None:
        """Keep the remote's snapshots of versions that the store has now.

        Only valid snapshot names that the store does not use yet are taken.
        """
        for tag, oid in self._repo.refs(f"{_fetched_prefix(name)}tags/").items():
            is_stored = oid in commits or self._ledger.index.by_oid(oid) is not None
            if is_stored and tag not in self._ledger.tags and is_snapshot_name(tag):
                self._repo.update(f"refs/tags/{tag}", oid, None)
        self._ledger.read_tags()

    # internals

    def _drop_fetched(self, name: str) -> None:
        """Delete the refs and objects of a fetch."""
        self._drop_refs(name)
        self._repo.run_upkeep("repack", "-a", "-d", "-l", "-q")
        self._repo.run_upkeep("prune", "--expire=now")
        self._repo.forget_helpers()

    def _drop_refs(self, name: str, *, keep_head: bool = False) -> None:
        for below in (_fetched_prefix(name), *(() if keep_head else (f"refs/remotes/{name}/",))):
            for ref, oid in self._repo.refs(below, peel=False).items():
                self._repo.delete(f"{below}{ref}", oid)

    def _sandbox_options(self, name: str, option: str, service: str) -> tuple[str, ...]:
        """Return git's option that sandboxes a repository which git opens on this machine."""
        url = check_url(self.places()[name])
        return (f"{option}={build_service_command(service)}",) if is_local(url) else ()

    def _require_remote(self, name: str) -> None:
        if name not in self.places():
            raise CommandError(f"no remote is called '{name}'", "ctxfs remote add NAME PLACE")

    def _find_merge_base(self, ours: str, theirs: str) -> str:
        """Return the newest common commit; empty if the histories have none."""
        try:
            return self._repo.run("merge-base", ours, theirs).decode().split()[0]
        except (OSError, IndexError):
            return ""

    def _merge_histories(self, theirs: Commit, name: str, *, is_trusted: bool) -> "Merge":
        """Return the merge of the local head with their commit."""
        ledger = self._ledger
        assert ledger.head is not None
        base = self._find_merge_base(ledger.head.oid, theirs.oid)
        if base == ledger.head.oid and is_trusted:
            return Merge(theirs.tree, (), is_forward=True)
        base_tree = decode_commit(base, self._repo.read(base)).tree if base else EMPTY_TREE
        states: dict[Parts, State] = {}
        conflicts: dict[Parts, None] = {}
        for change in ledger.changes(base_tree, theirs.tree):
            parts = split_path(change.path)
            if any(parts[:depth] in conflicts for depth in range(1, len(parts))):
                continue  # it is in a directory that is stored beside, as a whole
            old, mine, other = (ledger.state(tree, parts) for tree in (base_tree, ledger.tree, theirs.tree))
            merged: State | None = None
            if not is_trusted and other != old:
                other, is_bound = self._filter_state(mine, other, name), self._is_frozen(mine)
            else:
                is_bound = False
            if not is_bound:
                merged = self._merge_state(old, mine, other)
            elif other.entry is None or other.entry == mine.entry:
                merged = mine
            if merged is None:
                conflicts[parts] = None
                states[self._conflict_path(parts, theirs, other)] = other
            elif merged != mine:
                states[parts] = merged
        tree = ledger.edited(ledger.tree, dict(sorted(states.items())))
        return Merge(tree, tuple(b"/".join(parts) for parts in conflicts), is_forward=False)

    def _filter_state(self, mine: State, other: State, name: str) -> State:
        """Return the state of a path of an untrusted remote with filtered attributes."""
        if other.entry is None or other.entry.mode == MODE_LINK:
            return State(other.entry)
        ours, theirs = self._ledger.side(mine.side), self._ledger.side(other.side)
        is_file = other.entry.mode != MODE_DIR
        side = filter_attributes(theirs, ours, name, is_new=mine.entry != other.entry, is_file=is_file)
        return State(other.entry, self._ledger.write_side(side))

    def _is_frozen(self, mine: State) -> bool:
        return bool(mine.side) and is_frozen(self._ledger.side(mine.side))

    def _merge_state(self, old: State, mine: State, other: State) -> State | None:
        """Return the merged state of a path; None if the contents of both sides must be kept."""
        if _is_equal(mine, other) or _is_equal(old, other):
            return mine
        if _is_tree(mine) and _is_tree(other):
            assert mine.entry is not None
            return State(mine.entry, self._merge_sidecars(old, mine, other))
        if _is_equal(old, mine):
            # A directory that they removed may contain files that only this side has: remove it only if it is empty.
            if other.entry is None and _is_tree(mine) and mine.entry is not None and old.entry is not None:
                return ABSENT if mine.entry.oid == old.entry.oid else mine
            return other if not _is_tree(other) or mine.entry is None else mine
        if other.entry is None:
            return mine
        if mine.entry is None:
            return other
        if _is_tree(mine) or _is_tree(other):
            return None
        side = self._merge_sidecars(old, mine, other)
        if mine.entry == other.entry:
            return State(mine.entry, side)
        if old.entry == mine.entry:
            return State(other.entry, side)
        if old.entry == other.entry:
            return State(mine.entry, side)
        merged = self._merge_lines(old, mine, other)
        return State(merged, side) if merged is not None else None

    def _merge_sidecars(self, old: State, mine: State, other: State) -> str:
        """Merge attribute by attribute. If both sides changed one, the local value stays; theirs is in the history."""
        base, ours, theirs = (self._ledger.side(state.side) for state in (old, mine, other))
        names = base.xattrs.keys() | ours.xattrs.keys() | theirs.xattrs.keys()
        merged = {}
        for name in names:
            value = merge_value(name, base.xattrs, ours.xattrs, theirs.xattrs)
            if value is not None:
                merged[name] = value
        mode = theirs.mode if ours.mode == base.mode else ours.mode
        large = ours.large if mine.entry != old.entry else theirs.large
        return self._ledger.write_side(SideCar(merged, mode, large))

    def _merge_lines(self, old: State, mine: State, other: State) -> TreeEntry | None:
        """Merge the lines of both texts with `git merge-file`; None if they conflict or are not mergeable text."""
        entries = [state.entry for state in (mine, old, other)]
        if any(entry is None or entry.mode not in (MODE_FILE, MODE_PROGRAM) for entry in entries):
            return None
        if any(self._ledger.side(state.side).large for state in (mine, old, other)):
            return None
        texts = [self._ledger.content(state) for state in (mine, old, other)]
        if any(b"\0" in text or len(text) > _MAX_TEXT_BYTES for text in texts):
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

    def _conflict_path(self, parts: Parts, theirs: Commit, other: State) -> Parts:
        """Return the path for the other side's content: `name.conflict-<principal>-<revision>`.

        A number is appended if that is another file.
        """
        principal = re.sub(r"[^A-Za-z0-9._-]", "-", theirs.actor.principal)
        number = 1
        while True:
            numbering = f"-{number}" if number > 1 else ""
            suffix = f".conflict-{principal}-{theirs.oid[:8]}{numbering}".encode()
            path = (*parts[:-1], parts[-1][: 255 - len(suffix)] + suffix)
            if self._ledger.state(self._ledger.tree, path) in (ABSENT, other):
                return path
            number += 1


def _fetched_prefix(name: str) -> str:
    """Return the ref prefix of a remote's tags and large contents until they are merged."""
    return f"refs/ctxfs/fetched/{name}/"


def _is_tree(state: State) -> bool:
    return state.entry is not None and state.entry.mode == MODE_DIR


def _is_equal(one: State, two: State) -> bool:
    """Return True for equal states. Directories are compared by their attributes only."""
    if _is_tree(one) and _is_tree(two):
        return one.side == two.side
    return one == two
