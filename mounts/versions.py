"""The views `<dir>/.versions/<file>/`, the versions of a file, and `.snapshots/<time>/`, the tree as of a version.

A file's versions are those in which it changed, numbered from its first, through renames:
`0007_2026-11-21T09-14-03Z_agent-a_ab12cd34.md`; beside them `latest` and `prev` as links and `log`. Deeper paths below
`.versions` reach the files of deleted directories. Everything is read-only; restore with plain `cp`.
"""

import errno
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ctxfs.model.entry import Entry, directory
from ctxfs.model.errors import not_found, path_error
from ctxfs.model.metadata import PREFIX
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path, one_line
from ctxfs.policy.owners import NEVER, OWNED_AREAS
from ctxfs.policy.scope import AccessTimes, AuthorScope
from ctxfs.store.layout import is_versioned
from ctxfs.threads import in_turn
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Commit
from ctxfs.versions.objects.trees import MODE_LINK
from ctxfs.versions.version_reader import PathVersion
from ctxfs.vfs.branch_paths import is_branched
from ctxfs.vfs.caller_context import acting_branch, acting_principal

_MAX_CACHED_PAGES = 256
_OWNED_PREFIXES = tuple((area,) for area in OWNED_AREAS)  # areas in which only the owners see versions


@dataclass(frozen=True, slots=True)
class _Page:
    """The versions of one path: of a file under their names, or the names in a directory, or neither."""

    newest: str
    made_ns: int = 0
    entries: Mapping[str, Entry] = field(default_factory=dict)
    shown: Mapping[str, PathVersion] = field(default_factory=dict)
    log: bytes = b""
    names: Sequence[str] | None = None

    @property
    def is_file(self) -> bool:
        """Return True if there are versions to show."""
        return bool(self.shown)


class VersionsView:
    """A factory for the `.versions` of any directory. Pages are cached until the next commit."""

    sealed = True
    of_directories = False  # deleted files have versions, too

    def __init__(self, archive: Archive, scope: AuthorScope) -> None:
        self._archive = archive
        self._scope = scope
        self._pages: OrderedDict[tuple[Path, int, str], _Page] = OrderedDict()

    def at(self, below: Path) -> Mount:
        """Return the mount of the versions in the directory `below`."""
        return _Versions(self, self._archive, below)

    @staticmethod
    def check_on_main(path: Path) -> None:
        """Raise OSError ENOENT for a path that the acting branch has of its own: the versions here are those of main."""
        branch = acting_branch()
        if branch is not None and is_branched(path):
            raise path_error(errno.ENOENT, path, f"versions of a branch are listed by: ctxfs branch log {branch.name}")

    async def page(self, path: Path) -> _Page:
        """Return the page of a path for the calling principal, empty without versions. Cached until the next commit.

        Raise OSError ENOENT for a path of the acting branch.
        """
        self.check_on_main(path)
        since, reader = await self._visible_since(path), self._scope.restricted_principal()
        page = self._pages.get((path, since, reader))
        if page is None or page.newest != self._archive.newest:
            page = await in_turn(self._build_page, path, since, reader)
            self._pages[path, since, reader] = page
            while len(self._pages) > _MAX_CACHED_PAGES:
                self._pages.popitem(last=False)
        if reader and page.names and path.parts in _OWNED_PREFIXES:
            names = await in_turn(
                lambda: [name for name in page.names or () if self._scope.readable_since(path / name) < NEVER]
            )
            return replace(page, names=names)
        return page

    async def _visible_since(self, path: Path) -> int:
        return 0 if acting_principal() is None else await in_turn(self._scope.readable_since, path)

    def _build_page(self, path: Path, since: int, reader: str) -> _Page:
        newest = self._archive.newest
        if not (path.is_root or is_versioned(path)):
            return _Page(newest)
        if since >= NEVER and path.parts[:1] in _OWNED_PREFIXES and len(path.parts) > 1:
            return _Page(newest)  # a task or query of another principal, present or deleted: its name is hidden, too
        ever = (
            [] if path.is_root else [version for version in self._archive.reader.versions(str(path)) if version.is_file]
        )
        versions = [version for version in ever if version.commit.time_ns >= since]
        if since:
            versions = [replace(version, number=number) for number, version in enumerate(versions, 1)]
        if not versions:
            is_directory = self._archive.reader.was_directory(str(path)) and not ever
            names = [name for name, _ in self._archive.reader.names_below(str(path))] if is_directory else None
            if names and since:
                names = [name for name in names if self._archive.reader.changed_since(str(path / name), since)]
            return _Page(newest, names=names)
        named = [(_version_name(path.name, version), version) for version in versions]
        entries = {name: self._entry(name, version) for name, version in named}
        time_ns, log = versions[-1].commit.time_ns, _render_log(named, reader)
        entries["latest"] = _link("latest", named[-1][0], time_ns)
        if len(named) > 1:
            entries["prev"] = _link("prev", named[-2][0], time_ns)
        entries["log"] = Entry("log", "file", version=f"{time_ns:x}", size=len(log), mtime_ns=time_ns)
        return _Page(newest, time_ns, entries, dict(named), log)

    def _entry(self, name: str, version: PathVersion) -> Entry:
        change, time_ns = version.change, version.commit.time_ns
        if change.mode == MODE_LINK:
            target = self._archive.reader.content_of(version).decode("utf-8", "surrogateescape")
            return Entry(name, "link", change.oid, change.size, time_ns, 0o777, target)
        mode, _ = self._archive.reader.attributes_of(version)
        return Entry(name, "file", version=change.oid, size=change.size, mtime_ns=time_ns, mode=mode)


