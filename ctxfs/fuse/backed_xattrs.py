"""Attributes of backed files: stat results, modes, owners and times, extended attributes and ACLs.

No call follows a link, and none needs an RPC.
"""

import errno
import functools
import os
import stat as st
from pathlib import Path as HostPath

from ctxfs.fuse import attributes
from ctxfs.fuse.access import check_writable
from ctxfs.fuse.attributes import (
    ACLS,
    CAPABILITY,
    NAMESPACE,
    Attributes,
    SetattrRequest,
    SyntheticStat,
    is_host_attribute,
    mask_acl,
)
from ctxfs.fuse.backed_io import BackedIO
from ctxfs.fuse.inodes import Node
from ctxfs.fuse.passthrough import is_guarded
from ctxfs.fuse.state import State
from ctxfs.memory.kinds import KIND_ATTRIBUTE, kind_by_folder
from ctxfs.memory.states import STATE_ATTRIBUTES, check_transition
from ctxfs.model.errors import path_error
from ctxfs.model.metadata import PREFIX, check_attribute
from ctxfs.policy import operations
from ctxfs.store import frozen_files
from ctxfs.store.layout import Layout
from ctxfs.store.memory_file import MemoryFile
from ctxfs.versions.marks import MARK_OP, MARKS
from ctxfs.vfs.access_control import masked_mode

_PREFIX = os.fsencode(PREFIX)


