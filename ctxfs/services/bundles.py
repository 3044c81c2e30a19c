"""Bundles for the calling principal: the files to export, and imports that are staged first and become one version.

A staged import is a folder of the store with the contents of a bundle, each checked against the hash in its header. It
becomes a version as a whole or not at all, and the staging folder is removed in both cases. Without a signature by a key
in `<store>/allowed_signers`, files are untrusted, and attributes that bind other principals are dropped.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as HostPath

from ctxfs.bundles.header import BundleEntry, Header
from ctxfs.bundles.signature import SIGNERS_NAME, verify
from ctxfs.memory.states import ACTIVE, BUILT_IN_TRANSITIONS, Transition, check_states, state_of
from ctxfs.model.errors import invalid, not_found, path_error
from ctxfs.model.metadata import COMPUTED, PERSON_ONLY, PREFIX, SETTABLE, is_sound
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.operations import put_permissions
from ctxfs.policy.rules import Verb
from ctxfs.store.layout import Layout, is_versioned
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.archive import Archive
from ctxfs.versions.archive_core import ArchiveCore
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.objects.name_encoding import path_bytes, split_path
from ctxfs.versions.objects.sidecar import SideCar, default_mode
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, Parts, TreeEntry
from ctxfs.versions.recording.capture import Capture
from ctxfs.versions.recording.ledger import State
from ctxfs.versions.rollback import Outcome
from ctxfs.versions.rollback_plan import Plan

AREAS = ("memory", "pad")
_STAGING = "bundles"
_STAGING_SECONDS = 86_400.0
_MAX_STAGED = 8
_FREE_SHARE = 0.9  # of the free space of the disk that an import may need, twice its size
# Attributes of files from elsewhere that bind no other principal.
_ADMITTED = frozenset(
    ("kind", "source", "cites", "confidence", "description", "tags", "expires_at", "valid_from", "valid_until")
)
_TRUST, _SOURCE, _QUARANTINED = (f"{PREFIX}{name}" for name in ("trust", "source", "quarantined"))


@dataclass(slots=True)
class StagedImport:
    """A bundle on its way into the tree; `received` are the bytes of each file so far."""

    principal: str
    header: Header
    target: Path
    signer: str
    folder: HostPath
    received: dict[int, int] = field(default_factory=dict)
    digests: "dict[int, hashlib._Hash]" = field(default_factory=dict)

    def add_all(self, parts: Iterable[tuple[int, bytes]]) -> None:
        """Append parts of files, as `add` does."""
        for number, data in parts:
            self.add(number, data)

    def add(self, number: int, data: bytes) -> None:
        """Append a part of a file. Raise OSError EINVAL for data that the header does not announce."""
        if not 0 <= number < len(self.header.files):
            raise invalid(self.header.root, "the bundle is refused: it has more files than its header")
        entry = self.header.files[number]
        size = self.received.get(number, 0) + len(data)
        if size > entry.size:
            raise invalid(entry.path, "the bundle is refused: a file is longer than its header states")
        with open(self.folder / str(number), "ab") as file:
            file.write(data)
        self.received[number] = size
        self.digests.setdefault(number, hashlib.sha256()).update(data)

    def check(self) -> None:
        """Raise OSError EINVAL unless every file is complete and has its hash."""
        for number, entry in enumerate(self.header.files):
            digest = self.digests.get(number)
            if digest is None or self.received[number] != entry.size or digest.hexdigest() != entry.sha256:
                raise invalid(entry.path, "the bundle is refused: a file does not have the hash of its header")


@dataclass(frozen=True, slots=True)
class Export:
    """The files and directories below a path that the caller may read, and the number that it may only list."""

    files: Sequence[BundleEntry]
    directories: Sequence[BundleEntry]
    left_out: int


class Bundles:
    """The exports and staged imports of a store."""

    def __init__(
        self,
        layout: Layout,
        archive: Archive,
        policy: PolicyEngine,
        transitions: Callable[[], Sequence[Transition]] = lambda: BUILT_IN_TRANSITIONS,
    ) -> None:
        """`transitions` are the rules on states in force: those that a writer has to obey, too."""
        self._folder = layout.run / _STAGING
        self._signers = layout.root / SIGNERS_NAME
        self._archive = archive
        self._policy = policy
        self._transitions = transitions
        self._staged: dict[str, StagedImport] = {}

    async def list_files(self, tree: Mount, path: Path) -> Export:
        """Return the content of an export of a directory or file, with paths relative to it. Links are left out."""
        entry = await tree.stat(path)
        if not entry.is_dir:
            attributes = _stored(await tree.metadata(path))
            return Export([BundleEntry(Path((path.name,)), entry.mode & 0o777, attributes)], (), 0)
        files: list[BundleEntry] = []
        directories: list[BundleEntry] = []
        left_out, pending = 0, [path]
        while pending:
            folder = pending.pop()
            for child in await tree.list(folder):
                location = folder / child.name
                if child.kind not in ("file", "dir"):
                    left_out += 1
                    continue
                try:
                    found = BundleEntry(
                        location.relative_to(path), child.mode & 0o777, _stored(await tree.metadata(location))
                    )
                except OSError:
                    left_out += 1
                    continue
                (directories if child.is_dir else files).append(found)
                if child.is_dir:
                    pending.append(location)
        return Export(sorted(files, key=_path_of), sorted(directories, key=_path_of), left_out)

    async def begin(self, principal: Principal, data: bytes, header: Header, signature: bytes, to: Path) -> str:
        """Open a staged import for a header with these bytes; return its id.

        Raise OSError: EINVAL for a target without versions, EACCES without the rights, EEXIST for an existing path with
        another content, ENOSPC.
        """
        target = to if to.parts else header.root
        self._check_rights(principal, header, target)
        signer = await blocking(verify, data, signature, self._signers)
        await in_turn(self._check_existing, header, target)
        await blocking(self._clear_old)
        if len(self._staged) >= _MAX_STAGED:
            raise path_error(errno.EBUSY, target, "too many imports at once: try again later")
        name = secrets.token_hex(16)
        folder = self._folder / name
        await blocking(self._make_folder, folder, header.total_bytes)
        self._staged[name] = StagedImport(str(principal), header, target, signer, folder)
        return name

    async def add(self, principal: Principal, name: str, parts: Iterable[tuple[int, bytes]]) -> None:
        """Add contents to a staged import. An error drops the import."""
        staged = self._get(principal, name)
        try:
            await blocking(staged.add_all, parts)
        except OSError:
            await self.drop(principal, name)
            raise

    async def drop(self, principal: Principal, name: str) -> None:
        """Drop a staged import; nothing of it remains."""
        staged = self._get(principal, name)
        del self._staged[name]
        await blocking(shutil.rmtree, staged.folder, True)

    async def commit(self, principal: Principal, name: str, actor: Actor) -> tuple[StagedImport, Outcome]:
        """Bring a complete staged import into the tree as one version, and drop it."""
        staged = self._get(principal, name)
        try:
            staged.check()
            self._check_rights(principal, staged.header, staged.target)
            outcome = await in_turn(self._commit, staged, principal, actor)
        finally:
            await self.drop(principal, name)
        return staged, outcome

    def _commit(self, staged: StagedImport, principal: Principal, actor: Actor) -> Outcome:
        scope, subject = path_bytes(str(staged.target)), f"import {len(staged.header.files)} files to {staged.target}"

        def make_plan(core: ArchiveCore) -> Plan:
            return core.planner.plan_states(self._states(core, staged, principal), "import", subject, scope)

        return self._archive.rollbacks.carry_out(make_plan, actor)

    def _states(self, core: ArchiveCore, staged: StagedImport, principal: Principal) -> dict[Parts, State]:
        """Return the state of each path of a bundle, stored in the repository. Used under the archive's lock."""
        states: dict[Parts, State] = {}
        for entry in staged.header.directories:
            parts = _parts(staged.target.join(entry.path))
            if core.ledger.state(core.ledger.tree, parts).entry is None:
                mode = entry.mode | 0o700
                xattrs = self._admitted(entry.attributes, staged, principal, is_file=False)
                side = SideCar(xattrs, None if mode == default_mode(MODE_DIR) else mode)
                states[parts] = State(TreeEntry(MODE_DIR, EMPTY_TREE), core.ledger.write_sidecar(side))
        capture = Capture(core.ledger)
        for number, entry in enumerate(staged.header.files):
            path = staged.target.join(entry.path)
            xattrs = self._admitted(entry.attributes, staged, principal, is_file=True)
            with open(staged.folder / str(number), "rb") as file:
                os.fchmod(file.fileno(), entry.mode | 0o600)
                for name, value in xattrs.items():
                    os.setxattr(file.fileno(), name, value)
                state = capture.capture_fd(path_bytes(str(path)), file.fileno())
            current = core.ledger.state(core.ledger.tree, _parts(path))
            if current.entry is None:
                self._require_transition(path, xattrs, principal)
                states[_parts(path)] = state
            elif state.entry is None or current.entry.oid != state.entry.oid:
                raise path_error(errno.EEXIST, path, "it exists with another content: import to another path (--to)")
        return states

    def _require_transition(self, path: Path, attributes: Mapping[str, bytes], principal: Principal) -> None:
        """Raise OSError EPERM unless the rules on states let the principal give a new file its state."""
        state = state_of(attributes)
        if state != ACTIVE:
            check_states(path, ACTIVE, state, self._transitions(), is_person=principal.is_person)

    def _admitted(
        self, attributes: Mapping[str, bytes], staged: StagedImport, principal: Principal, *, is_file: bool
    ) -> dict[str, bytes]:
        """Return the attributes that a file gets: only a signature admits those that bind others or raise trust."""
        admitted: dict[str, bytes] = {}
        for name, value in attributes.items():
            short = name.removeprefix(PREFIX)
            if not name.startswith(PREFIX):
                admitted[name] = value
            elif short in SETTABLE and is_sound(short, value) and (staged.signer or short in _ADMITTED):
                is_distrust = name == _TRUST and value == b"untrusted"
                if short not in PERSON_ONLY or principal.is_person or is_distrust:
                    admitted[name] = value
        if attributes.get(_QUARANTINED) == b"true":
            admitted[_QUARANTINED] = b"true"
        if is_file and not staged.signer:
            admitted[_TRUST] = b"untrusted"
            name = "".join(c for c in str(staged.header.descriptive.get("name", "")) if c.isprintable())[:100]
            admitted.setdefault(_SOURCE, f"bundle:{name or staged.header.tree_hash[:16]}".encode())
        return admitted

    def _check_rights(self, principal: Principal, header: Header, target: Path) -> None:
        if not target.parts or target.parts[0] not in AREAS:
            raise invalid(target, f"a bundle goes below {'/ or '.join(AREAS)}/: name a directory there (--to)")
        entries = (*((entry, True) for entry in header.files), *((entry, False) for entry in header.directories))
        is_unrestricted = self._policy.is_unrestricted(principal)
        for entry, is_file in entries:
            path = target.join(entry.path)
            if not is_versioned(path):
                raise invalid(path, "the bundle is refused: this name is one of a view")
            if is_unrestricted:
                continue
            verbs = put_permissions(exists=False, compares=False, sets_metadata=bool(entry.attributes) or is_file)
            rights = self._policy.rights(principal, path)
            if not rights.allows(verbs if is_file else Verb.CREATE):
                raise not_found(path) if not rights.exists else path_error(errno.EACCES, path)

    def _check_existing(self, header: Header, target: Path) -> None:
        """Raise OSError EEXIST or ENOTDIR, before the contents are sent, if a path has another type or size."""
        self._archive.commit_if_space()
        with self._archive.locked() as core:
            for entry in header.files:
                parts = _parts(target.join(entry.path))
                state = core.ledger.state(core.ledger.tree, parts)
                if state.entry is not None and (state.entry.mode == MODE_DIR or core.ledger.size(state) != entry.size):
                    raise path_error(
                        errno.EEXIST, target.join(entry.path), "it exists with another content: import to another path (--to)"
                    )  # fmt: skip

    def _make_folder(self, folder: HostPath, size: int) -> None:
        folder.mkdir(parents=True, mode=0o700)
        if 2 * size > _FREE_SHARE * shutil.disk_usage(folder).free:
            folder.rmdir()
            raise path_error(errno.ENOSPC, folder, f"the bundle needs {2 * size} bytes on this disk")

    def _clear_old(self) -> None:
        """Remove staging folders that no import uses, and imports that have been waiting for a day."""
        oldest = time.time() - _STAGING_SECONDS
        for name, staged in list(self._staged.items()):
            with contextlib.suppress(OSError):
                if staged.folder.stat().st_mtime < oldest:
                    del self._staged[name]
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._folder):
                if entry.name not in self._staged and stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode):
                    shutil.rmtree(entry.path, ignore_errors=True)

    def _get(self, principal: Principal, name: str) -> StagedImport:
        staged = self._staged.get(name)
        if staged is None or staged.principal != str(principal):
            raise not_found(f"import {name[:40]}")
        return staged


def _stored(attributes: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the attributes that a file stores, without the computed ones."""
    computed = {f"{PREFIX}{name}" for name in COMPUTED}
    return {name: value for name, value in attributes.items() if name.startswith("user.") and name not in computed}


def _path_of(entry: BundleEntry) -> Path:
    return entry.path


def _parts(path: Path) -> Parts:
    return split_path(path_bytes(str(path)))