class _Versions(Mount):
    """Directories with all names that ever were in them; files are directories of their versions."""

    sealed = True

    def __init__(self, view: VersionsView, archive: Archive, below: Path) -> None:
        self._view = view
        self._archive = archive
        self._below = below

    async def stat(self, path: Path) -> Entry:
        """Return an entry with the size and time of the version."""
        if path.is_root:
            self._view.check_on_main(self._below)
            return directory("")
        page = await self._view.page(self._below.join(path))
        if page.is_file or page.names is not None:
            return directory(path.name, mtime_ns=page.made_ns)
        # Its own page is not requested again: a commit in between would make a directory of a missing name.
        parent_page = await self._view.page(self._below.join(path.parent))
        if path.name not in parent_page.entries:
            raise not_found(path)
        return parent_page.entries[path.name]

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return all names that ever were in a directory, or the versions of a file, oldest first."""
        page = await self._view.page(self._below.join(path))
        if page.is_file:
            return list(page.entries.values())
        if page.names is not None:
            return [directory(name) for name in page.names]
        if path.is_root:
            return []
        await self._page_with(path)
        raise path_error(errno.ENOTDIR, path)

    async def read(self, path: Path) -> bytes:
        """Return the content of a version, or the log."""
        page = await self._page_with(path)
        if path.name == "log":
            return page.log
        if path.name not in page.shown:
            raise path_error(errno.EINVAL, path)  # a link
        return await in_turn(self._archive.reader.content_of, page.shown[path.name])

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return the attributes of a version, with its revision, author and session."""
        if (await self.stat(path)).is_dir:
            return {}
        page = await self._page_with(path)
        if path.name not in page.shown:
            return {}
        version = page.shown[path.name]
        _, attributes = await in_turn(self._archive.reader.attributes_of, version)
        return {
            **attributes,
            f"{PREFIX}revision": version.commit.oid.encode(),
            f"{PREFIX}author": version.commit.actor.principal.encode(),
            f"{PREFIX}session": version.commit.actor.session.encode(),
        }

    async def _page_with(self, path: Path) -> _Page:
        """Return the page that contains the name `path`; raise ENOENT if there is none, EISDIR for a directory."""
        page = await self._view.page(self._below.join(path.parent)) if not path.is_root else None
        if page is not None and path.name in page.entries:
            return page
        own_page = await self._view.page(self._below.join(path))
        if path.is_root or own_page.is_file or own_page.names is not None:
            raise path_error(errno.EISDIR, path)
        raise not_found(path)


