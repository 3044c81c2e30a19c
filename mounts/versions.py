"""`<dir>/.versions/<file>/`: the versions of a file as files; `.snapshots/<when>/`: the whole tree as it was then.

A file's versions are those in which it changed, numbered from its first, through renames:
`0007_2026-11-21T09-14-03Z_agent-a_ab12cd34.md`; beside them `latest` and `prev` as links and `log`. A deeper path below
`.versions` reaches what was in directories that are gone. Everything is read-only; restore with plain `cp`.
"""

import errno
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ctxfs.model.entry import Entry, directory
from ctxfs.model.errors import not_found, path_error
from ctxfs.model.metadata import PREFIX
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path, printable
from ctxfs.threads import in_turn
from ctxfs.versions.archive import Archive, Shown
from ctxfs.versions.trees import MODE_LINK

_KEEP_LISTS = 64


class VersionsView:
    """Makes the `.versions` of any directory."""

    sealed = True

    def __init__(self, archive: Archive, is_versioned: Callable[[Path], bool]) -> None:
        self._archive = archive
        self._is_versioned = is_versioned
        self._lists: OrderedDict[str, tuple[str, list[_Named]]] = OrderedDict()

    def versions_of(self, path: Path) -> Sequence["_Named"]:
        """The versions of a file under their names; remembered until something is committed."""
        key, newest = str(path), self._archive.newest
        known = self._lists.get(key)
        if known is None or known[0] != newest:
            found = self._archive.versions(key)
            known = (newest, [_Named(_version_name(path.name, shown), shown) for shown in found if shown.is_file])
            self._lists[key] = known
            while len(self._lists) > _KEEP_LISTS:
                self._lists.popitem(last=False)
        return known[1]

    def at(self, below: Path) -> Mount:
        """The past of the directory `below`; ENOENT inside where there is none."""
        return _Versions(self, self._archive, below, below.is_root or self._is_versioned(below))


@dataclass(frozen=True, slots=True)
class _Named:
    """A version under the name that it is listed by."""

    name: str
    shown: Shown


