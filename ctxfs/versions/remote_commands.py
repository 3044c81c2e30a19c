"""Remotes of a store: their list, push, pull, and the anchors in their versions."""

from collections.abc import Iterator
from datetime import UTC, datetime

from ctxfs.eventlog.anchor import Anchor, parse_anchor
from ctxfs.model.credentials import without_passwords
from ctxfs.versions.archive_core import ArchiveAccess
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.objects.git import BRANCH, Repository
from ctxfs.versions.recording.pathindex import PathChange
from ctxfs.versions.remotes.remote import PullResult


class RemoteCommands:
    """The remotes of an archive, and the transfers between them. Commits continue during a transfer."""

    def __init__(self, archive: ArchiveAccess) -> None:
        self._archive = archive

    def urls(self) -> dict[str, str]:
        """Return the address of each remote, by its name. Passwords in addresses are removed."""
        with self._archive.locked() as core:
            return {name: without_passwords(url) for name, url in core.remotes.urls().items()}

    def trusted_names(self) -> list[str]:
        """Return the names of the remotes whose history is trusted like the store's own."""
        with self._archive.locked() as core:
            return core.remotes.trusted_names()

    def add(self, name: str, url: str, *, is_trusted: bool = False) -> None:
        """Add a remote to push to and pull from."""
        with self._archive.locked() as core:
            core.remotes.add(name, url, is_trusted=is_trusted)

    def set_trust(self, name: str, *, is_trusted: bool) -> None:
        """Trust a remote's history like the store's own, or stop trusting it."""
        with self._archive.locked() as core:
            core.remotes.set_trust(name, is_trusted=is_trusted)

    def remove(self, name: str) -> None:
        """Remove a remote."""
        with self._archive.locked() as core:
            core.remotes.remove(name)

    def push(self, name: str, *, replace: bool = False) -> str:
        """Push every version to a remote; return the revision that it then has."""
        with self._archive.maintenance_lock:
            with self._archive.locked() as core:
                self._archive.commit()
                plan = core.remotes.prepare_push(name, replace=replace)
            core.remotes.push(plan)
        return plan.head

    def pull(self, name: str, actor: Actor) -> tuple[PullResult, list[PathChange]]:
        """Fetch and merge a remote's versions. Return the result, and the changes in this store."""
        with self._archive.locked() as core:
            remotes = core.remotes
        with self._archive.maintenance_lock:
            with self._archive.lock:
                erased = remotes.erased_blobs()
            remotes.fetch(name)
            with self._archive.locked() as core:
                self._archive.commit()
                before = core.ledger.tree
                result = remotes.integrate(name, actor, erased, self._archive.commit)
                return result, core.ledger.compare_trees(before, core.ledger.tree)

    def read_anchors(self, remote: str = "") -> tuple[str, list[Anchor]]:
        """Return the id of this store and the anchors in its versions, or in those of `remote`, oldest first."""
        with self._archive.locked() as core:
            remotes, repo, store_id = core.remotes, core.ledger.repo, core.ledger.store_id
        if remote:
            with self._archive.maintenance_lock:
                remotes.fetch(remote)
                try:
                    return store_id, list(_iterate_anchors(repo, f"refs/remotes/{remote}/main"))
                finally:
                    remotes.drop_fetched_refs(remote)
        return store_id, list(_iterate_anchors(repo, BRANCH))


def _iterate_anchors(repo: Repository, ref: str) -> Iterator[Anchor]:
    """Yield the anchors in the versions that a ref reaches, oldest first."""
    form = "--format=%H%x09%ct%x09%(trailers:key=Ctxfs-Anchor,valueonly,separator=%x09)"
    for line in repo.run("log", "--reverse", "--topo-order", form, ref, "--").decode("utf-8", "replace").splitlines():
        oid, _, rest = line.partition("\t")
        seconds, _, text = rest.partition("\t")
        time = datetime.fromtimestamp(min(int(seconds), 1 << 33), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        anchor = parse_anchor(text.partition("\t")[0], oid, time)
        if anchor is not None:
            yield anchor
