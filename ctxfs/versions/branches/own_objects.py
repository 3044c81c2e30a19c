"""The objects that a branch was the first to write: the only ones that its deletion has to look at.

`ctxfs-branch-objects/<name>` in the folder of the repository has one line an object, `<id> <base>`: the repository lacked
it before, and the commit `base` and its ancestors do not reach it. A record exists from the creation of its branch on,
and is removed when history is rewritten. Without one, every object of the repository is compared.
"""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path as HostPath

from ctxfs.versions.objects.git import Repository, argument_list, is_oid

_FOLDER = "ctxfs-branch-objects"


def create_record(repo: Repository, name: str) -> None:
    """Begin the record of a new branch."""
    (repo.folder / _FOLDER).mkdir(exist_ok=True, mode=0o700)
    _file(repo, name).write_bytes(b"")


@contextlib.contextmanager
def recorded(repo: Repository, name: str, base: str) -> Iterator[None]:
    """Record the objects that the block is the first to write, if the branch has a record. The ref must move later."""
    with repo.collecting_new() as oids:
        try:
            yield
        finally:
            _append(repo, name, dict.fromkeys(oids, base))


def read_record(repo: Repository, name: str) -> Mapping[str, str] | None:
    """Return the base of each recorded object by its id; None without a complete record."""
    try:
        lines = _file(repo, name).read_text(errors="replace").splitlines()
    except OSError:
        return None
    pairs = [line.partition(" ") for line in lines]
    if not all(is_oid(oid) and is_oid(base) for oid, _, base in pairs):
        return None
    return {oid: base for oid, _, base in reversed(pairs)}


def recorded_names(repo: Repository) -> set[str]:
    """Return the names of the branches that have a record."""
    try:
        return set(os.listdir(repo.folder / _FOLDER))
    except OSError:
        return set()


def drop_record(repo: Repository, name: str) -> None:
    """Remove the record of one branch."""
    _file(repo, name).unlink(missing_ok=True)


def drop_records(repo: Repository) -> None:
    """Remove all records: history is rewritten, and the objects are others."""
    shutil.rmtree(repo.folder / _FOLDER, ignore_errors=True)


def delete_own(repo: Repository, record: Mapping[str, str], others: Iterable[str]) -> set[str]:
    """Delete the recorded objects that no ref reaches, and return their ids. The refs of the branch are gone already.

    Objects that are still reached are added to the records of the branches `others`, the last of which deletes them.
    """
    used = set[str]()
    for base in set(record.values()):
        used |= _reached_after(repo, base)
    kept = {oid: base for oid, base in record.items() if oid in used}
    own = set(record) - used
    if kept:
        for other in others:
            _append(repo, other, kept)
    _delete_objects(repo, own)
    return own


def _reached_after(repo: Repository, base: str) -> set[str]:
    """Return the ids of the objects that refs reach, without most of those that the commit `base` reaches."""
    refs = set(repo.list_refs("refs/", peel=False).values())
    listed = repo.run("rev-list", "--objects", "--stdin", data=argument_list([*sorted(refs), f"^{base}"]))
    return refs | {row[:40].decode() for row in listed.splitlines()}


def _delete_objects(repo: Repository, oids: Collection[str]) -> None:
    """Delete objects that nothing refers to. Of packs, only those that hold one are written again."""
    objects = repo.folder / "objects"
    for oid in oids:
        (objects / oid[:2] / oid[2:]).unlink(missing_ok=True)
    repo.close_readers()
    if not repo.existing(oids):
        return
    for index in sorted((objects / "pack").glob("pack-*.idx")):
        packed = [line.split()[1].decode() for line in repo.run("show-index", data=index.read_bytes()).splitlines()]
        if any(oid in oids for oid in packed):
            _rewrite_pack(repo, index, [oid for oid in packed if oid not in oids])
    repo.close_readers()


def _rewrite_pack(repo: Repository, index: HostPath, oids: list[str]) -> None:
    """Replace a pack by one with these objects."""
    if oids:
        prefix = str(index.with_name("pack"))
        name = repo.run("pack-objects", "-q", prefix, data=argument_list(oids)).decode().strip()
        if index.name == f"pack-{name}.idx":
            return
    for file in (index, *index.parent.glob(f"{index.stem}.*")):
        file.unlink(missing_ok=True)


def _append(repo: Repository, name: str, bases: Mapping[str, str]) -> None:
    file = _file(repo, name)
    if bases and file.exists():
        with open(file, "a", encoding="ascii") as target:
            target.write("".join(f"{oid} {base}\n" for oid, base in bases.items()))


def _file(repo: Repository, name: str) -> HostPath:
    return repo.folder / _FOLDER / name