class _Versions(Mount):
    """Directories that hold what was ever in them; files are directories of their versions."""

    sealed = True

    def __init__(self, view: VersionsView, archive: Archive, below: Path, known: bool) -> None:
        self._view = view
        self._archive = archive
        self._below = below
        self._known = known

    async def stat(self, path: Path) -> Entry:
        """Sizes and times are those of the versions."""
        return await in_turn(self._stat, path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Names that ever were here, or the versions of a file, oldest first."""
        return await in_turn(self._list, path)

    async def read(self, path: Path) -> bytes:
        """The content of a version, or the log."""
        return await in_turn(self._read, path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """The attributes that the file had then, and which version it is."""
        return await in_turn(self._metadata, path)

    def _stat(self, path: Path) -> Entry:
        if path.is_root:
            return directory("")
        named = self._versions_of(path)
        if named:
            return directory(path.name, mtime_ns=named[-1].shown.commit.time_ns)
        if self._has_inside(path):
            return directory(path.name)
        found = self._special(path)
        return found if isinstance(found, Entry) else self._entry(found)

    def _list(self, path: Path) -> Sequence[Entry]:
        named: Sequence[_Named] = [] if path.is_root else self._versions_of(path)
        if named:
            return [*(self._entry(version) for version in named), *self._beside(named)]
        if path.is_root or self._has_inside(path):
            if not self._known:
                return []
            return [directory(name) for name, _ in self._archive.names_below(str(self._below.join(path)))]
        self._special(path)
        raise path_error(errno.ENOTDIR, path)

    def _read(self, path: Path) -> bytes:
        if path.is_root or self._versions_of(path) or self._has_inside(path):
            raise path_error(errno.EISDIR, path)
        found = self._special(path)
        if isinstance(found, Entry):
            if found.kind == "link":
                raise path_error(errno.EINVAL, path)
            return _render_log(self._versions_of(path.parent))
        return self._archive.content_of(found.shown)

    def _metadata(self, path: Path) -> Mapping[str, bytes]:
        if path.is_root or self._versions_of(path) or self._has_inside(path):
            return {}
        found = self._special(path)
        if isinstance(found, Entry):
            return {}
        _, attributes = self._archive.attributes(found.shown)
        commit = found.shown.commit
        return {
            **attributes,
            f"{PREFIX}revision": commit.oid.encode(),
            f"{PREFIX}author": commit.actor.principal.encode(),
            f"{PREFIX}session": commit.actor.session.encode(),
        }

    def _versions_of(self, path: Path) -> Sequence[_Named]:
        if not self._known or path.is_root:
            return []
        return self._view.versions_of(self._below.join(path))

    def _has_inside(self, path: Path) -> bool:
        return self._known and self._archive.was_directory(str(self._below.join(path)))

    def _special(self, path: Path) -> "_Named | Entry":
        """A version by its name, or `latest`, `prev` or `log` as an entry."""
        named = self._versions_of(path.parent)
        for version in named:
            if version.name == path.name:
                return version
        for entry in self._beside(named):
            if entry.name == path.name:
                return entry
        raise not_found(path)

    def _entry(self, version: _Named) -> Entry:
        shown = version.shown
        if shown.change.mode == MODE_LINK:
            target = self._archive.content_of(shown).decode("utf-8", "surrogateescape")
            return Entry(version.name, "link", shown.change.oid, shown.change.size, shown.commit.time_ns, 0o777, target)
        mode, _ = self._archive.attributes(shown)
        return Entry(
            version.name,
            "file",
            version=shown.change.oid,
            size=shown.change.size,
            mtime_ns=shown.commit.time_ns,
            mode=mode,
        )

    @staticmethod
    def _beside(named: Sequence[_Named]) -> Sequence[Entry]:
        if not named:
            return []
        when = named[-1].shown.commit.time_ns
        log = _render_log(named)
        entries = [_link("latest", named[-1])]
        if len(named) > 1:
            entries.append(_link("prev", named[-2]))
        return [*entries, Entry("log", "file", version=f"{when:x}", size=len(log), mtime_ns=when)]


def _link(name: str, version: _Named) -> Entry:
    target = version.name
    size = len(target.encode("utf-8", "surrogateescape"))
    return Entry(name, "link", size=size, mtime_ns=version.shown.commit.time_ns, mode=0o777, target=target)


def _version_name(name: str, shown: Shown) -> str:
    """`NNNN_time_author_revision.ext`: sorts by number, keeps the extension, has no character that a shell minds."""
    stem, dot, extension = name.rpartition(".")
    suffix = f".{extension}" if stem.strip(".") and dot and len(extension) <= 16 else ""
    when = shown.commit.when.replace(":", "-")
    author = re.sub(r"[^A-Za-z0-9._-]", "-", shown.commit.actor.principal)[:80]
    return f"{shown.number:04}_{when}_{author}_{shown.commit.oid[:8]}{suffix}"


def _render_log(named: Sequence[_Named]) -> bytes:
    """One line a version, newest first: name, what, subject, reason."""
    lines = []
    for version in reversed(named):
        commit = version.shown.commit
        reason = f"  ({commit.actor.reason})" if commit.actor.reason else ""
        lines.append(f"{version.name}  {version.shown.change.what}  {printable(commit.subject)}{reason}\n")
    return "".join(lines).encode("utf-8", "replace")


class SnapshotsMount(Mount):
    """`.snapshots/`: lists named snapshots; any revision, prefix or time is reachable by name."""

    sealed = True

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def stat(self, path: Path) -> Entry:
        """The entry as it was, read-only."""
        return await in_turn(self._stat, path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Snapshots by name, or a directory as it was; sizes are left to stat."""
        return await in_turn(self._list, path)

    async def read(self, path: Path) -> bytes:
        """The content as it was."""
        return await in_turn(self._read, path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """The attributes as they were."""
        return await in_turn(self._metadata, path)

    def _stat(self, path: Path) -> Entry:
        if path.is_root:
            return directory("")
        then = self._archive.resolve(path.parts[0]).commit
        if len(path.parts) == 1:
            return directory(path.name, mtime_ns=then.time_ns, version=then.oid)
        return self._archive.entry_then(then, str(Path(path.parts[1:])), path.name)

    def _list(self, path: Path) -> Sequence[Entry]:
        if path.is_root:
            names = sorted(self._archive.snapshots())
            return [self._stat(ROOT / name) for name in names]
        then = self._archive.resolve(path.parts[0]).commit
        return self._archive.list_then(then, str(Path(path.parts[1:])))

    def _read(self, path: Path) -> bytes:
        if path.is_root:
            raise path_error(errno.EISDIR, path)
        then = self._archive.resolve(path.parts[0]).commit
        return self._archive.read_then(then, str(Path(path.parts[1:])))

    def _metadata(self, path: Path) -> Mapping[str, bytes]:
        if len(path.parts) < 2:
            return {}
        then = self._archive.resolve(path.parts[0]).commit
        return self._archive.attributes_then(then, str(Path(path.parts[1:])))