def _link(name: str, target: str, mtime_ns: int) -> Entry:
    size = len(target.encode("utf-8", "surrogateescape"))
    return Entry(name, "link", size=size, mtime_ns=mtime_ns, mode=0o777, target=target)


def _version_name(name: str, version: PathVersion) -> str:
    """Return `NNNN_time_author_revision.ext`: it sorts by number, keeps the extension, and needs no shell quoting."""
    stem, dot, extension = name.rpartition(".")
    suffix = f".{extension}" if stem.strip(".") and dot and len(extension) <= 16 else ""
    time = version.commit.time_text.replace(":", "-")
    author = re.sub(r"[^A-Za-z0-9._-]", "-", version.commit.actor.principal)[:80]
    return f"{version.number:04}_{time}_{author}_{version.commit.oid[:8]}{suffix}"


def _render_log(named: Sequence[tuple[str, PathVersion]], reader: str) -> bytes:
    """Return one line a version, newest first: name, change, subject, reason.

    A `reader` receives no subjects and reasons by others, because these may name hidden paths.
    """
    lines = []
    for name, version in reversed(named):
        if reader not in ("", version.commit.actor.principal):
            lines.append(f"{name}  {version.change.op}\n")
            continue
        reason = f"  ({one_line(version.commit.actor.reason)})" if version.commit.actor.reason else ""
        lines.append(f"{name}  {version.change.op}  {one_line(version.commit.subject)}{reason}\n")
    return "".join(lines).encode("utf-8", "replace")


class SnapshotsMount(Mount):
    """The directory `.snapshots/`: it lists named snapshots; any revision, prefix or time is reachable by name."""

    sealed = True

    def __init__(self, archive: Archive, scope: AccessTimes) -> None:
        self._archive = archive
        self._scope = scope

    async def stat(self, path: Path) -> Entry:
        """Return the read-only entry as of the version."""
        return await in_turn(self._stat, path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the snapshots by name, or a directory as of the version; sizes are left to stat."""
        return await in_turn(self._list, path)

    async def read(self, path: Path) -> bytes:
        """Return the content as of the version."""
        return await in_turn(self._read, path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return the attributes as of the version."""
        return await in_turn(self._metadata, path)

    def _stat(self, path: Path) -> Entry:
        if path.is_root:
            return directory("")
        commit = self._commit_of(path)
        if len(path.parts) == 1:
            return directory(path.name, mtime_ns=commit.time_ns, version=commit.oid)
        return self._archive.reader.entry_in(commit, str(Path(path.parts[1:])), path.name)

    def _list(self, path: Path) -> Sequence[Entry]:
        if path.is_root:
            names = sorted(self._archive.snapshots.commit_ids())
            return [self._stat(ROOT / name) for name in names]
        commit, inner = self._commit_of(path), Path(path.parts[1:])
        entries = self._archive.reader.list_in(commit, str(inner))
        return [entry for entry in entries if self._scope.readable_since(inner / entry.name) <= commit.time_ns]

    def _read(self, path: Path) -> bytes:
        if path.is_root:
            raise path_error(errno.EISDIR, path)
        commit = self._commit_of(path)
        return self._archive.reader.read_in(commit, str(Path(path.parts[1:])))

    def _metadata(self, path: Path) -> Mapping[str, bytes]:
        if len(path.parts) < 2:
            return {}
        commit = self._commit_of(path)
        return self._archive.reader.attributes_in(commit, str(Path(path.parts[1:])))

    def _commit_of(self, path: Path) -> Commit:
        """Return the version that a path begins with; ENOENT if the caller had no access to its rest then."""
        commit = self._archive.reader.resolve(path.parts[0]).commit
        inner = Path(path.parts[1:])
        if not inner.is_root and self._scope.readable_since(inner) > commit.time_ns:
            raise not_found(path)
        return commit