class BackedAttributes:
    """Request handlers for the attributes of nodes with an area."""

    def __init__(self, state: State, io: BackedIO) -> None:
        self._io = io
        self._memory_file = MemoryFile(Layout(HostPath(state.options.store)).memory_rules)
        self._files = state.files
        self._directories = state.directories
        self._node_fds = state.node_fds
        self._open_file_cache = state.open_file_cache
        self._access = state.access
        self._cache_policy = state.cache_policy
        self._recorder = state.recorder

    def getattr(self, node: Node) -> Attributes:
        """Return the current attributes; raise OSError ENOENT if the node does not exist for the principal."""
        if not self._access.rights(node).exists:
            raise path_error(errno.ENOENT, node.path)
        return self.attributes(node, self._node_fds.stat(node))

    def attributes(self, node: Node, stat: os.stat_result) -> Attributes:
        """Return the reply attributes, with mode bits masked by the principal's permissions."""
        assert node.area is not None
        reply = attributes.host_attributes(node, stat, self._cache_policy.area_cache_seconds(node.area))
        if not self._access.checks_acls and stat.st_mode & 0o070 and not st.S_ISLNK(stat.st_mode):
            reply.mode = stat.st_mode & ~0o077 | self._acl_mode_bits(node, stat.st_mode)
        if self._access.is_unrestricted:
            return reply
        if not st.S_ISDIR(stat.st_mode):
            reply.mode = self._access.permitted_mode(node, reply.mode)
        else:
            rights = self._access.rights(node)
            reply.mode = masked_mode(reply.mode, rights, is_dir=True)
            if not rights.lists_below:
                # Its link count, size and times would reveal names that do not exist for the principal.
                reply.stat = SyntheticStat(
                    stat.st_mode, st_uid=stat.st_uid, st_gid=stat.st_gid, st_size=4096, st_blocks=8
                )
        return reply

    def _acl_mode_bits(self, node: Node, mode: int) -> int:
        """Return the group and other bits of a mode, reduced to those that the ACL of the file grants.

        See `attributes.narrow_mode`.
        """
        path, follow = self._node_fds.xattr_path(node)
        try:
            return attributes.narrow_mode(os.getxattr(path, ACLS[0], follow_symlinks=follow), mode)
        except OSError:
            return mode & 0o077  # it has no ACL

    def setattr(self, node: Node, request: SetattrRequest, fh: int | None) -> Attributes:
        """Change size, owner, mode and times, in an order in which no change undoes an earlier one.

        Return the new attributes.
        """
        check_writable(node)
        resizes = request.size is not None
        changes_meta = request.mode is not None or request.uid is not None or request.gid is not None
        if not self._access.is_unrestricted:
            self._access.check_permission(
                node, operations.setattr_permissions(resizes=resizes, changes_metadata=changes_meta)
            )
        handle, reopened = self._open_for_setattr(node, fh, resizes=resizes)
        path = f"/proc/self/fd/{handle}"
        try:
            if frozen_files.is_frozen(path, follows=True):
                raise frozen_files.FrozenFile(node.path)
            if request.size is not None:
                self._cache_policy.mark_stale(node)
                os.ftruncate(handle, request.size)
            if request.uid is not None or request.gid is not None:
                self._change_owner(
                    node, handle, *(-1 if value is None else value for value in (request.uid, request.gid))
                )
            if request.mode is not None:
                os.chmod(path, st.S_IMODE(request.mode))
            elif request.drop_privileges:
                self._io.drop_set_ids(node, path)
            if request.sets_current_time or request.atime_ns is not None or request.mtime_ns is not None:
                self._change_times(node, handle, request)
            stat = os.fstat(handle)
        finally:
            if reopened:
                os.close(handle)
        if resizes and fh is not None and fh in self._files:
            self._recorder.written.add(fh)  # recorded when it is closed
        elif resizes or request.mode is not None:
            self._recorder.record("write", node, "write" if resizes else "meta")
        elif changes_meta:
            self._recorder.audit("meta", node.path_text)
        return self.attributes(node, stat)

    def _open_for_setattr(self, node: Node, fh: int | None, *, resizes: bool) -> tuple[int, bool]:
        """Return (descriptor of a node, True if the caller must close it). It is writable if the size is to change."""
        if fh in self._files:
            assert fh is not None
            return fh, False
        if resizes:
            return self._node_fds.open_node(node, os.O_WRONLY)[0], True
        fd = self._node_fds.find_open_fd(node)
        return (self._node_fds.open_path(node), True) if fd is None else (fd, False)

    def _change_owner(self, node: Node, handle: int, uid: int, gid: int) -> None:
        is_link = node.disk_key.kind == st.S_IFLNK
        if is_link and self._directories.removed_fd(node) is None:
            parent, name = self._node_fds.locate(node)
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        else:
            os.chown(f"/proc/self/fd/{handle}", uid, gid)

    def _change_times(self, node: Node, handle: int, request: SetattrRequest) -> None:
        is_link = node.disk_key.kind == st.S_IFLNK
        if is_link and self._directories.removed_fd(node) is None:
            parent, name = self._node_fds.locate(node)
            utime = functools.partial(os.utime, name, dir_fd=parent, follow_symlinks=False)
        else:
            utime = functools.partial(os.utime, f"/proc/self/fd/{handle}")
        if request.sets_current_time:
            utime()
        else:
            stat = os.fstat(handle)
            utime(
                ns=(
                    stat.st_atime_ns if request.atime_ns is None else request.atime_ns,
                    stat.st_mtime_ns if request.mtime_ns is None else request.mtime_ns,
                )
            )

    def get_xattr(self, node: Node, name: bytes) -> bytes:
        """Return the value of an extended attribute that the host stores."""
        self._access.check_permission(node, operations.READ)
        path, follow = self._node_fds.xattr_path(node)
        try:
            return os.getxattr(path, name, follow_symlinks=follow)
        except OSError:
            is_kind = os.fsdecode(name) == KIND_ATTRIBUTE and node.disk_key.kind == st.S_IFREG
            if not is_kind or not (kind := kind_by_folder(node.path.parts, self._memory_file.rules.kinds)):
                raise
            return kind.encode()

    def stored_xattr(self, node: Node, name: bytes) -> bytes:
        """Return the value of an attribute, empty without one. No permission is checked: it is not for a reply."""
        path, follow = self._node_fds.xattr_path(node)
        try:
            return os.getxattr(path, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            return b""

    def get_host_xattr(self, node: Node, name: bytes) -> bytes:
        """Return the value of an ACL, a capability or another attribute that only the host interprets.

        An ACL is masked by the mode bits that are shown to the principal.
        """
        if name not in ACLS:
            self._access.check_permission(node, operations.READ)
        elif not self._access.rights(node).exists:
            raise path_error(errno.ENOENT, node.path)
        path, follow = self._node_fds.xattr_path(node)
        try:
            value = os.getxattr(path, name, follow_symlinks=follow)
        except OSError as error:
            raise self._absent_xattr_error(node, name, error) from None
        if name in ACLS:
            self._open_file_cache.answer_acls()
            if not self._access.is_unrestricted:
                return mask_acl(value, self._access.permitted_mode(node, 0o777))
        return value

    def _absent_xattr_error(self, node: Node, name: bytes, error: OSError) -> OSError:
        """Return the error for an attribute that a file does not have.

        Where the kernel caches no ACLs, `ls -l` would request one for each file. Therefore ACLs are reported as not
        supported until the first one is met. Every program then uses the permissions of the mode.
        """
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            return error
        if name == CAPABILITY:
            self._open_file_cache.mark_without_capability(node)
        is_supported = name not in ACLS or self._open_file_cache.answers_acls
        code = errno.ENODATA if is_supported else errno.EOPNOTSUPP
        return OSError(code, os.strerror(code))

    def set_xattr(self, node: Node, name: bytes, value: bytes, flags: int, *, drops_setgid: bool = False) -> None:
        """Set an extended attribute of a file.

        The kernel has checked that the caller may set it: `trusted.*` and capabilities require privileges.
        """
        check_writable(node)
        self._access.check_permission(node, operations.SET_METADATA)
        self._check_xattr(node, name, value)
        if (text := os.fsdecode(name)) in STATE_ATTRIBUTES:
            self._set_state(node, text, value, flags)
            return
        path, follow = self._check_changeable(node)
        os.setxattr(path, name, value, flags, follow_symlinks=follow)
        if name in ACLS:
            self._open_file_cache.answer_acls()
        if drops_setgid:
            os.chmod(path, st.S_IMODE(os.stat(path).st_mode & ~st.S_ISGID))
        self._record_xattr(node, name)

    def _set_state(self, node: Node, name: str, value: bytes | None, flags: int = 0) -> None:
        """Change the state of a file, if the rules of memory.toml give the transition to the principal."""
        path, follow = self._node_fds.xattr_path(node)
        before = frozen_files.read_state(path, follows=follow)
        transitions = self._memory_file.rules.transitions
        check_transition(node.path, before, {name: value}, transitions, self._access.principal)
        is_kept = is_guarded(node)
        frozen_files.set_state(path, node.path, name, value, follows=follow, flags=flags, is_guarded=is_kept)
        self._record_xattr(node, os.fsencode(name))

    def _check_changeable(self, node: Node) -> tuple[bytes, bool]:
        """Return the path for the xattr calls as `NodeFds.xattr_path`; raise OSError EPERM for a frozen file."""
        path, follow = self._node_fds.xattr_path(node)
        if frozen_files.is_frozen(path, follows=follow):
            raise frozen_files.FrozenFile(node.path)
        return path, follow

    def _check_xattr(self, node: Node, name: bytes, value: bytes | None) -> None:
        if name.startswith(NAMESPACE):
            if name.startswith(_PREFIX):
                check_attribute(node.path, os.fsdecode(name), value, self._access.principal)
        elif not is_host_attribute(name):
            raise path_error(errno.EOPNOTSUPP, node.path)
        elif name not in ACLS and not self._access.principal.is_person:
            raise path_error(errno.EPERM, node.path, "an agent gives no file a privilege")

    def _record_xattr(self, node: Node, name: bytes) -> None:
        if not name.startswith(NAMESPACE):
            self._open_file_cache.evict(node)  # because its attributes are cached there
        self._recorder.record(_journal_operation(name), node, "meta")

    def list_xattrs(self, node: Node, *, is_root: bool) -> list[bytes]:
        """Return the names of extended attributes; those of `trusted.*` only for root, as natively."""
        self._access.check_permission(node, operations.READ)
        path, follow = self._node_fds.xattr_path(node)
        names = map(os.fsencode, os.listxattr(path, follow_symlinks=follow))
        return [
            name
            for name in names
            if name.startswith(NAMESPACE) or (is_host_attribute(name) and (is_root or not name.startswith(b"trusted.")))
        ]

    def remove_xattr(self, node: Node, name: bytes) -> None:
        """Remove an extended attribute; raise OSError ENODATA if the file does not have it."""
        check_writable(node)
        self._access.check_permission(node, operations.SET_METADATA)
        self._check_xattr(node, name, None)
        if (text := os.fsdecode(name)) in STATE_ATTRIBUTES:
            self._set_state(node, text, None)
            return
        path, follow = self._check_changeable(node)
        os.removexattr(path, name, follow_symlinks=follow)
        self._record_xattr(node, name)


def _journal_operation(attribute: bytes) -> str:
    """Return the journal's operation for a change of an attribute.

    Only a person's own change of a mark lifts it.
    """
    return MARK_OP if attribute.decode("utf-8", "replace") in MARKS else "write"
