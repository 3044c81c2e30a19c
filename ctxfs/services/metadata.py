"""The attributes of a path: the stored ones, those of its front matter, and the computed ones of `user.ctx.*`."""

import contextlib
import hashlib
from collections.abc import Mapping

from ctxfs.context.build.token_bound import upper_bound
from ctxfs.index.extract.file_reader import text_attributes
from ctxfs.index.extract.formats import UnreadableFile
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.index.search.searcher import Searcher
from ctxfs.memory.kinds import kind_of
from ctxfs.memory.states import state_of
from ctxfs.model.entry import Entry
from ctxfs.model.metadata import PREFIX, tags_of
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.services.caller_scope import CallerScope
from ctxfs.services.citations import CITES, Citations
from ctxfs.services.sources import SettingsFile
from ctxfs.store.layout import is_versioned
from ctxfs.store.memory_file import MemoryFile
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.version_reader import VersionReader
from ctxfs.vfs.namespace import Namespace

_TAGS = f"{PREFIX}tags"
_FENCES = ("---", "+++")  # with which front matter begins


class Metadata:
    """Attributes as `getfattr` shows them."""

    def __init__(
        self,
        tree: Mount,
        namespace: Namespace,
        versions: VersionReader,
        searcher: Searcher,
        scope: CallerScope,
        settings: SettingsFile,
        citations: Citations,
        memory_file: MemoryFile,
    ) -> None:
        self._citations = citations
        self._tree = tree
        self._namespace = namespace
        self._versions = versions
        self._searcher = searcher
        self._scope = scope
        self._settings = settings
        self._memory_file = memory_file

    async def read(self, path: Path) -> dict[str, bytes]:
        """Return every attribute of a path. OSError as `Mount.stat` and `Mount.metadata` raise it."""
        entry = await self._tree.stat(path)
        stored = dict(await self._tree.metadata(path))
        if self._namespace.is_view(path) or entry.kind not in ("file", "dir"):
            return stored
        computed: dict[str, str] = {}
        written: Mapping[str, str] = {}
        if is_versioned(path):
            computed |= await in_turn(self._origin, str(path))
        if value := stored.get(CITES):
            computed |= await self._citations.describe(path, value)
        if entry.kind == "file" and self._tree.backing(path) is not None:
            facts, written = await self._content_facts(path, entry, computed.get("revision", ""))
            computed |= facts
        joined = _join_attributes(stored, written)
        if entry.kind == "file" and path.parts[:1] == ("memory",):
            joined = {**await blocking(self._memory_labels, path, joined), **joined}
        return {**joined, **{f"{PREFIX}{name}": value.encode() for name, value in computed.items() if value}}

    def _memory_labels(self, path: Path, attributes: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the kind of a memory that follows from its folder, and its state."""
        kind = kind_of(path.parts, attributes, self._memory_file.rules.kinds)
        labels = {"kind": kind, "state": state_of(attributes)}
        return {f"{PREFIX}{name}": value.encode() for name, value in labels.items() if value}

    def _origin(self, path: str) -> dict[str, str]:
        last, first = self._versions.last_change(path), self._versions.first_change(path)
        since = self._scope.readable_since(Path.parse(path))
        if last is None or last.time_ns < since:
            return {}
        if first is not None and first.time_ns < since:
            first = None
        origin = {"revision": last.oid, "author": last.actor.principal, "session": last.actor.session}
        return {**origin, "created_at": first.time_text} if first else origin

    async def _content_facts(self, path: Path, entry: Entry, revision: str) -> tuple[dict[str, str], Mapping[str, str]]:
        """Return (computed attributes of a file's content, attributes in its front matter)."""
        if entry.size is None or entry.size > self._settings.current.index.max_file_bytes:
            _, note = await blocking(self._searcher.indexed_digest, str(path))
            return {"indexed": note}, {}
        data = await self._tree.read(path)
        digest = hashlib.sha256(data).hexdigest()
        indexed_digest, note = await blocking(self._searcher.indexed_digest, str(path))
        indexed = note or ((revision or digest) if indexed_digest == digest else "pending")
        facts = {"sha256": digest, "indexed": indexed}
        text = await blocking(read_text, data)
        if text is None:
            return facts, {}
        written = await blocking(self._written_attributes, path.name, data) if text.startswith(_FENCES) else {}
        return {**facts, "tokens": str(upper_bound(text))}, written

    def _written_attributes(self, name: str, data: bytes) -> Mapping[str, str]:
        """Return the attributes that a text gives to its file, read in the extractor's process; none if that fails."""
        with contextlib.suppress(UnreadableFile, OSError):
            return text_attributes(label for chunk in self._searcher.extract(name, data) for label in chunk.labels)
        return {}


def _join_attributes(stored: Mapping[str, bytes], written: Mapping[str, str]) -> dict[str, bytes]:
    """Return the stored attributes with those of the front matter: tags are joined, of others the stored one wins."""
    joined = {f"{PREFIX}{name}": value.encode() for name, value in written.items()} | dict(stored)
    if "tags" in written:
        tags = [*tags_of(stored.get(_TAGS, b"")), *written["tags"].split(", ")]
        joined[_TAGS] = ", ".join(dict.fromkeys(tags)).encode()
    return joined
