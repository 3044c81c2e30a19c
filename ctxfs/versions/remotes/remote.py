"""Remotes: copies of the history elsewhere, for backup and for sharing one memory between machines.

Any repository that git can push to is suitable. Large contents travel once, as blobs under refs of their own. Diverged
histories are merged (see `merge`), and the work tree follows. A merge never waits for a person.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ctxfs.model.errors import CommandError
from ctxfs.store.atomic_replace import UnchangedReason
from ctxfs.versions.erase import ERASED_IDS_FILE
from ctxfs.versions.history import is_snapshot_name
from ctxfs.versions.objects.commits import Actor, Commit, decode_commit
from ctxfs.versions.objects.git import BRANCH, Repository, check_url, is_local, is_oid
from ctxfs.versions.objects.git_config import Remote, read_remotes, write_remotes
from ctxfs.versions.objects.git_process import build_service_command
from ctxfs.versions.objects.name_encoding import display_path, split_path
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, TreeEntry
from ctxfs.versions.recording.file_times import mtimes_of, read_mtimes
from ctxfs.versions.recording.ledger import Ledger, State
from ctxfs.versions.remotes.commit_graph import CommitGraph
from ctxfs.versions.remotes.fetch_validation import FetchedHistory
from ctxfs.versions.remotes.large_transfer import (
    CONTENT_PREFIX,
    MAX_CONTENTS,
    OLD_REF,
    blobs_in_commit,
    content_of,
    store_blobs,
    write_blobs,
)
from ctxfs.versions.remotes.merge import Merge, Merger, find_merge_base
from ctxfs.versions.rollback import ApplyResult, Rollback

_REMOTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_ROUNDS = 20  # of merging again, with changes that were written meanwhile
_BATCH_CONTENTS = 200  # in one command of git


@dataclass(frozen=True, slots=True)
class PullResult:
    """The result of a pull: `state` is `current`, `forward` or `merged`.

    `conflicts` are paths beside which the remote's content was stored.
    """

    state: str
    commits: int
    conflicts: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class PushPlan:
    """A prepared push: remote, newest commit, refspecs, and the sha256 of each large content.

    With `replaces`, versions and contents that only the remote has are dropped there.
    """

    name: str
    head: str
    refspecs: tuple[str, ...]
    contents: tuple[str, ...]
    replaces: bool


class RemoteIsAhead(CommandError):
    """The refusal of a push to a remote with versions that are not here."""


class Remotes:
    """The remotes of one repository. Used under the archive's lock, except for `push` and `fetch`."""

    def __init__(self, ledger: Ledger, rollback: Rollback) -> None:
        self._ledger = ledger
        self._rollback = rollback
        self._merger = Merger(ledger)

    @property
    def _repo(self) -> Repository:
        return self._ledger.repo

    def urls(self) -> dict[str, str]:
        """Return the addresses of remotes by name."""
        return {name: remote.url for name, remote in read_remotes(self._repo.folder).items()}

    def trusted_names(self) -> list[str]:
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

    def set_trust(self, name: str, *, is_trusted: bool) -> None:
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

    def prepare_push(self, name: str, *, replace: bool = False) -> PushPlan:
        """Prepare a push of all versions: see `PushPlan`."""
        self._require_remote(name)
        head = self._ledger.head
        assert head is not None
        force = "+" if replace else ""
        refspecs = (f"{force}{BRANCH}:{BRANCH}", f"{force}refs/tags/*:refs/tags/*")
        return PushPlan(name, head.oid, refspecs, tuple(sorted(self._ledger.large.names())), replace)

    def push(self, plan: PushPlan) -> None:
        """Push without the lock, since it reads objects that stay. Raise CommandError with the cause of a failure.

        Contents are sent before the versions that name them.
        """
        try:
            present = self._list_contents(plan.name)
            missing = [name for name in plan.contents if name not in present]
            for batch in _batches(missing):
                blobs = write_blobs(self._ledger, batch)
                self._run_push(plan.name, [f"{oid}:{CONTENT_PREFIX}{name}" for name, oid in blobs.items()])
            self._run_push(plan.name, plan.refspecs)
            unused = [f":{OLD_REF}"] if "" in present else []
            if plan.replaces:
                unused += [f":{CONTENT_PREFIX}{name}" for name in sorted(present.keys() - {"", *plan.contents})]
            for batch in _batches(unused):
                self._run_push(plan.name, batch)
        except OSError as error:
            message = error.strerror or ""
            if "non-fast-forward" in message or "fetch first" in message:
                raise RemoteIsAhead(
                    f"'{plan.name}' has versions that are not here", f"ctxfs remote pull {plan.name}, then push"
                ) from error
            if "hidden ref" in message:
                raise CommandError(
                    f"'{plan.name}' is a ctxfs store: its history changes only with its files",
                    "push to a bare repository between the two, or pull from the other side",
                ) from error
            raise CommandError(f"cannot push to '{plan.name}': {message}", "check its place: ctxfs remote") from error

    def _run_push(self, name: str, refspecs: Sequence[str]) -> None:
        if refspecs:
            options = self._sandbox_options(name, "--receive-pack", "receive-pack")
            self._repo.run_remote("push", "--quiet", "--no-follow-tags", *options, "--", name, *refspecs)

    def _list_contents(self, name: str) -> dict[str, str]:
        """Return sha256 → id of the blob of the contents that a remote has; under "" the commit of `OLD_REF`."""
        options = self._sandbox_options(name, "--upload-pack", "upload-pack")
        out = self._repo.run_remote("ls-remote", "--quiet", *options, "--", name, f"{CONTENT_PREFIX}*", OLD_REF)
        contents = {}
        for line in out.decode("ascii", "replace").splitlines()[: MAX_CONTENTS + 1]:
            oid, _, ref = line.partition("\t")
            if is_oid(oid) and (ref == OLD_REF or content_of(ref)):
                contents[content_of(ref)] = oid
        if len(contents) > MAX_CONTENTS:
            raise CommandError(f"'{name}' has more than {MAX_CONTENTS} large contents", "use another repository")
        return contents

    def fetch(self, name: str) -> None:
        """Fetch the remote's refs and objects, beside the store's own. This needs no lock."""
        self._require_remote(name)
        prefix = _fetched_prefix(name)
        try:
            self._run_fetch(name, [f"+{BRANCH}:refs/remotes/{name}/main", f"+refs/tags/*:{prefix}tags/*"])
            contents = self._list_contents(name)
            wanted = contents.keys() - set(self._ledger.large.names()) - {""}
            refspecs = [f"+{CONTENT_PREFIX}{sha256}:{prefix}content/{sha256}" for sha256 in sorted(wanted)]
            for batch in _batches([*refspecs, *([f"+{OLD_REF}:{prefix}large"] if "" in contents else [])]):
                self._run_fetch(name, batch)
        except OSError as error:
            raise CommandError(
                f"cannot pull from '{name}': {error.strerror}", "check its place: ctxfs remote"
            ) from error

    def _run_fetch(self, name: str, refspecs: Sequence[str]) -> None:
        sandbox = self._sandbox_options(name, "--upload-pack", "upload-pack")
        options = ("--quiet", "--no-tags", "--no-auto-gc", "--no-recurse-submodules", "--no-write-fetch-head")
        self._repo.run_remote("fetch", *options, *sandbox, "--", name, *refspecs)

    def drop_fetched_refs(self, name: str) -> None:
        """Delete the refs of a fetch that is not merged."""
        self._drop_refs(name)

    def erased_blobs(self) -> set[str]:
        """Return the ids of erased blobs that the repository does not contain."""
        file = self._repo.folder / ERASED_IDS_FILE
        return {oid for oid in file.read_text().split() if not self._repo.has(oid)} if file.exists() else set()

    def integrate(
        self, name: str, actor: Actor, forgotten: set[str], commit: Callable[[Iterable[bytes]], object]
    ) -> PullResult:
        """Fast-forward to the fetched history, or merge with it. The work tree follows; changes of both sides are kept.

        `forgotten` are blobs that the fetch must not contain; otherwise CommandError is raised and nothing is merged.
        `commit` makes versions of uncommitted changes, and of the paths that it receives.
        """
        self._repo.close_readers()
        if any(self._repo.has(oid) for oid in forgotten):
            self._drop_fetched(name)
            raise CommandError(
                f"'{name}' still holds what was forgotten here: nothing was pulled",
                f"forget it on the other machines too, then: ctxfs remote push --replace {name}",
            )
        oid = self._repo.read_ref(f"refs/remotes/{name}/main")
        if oid is None:
            raise CommandError(f"'{name}' holds no versions", "push to it first")
        head = self._ledger.head
        assert head is not None
        base = find_merge_base(self._repo, head.oid, oid)
        if base == oid:
            self._drop_refs(name, keep_head=True)
            return PullResult("current", 0)
        is_trusted = name in self.trusted_names()
        try:
            new_commits = self._validate_fetched(name, oid, is_trusted=is_trusted)
        except (CommandError, OSError):
            self._drop_refs(name)
            raise
        if not is_trusted:
            self._ledger.origins.add(new_commits, name)
        theirs = self._ledger.read_commit(oid)
        try:
            result = self._apply_merge(
                lambda: self._merger.merge(theirs, name, is_trusted=is_trusted),
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

    def follow_head(
        self, oid: str, graph: CommitGraph, actor: Actor, name: str, commit: Callable[[Iterable[bytes]], object]
    ) -> PullResult:
        """Fast-forward to a validated commit of a shared store, or merge with it, as `integrate` does."""
        ledger = self._ledger
        assert ledger.head is not None
        if graph.find_base(ledger.head.oid, oid) == oid:
            return PullResult("current", 0)
        theirs = ledger.read_commit(oid)
        new_commits = graph.list_new(oid, ledger.head.oid)

        def make_merge() -> Merge:
            assert ledger.head is not None
            return self._merger.merge_shared(theirs, graph.find_base(ledger.head.oid, oid))

        return self._apply_merge(make_merge, theirs, new_commits, actor, name, commit)

    def merge_with(self, oid: str, base: str, actor: Actor, name: str) -> tuple[str, tuple[bytes, ...]]:
        """Return a new commit that merges the local head with a commit, and the conflicts of the merge.

        Branch and work tree stay as they are.
        """
        ledger = self._ledger
        assert ledger.head is not None
        theirs = ledger.read_commit(oid)
        merge = self._merger.merge_shared(theirs, base)
        return ledger.write_merge(merge.tree, theirs, actor, f"merge with {name}"), merge.conflicts

    def _apply_merge(
        self,
        make_merge: Callable[[], Merge],
        theirs: Commit,
        new_commits: list[str],
        actor: Actor,
        name: str,
        commit: Callable[[Iterable[bytes]], object],
    ) -> PullResult:
        """Merge the remote's history once the whole work tree has followed.

        A path that could not be replaced is committed on top of the local head, and merged again. A head that differs
        from the work tree would make the next commit revert the remote's changes. While a file is open for writing,
        nothing is replaced.
        """
        ledger, rollback, placed_states = self._ledger, self._rollback, dict[bytes, State]()
        if not rollback.revert_follow():
            raise CommandError("the files are in part those of another pull", "free space on the disk, then try again")
        mtimes = read_mtimes(ledger, new_commits)
        merge, applied = make_merge(), ApplyResult()
        for _ in range(_MAX_ROUNDS):
            if (open_path := rollback.find_open(merge.tree)) is not None:
                applied = ApplyResult(left={open_path: UnchangedReason.OPEN})
                break
            head = ledger.head
            with rollback.holding(merge.tree) as paths:
                commit(paths)
                if ledger.head != head:
                    merge = make_merge()
                applied = rollback.follow(merge.tree, placed_states, mtimes)
            if not (applied.left or applied.rescued):
                return self._record_merge(merge, theirs, new_commits, actor, name, mtimes_of(applied.stat_keys))
            head = ledger.head
            is_occupied = not applied.rescued and set(applied.left.values()) == {UnchangedReason.OCCUPIED}
            if not is_occupied:  # the next commit would take the placed contents for local changes
                rollback.revert_follow()
                placed_states.clear()
            rollback.commit_rescued(applied)
            # Scratch at a path of the remote gets a version, so that both contents are merged.
            ledger.scratch.track(path for path, reason in applied.left.items() if reason is UnchangedReason.WRITTEN)
            commit(list(applied.left))
            if ledger.head == head and is_occupied:
                merge = self._retain_directories(merge, applied)
                return self._record_merge(merge, theirs, new_commits, actor, name, mtimes_of(applied.stat_keys))
            merge = make_merge()
        rollback.revert_follow()
        raise _not_pulled(applied, name)

    def _retain_directories(self, merge: Merge, applied: ApplyResult) -> Merge:
        """Return the merge with those directories added that stay, because unversioned files are in them."""
        ledger = self._ledger
        states = {
            parts: State(TreeEntry(MODE_DIR, EMPTY_TREE), ledger.state(ledger.tree, parts).side)
            for parts in map(split_path, sorted(applied.left))
        }
        return Merge(ledger.edit_tree(merge.tree, states), merge.conflicts, is_forward=False)

    def _record_merge(
        self,
        merge: Merge,
        theirs: Commit,
        new_commits: list[str],
        actor: Actor,
        name: str,
        mtimes: Mapping[bytes, int],
    ) -> PullResult:
        if merge.is_forward:
            self._ledger.fast_forward(theirs, new_commits)
            self._rollback.follow_intent.remove()
            return PullResult("forward", len(new_commits))
        self._ledger.index_commits(new_commits)
        self._ledger.merge(merge.tree, theirs, actor, f"merge {len(new_commits)} versions from {name}", mtimes)
        self._rollback.follow_intent.remove()
        return PullResult("merged", len(new_commits), merge.conflicts)

    def _validate_fetched(self, name: str, oid: str, *, is_trusted: bool) -> list[str]:
        """Validate the fetched commits and return their ids, oldest first. Store the large contents that they need."""
        ledger = self._ledger
        assert ledger.head is not None
        history = FetchedHistory(self._repo, ledger.trees, name, is_trusted=is_trusted)
        new_commits = history.check(oid, ledger.head.oid)
        prefix = _fetched_prefix(name)
        blobs = self._repo.list_refs(f"{prefix}content/")
        if (old := self._repo.read_ref(f"{prefix}large")) is not None:
            blobs = {**blobs_in_commit(ledger, old), **blobs}
        store_blobs(ledger, blobs, {item.sha256: item.size for item in history.large})
        present = set(ledger.large.names())
        tree = decode_commit(oid, self._repo.read(oid)).tree
        for change in ledger.compare_trees(ledger.tree, tree):
            large_content = ledger.read_sidecar(change.side).large
            if large_content is not None and large_content.sha256 not in present:
                raise history.refusal(change.path, "its content is too large for git, and did not come along")
        return new_commits

    def _adopt_tags(self, name: str, commits: set[str]) -> None:
        """Keep the remote's snapshots of versions that the store has now.

        Only valid snapshot names that the store does not use yet are taken.
        """
        for tag, oid in self._repo.list_refs(f"{_fetched_prefix(name)}tags/").items():
            is_stored = oid in commits or self._ledger.index.by_oid(oid) is not None
            if is_stored and tag not in self._ledger.tags and is_snapshot_name(tag):
                self._repo.update_ref(f"refs/tags/{tag}", oid, None)
        self._ledger.read_tags()

    # internals

    def _drop_fetched(self, name: str) -> None:
        """Delete the refs and objects of a fetch."""
        self._drop_refs(name)
        self._repo.run_maintenance("repack", "-a", "-d", "-l", "-q")
        self._repo.run_maintenance("prune", "--expire=now")
        self._repo.close_readers()

    def _drop_refs(self, name: str, *, keep_head: bool = False) -> None:
        for below in (_fetched_prefix(name), *(() if keep_head else (f"refs/remotes/{name}/",))):
            self._repo.delete_refs(below)

    def _sandbox_options(self, name: str, option: str, service: str) -> tuple[str, ...]:
        """Return git's option that sandboxes a repository which git opens on this machine."""
        url = check_url(self.urls()[name])
        return (f"{option}={build_service_command(service)}",) if is_local(url) else ()

    def _require_remote(self, name: str) -> None:
        if name not in self.urls():
            raise CommandError(f"no remote is called '{name}'", "ctxfs remote add NAME PLACE")


def _batches(items: Sequence[str]) -> Iterable[Sequence[str]]:
    return (items[start : start + _BATCH_CONTENTS] for start in range(0, len(items), _BATCH_CONTENTS))


def _fetched_prefix(name: str) -> str:
    """Return the ref prefix of a remote's tags and large contents until they are merged."""
    return f"refs/ctxfs/fetched/{name}/"


def _not_pulled(applied: ApplyResult, name: str) -> CommandError:
    """Return the error for a work tree that could not follow."""
    path, reason = next(iter(applied.left.items()), (b"", UnchangedReason.WRITTEN))
    cause = "is open for writing" if reason is UnchangedReason.OPEN else "is written to all the time"
    return CommandError(
        f"'{display_path(path)}' {cause}: nothing was pulled",
        f"close it, or wait for its writer, then: ctxfs remote pull {name}",
    )
