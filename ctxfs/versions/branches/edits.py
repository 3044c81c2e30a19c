"""Changes of a branch's tree, as states of paths. The errors are those of a host folder (`store/folder.py`)."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from ctxfs.memory.states import IS_FROZEN, RETIRED, STATE_ATTRIBUTE, STATE_ATTRIBUTES, attributes_after, is_frozen
from ctxfs.model.change import Append, Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.errors import invalid, not_found, not_permitted, path_error
from ctxfs.model.path import Path
from ctxfs.versions.marks import QUARANTINED, SOURCE, TRUST, marks_in
from ctxfs.versions.objects.fingerprint import blob_id
from ctxfs.versions.objects.large_objects import pointer_text
from ctxfs.versions.objects.name_encoding import MAX_PATH_NAMES, path_bytes, split_path
from ctxfs.versions.objects.sidecar import EMPTY_SIDECAR, MAX_XATTR_NAME_BYTES, MAX_XATTR_VALUE_BYTES, SideCar
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, MODE_FILE, MODE_PROGRAM, Parts, TreeEntry
from ctxfs.versions.recording.ledger import ABSENT, Ledger, State

_FILE_MODES = (MODE_FILE, MODE_PROGRAM)
_NAMESPACE = "user."
_DISTRUST = (QUARANTINED, TRUST, SOURCE)


@dataclass(frozen=True, slots=True)
class Edit:
    """The states that a change makes, and the move (source, target) that it is, if it is one."""

    states: Mapping[Parts, State] = field(default_factory=dict)
    move: tuple[bytes, bytes] | None = None


class TreeEditor:
    """The edits of one version's tree. Used under the archive's lock."""

    def __init__(self, ledger: Ledger, tree: str, max_file_bytes: int) -> None:
        self._ledger = ledger
        self._tree = tree
        self._max_file_bytes = max_file_bytes

    def edit(self, change: Change) -> Edit:
        """Return the edit of a change. Raise OSError as `Mount.apply` does."""
        match change:
            case Put():
                return self._put(change)
            case Append(path):
                raise not_permitted(path, "files here are written whole")
            case MakeDir(path):
                parts = self._parts_of(path)
                if self._state(parts).entry is not None:
                    raise path_error(errno.EEXIST, path)
                return Edit({parts: State(TreeEntry(MODE_DIR, EMPTY_TREE))})
            case Remove(path):
                return self._remove(path)
            case Move(path, to):
                return self._move(path, to)
            case SetMeta(path, name, value):
                return self._set_attribute(path, name, value)
            case _:
                assert_never(change)

    def _state(self, parts: Parts) -> State:
        return self._ledger.state(self._tree, parts)

    def _parts_of(self, path: Path) -> Parts:
        """Return the names in a path whose directory exists. Raise ENOENT, ENOTDIR or ENAMETOOLONG."""
        parts = split_path(path_bytes(str(path)))
        if len(parts) > MAX_PATH_NAMES:
            raise path_error(errno.ENAMETOOLONG, path)
        for depth in range(1, len(parts)):
            entry = self._state(parts[:depth]).entry
            if entry is None:
                raise not_found(path)
            if entry.mode != MODE_DIR:
                raise path_error(errno.ENOTDIR, path)
        return parts

    def _existing(self, path: Path) -> tuple[Parts, State, TreeEntry]:
        parts = self._parts_of(path)
        state = self._state(parts)
        if state.entry is None:
            raise not_found(path)
        return parts, state, state.entry

    def _check_changeable(self, state: State, path: Path) -> None:
        if self._ledger.is_frozen(state) and state.entry is not None and state.entry.mode != MODE_DIR:
            raise path_error(errno.EPERM, path, IS_FROZEN)

    def _put(self, change: Put) -> Edit:
        ledger, path, data = self._ledger, change.path, change.data
        parts = self._parts_of(path)
        old = self._state(parts)
        if old.entry is not None and old.entry.mode == MODE_DIR:
            raise path_error(errno.EISDIR, path)
        if len(data) > self._max_file_bytes:
            raise path_error(errno.EFBIG, path)
        self._check_changeable(old, path)
        is_file = old.entry is not None and old.entry.mode in _FILE_MODES
        side = ledger.read_sidecar(old.side) if is_file else EMPTY_SIDECAR
        mode = old.entry.mode if old.entry is not None and is_file else MODE_FILE
        for name, value in change.attributes.items():
            _check_attribute(path, name, value)
        attributes = {**side.xattrs, **change.attributes}
        large = ledger.large.add_bytes(data) if len(data) >= ledger.large_from else None
        oid = ledger.repo.write("blob", pointer_text(large) if large is not None else data)
        side = self._with_distrust(parts, replace(side, xattrs=attributes, large=large), data)
        return Edit({parts: State(TreeEntry(mode, oid), ledger.write_sidecar(side))})

    def _with_distrust(self, parts: Parts, side: SideCar, data: bytes) -> SideCar:
        """Return the side-car with the marks of distrust that the path, or a part of the text, has on main."""
        marks = self._ledger.marks
        if marks.is_empty:
            return side
        owed = marks.with_owed_marks(b"/".join(parts), blob_id(data), side, data)
        added = {name: value for name, value in owed.xattrs.items() if name in _DISTRUST}
        return replace(side, xattrs={**side.xattrs, **added})

    def _remove(self, path: Path) -> Edit:
        parts, state, entry = self._existing(path)
        if entry.mode == MODE_DIR and self._ledger.children(entry.oid):
            raise path_error(errno.ENOTEMPTY, path)
        self._check_changeable(state, path)
        return Edit({parts: ABSENT})

    def _move(self, path: Path, to: Path) -> Edit:
        ledger = self._ledger
        parts, state, entry = self._existing(path)
        target = self._parts_of(to)
        if parts == target:
            return Edit()
        if target[: len(parts)] == parts:
            raise invalid(to, "a directory cannot be moved into itself")
        replaced = self._state(target)
        self._check_replaceable(entry, replaced, to)
        self._check_changeable(replaced, to)
        for _, inner in ledger.walk(self._tree, parts):
            self._check_changeable(inner, path)
        if entry.mode != MODE_DIR and replaced.entry is not None:
            state = State(entry, ledger.write_sidecar(self._with_kept(state, replaced)))
        return Edit({parts: ABSENT, target: state}, (b"/".join(parts), b"/".join(target)))

    def _check_replaceable(self, entry: TreeEntry, replaced: State, to: Path) -> None:
        if replaced.entry is None:
            return
        is_directory = replaced.entry.mode == MODE_DIR
        if is_directory and entry.mode != MODE_DIR:
            raise path_error(errno.EISDIR, to)
        if not is_directory and entry.mode == MODE_DIR:
            raise path_error(errno.ENOTDIR, to)
        if is_directory and self._ledger.children(replaced.entry.oid):
            raise path_error(errno.ENOTEMPTY, to)

    def _with_kept(self, state: State, replaced: State) -> SideCar:
        """Return the side-car of a moved file with the marks of the replaced one, and its state if it is retired."""
        side, old = (self._ledger.read_sidecar(item.side) for item in (state, replaced))
        kept = {name: value for name, value in marks_in(old.xattrs).items() if name in _DISTRUST}
        retired = old.xattrs.get(STATE_ATTRIBUTE, b"").decode("ascii", "replace") in RETIRED
        if retired and not any(name in side.xattrs for name in STATE_ATTRIBUTES):
            kept[STATE_ATTRIBUTE] = old.xattrs[STATE_ATTRIBUTE]
        return replace(side, xattrs={**side.xattrs, **kept})

    def _set_attribute(self, path: Path, name: str, value: bytes | None) -> Edit:
        ledger = self._ledger
        parts, state, entry = self._existing(path)
        is_directory = entry.mode == MODE_DIR
        if not is_directory and entry.mode not in _FILE_MODES:
            raise not_permitted(path)
        side = ledger.read_sidecar(state.side)
        _check_attribute(path, name, value)
        if value is None and name not in side.xattrs:
            raise path_error(errno.ENODATA, path)
        if name in STATE_ATTRIBUTES:
            if is_directory:
                raise path_error(errno.EISDIR, path, "a state belongs to a file")
            xattrs = attributes_after(side.xattrs, name, value)
        else:
            if not is_directory and is_frozen(side.xattrs):
                raise path_error(errno.EPERM, path, IS_FROZEN)
            xattrs = {key: old for key, old in side.xattrs.items() if key != name}
            xattrs |= {} if value is None else {name: value}
        return Edit({parts: State(entry, ledger.write_sidecar(replace(side, xattrs=xattrs)))})


def _check_attribute(path: Path, name: str, value: bytes | None) -> None:
    size = len(name.encode("utf-8", "surrogateescape"))
    if not name.startswith(_NAMESPACE):
        raise path_error(errno.EOPNOTSUPP, path)
    if not len(_NAMESPACE) < size <= MAX_XATTR_NAME_BYTES or "\0" in name:
        raise path_error(errno.ERANGE, path)
    if value is not None and len(value) > MAX_XATTR_VALUE_BYTES:
        raise path_error(errno.E2BIG, path)
