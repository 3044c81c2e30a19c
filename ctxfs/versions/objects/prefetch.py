"""Reading the objects of many commits ahead, by a few processes instead of a request for each object."""

from collections.abc import Iterator, Sequence

from ctxfs.versions.objects.commits import decode_commit
from ctxfs.versions.objects.git import Repository, argument_list

_MIN_COMMITS = 8  # the processes take longer than the requests for fewer
_MAX_COMMITS = 256
_MAX_TREE_BYTES = 2 * 2**20  # of the trees of a batch: more would drop each other from the caches


def each_commit(repo: Repository, oids: Sequence[str]) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield commits, parents first, with the sizes in bytes of the blobs that are new in their batch.

    The commits and trees of a batch are in memory when its first commit is yielded. Raise OSError EIO if one is missing.
    """
    start, count = 0, _MAX_COMMITS
    while start < len(oids):
        batch = oids[start : start + count]
        sizes = _read_new(repo, batch) if len(batch) >= _MIN_COMMITS else {}
        if sizes is None:
            count = len(batch) // 2
            continue
        yield from ((oid, sizes) for oid in batch)
        start, count = start + len(batch), min(2 * count, _MAX_COMMITS)


def _read_new(repo: Repository, oids: Sequence[str]) -> dict[str, int] | None:
    """Read the commits and their new trees, and return the sizes of their new blobs; None if the trees are too large."""
    commits = repo.read_many(oids)
    parents = {parent for oid, data in commits.items() for parent in decode_commit(oid, data).parents} - commits.keys()
    revisions = argument_list([*oids, *(f"^{parent}" for parent in parents)])
    listed = repo.run("rev-list", "--objects", "--no-object-names", "--stdin", data=revisions)
    checked = repo.run("cat-file", "--buffer", "--batch-check=%(objectname) %(objecttype) %(objectsize)", data=listed)
    rows = [row for line in checked.decode().splitlines() if len(row := line.split()) == 3]  # without missing objects
    trees = {oid: int(size) for oid, kind, size in rows if kind == "tree"}
    if sum(trees.values()) > _MAX_TREE_BYTES:
        return None
    repo.keep("commit", commits | repo.read_many(parents))
    repo.keep("tree", repo.read_many(trees))
    return {oid: int(size) for oid, kind, size in rows if kind == "blob"}
