"""The mount system calls of Linux 5.2 and newer, for root.

fsopen(2), fsmount(2), move_mount(2), open_tree(2) and umount2(2). They can mount beneath a mount (Linux 6.5), which no
helper program does. They are called by number, because the C libraries in use lack names for them.
"""

import ctypes
import os

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_CLOEXEC = 1  # for fsopen and fsmount
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_RDONLY, _NOSUID, _NODEV = 1, 2, 4
_FROM_EMPTY_PATH, _BENEATH = 0x4, 0x200
_CLONE = 1
_DETACH, _NOFOLLOW = 2, 8
_AT_FDCWD = -100

_C = ctypes.CDLL(None, use_errno=True)


def mount_detached(device: int, options: set[str]) -> int:
    """Create a detached mount that is served on `device`, an open /dev/fuse. Return its descriptor.

    Raise OSError.
    """
    context = _syscall(_FSOPEN, b"fuse", _CLOEXEC)
    try:
        values = {"source": "ctxfs", "subtype": "ctxfs", "fd": str(device), "rootmode": "40000"}
        values |= {"user_id": str(os.geteuid()), "group_id": str(os.getegid())}
        for name, value in values.items():
            _syscall(_FSCONFIG, context, _SET_STRING, name.encode(), value.encode(), 0)
        for name in sorted(options):
            _syscall(_FSCONFIG, context, _SET_FLAG, name.encode(), None, 0)
        _syscall(_FSCONFIG, context, _CREATE, None, None, 0)
        flags = _NOSUID | _NODEV | (_RDONLY if "ro" in options else 0)
        return _syscall(_FSMOUNT, context, _CLOEXEC, flags)
    finally:
        os.close(context)


def attach(mount: int, path: str, *, beneath: bool) -> None:
    """Attach a detached mount to a path, `beneath` the current mount or on top. Raise OSError."""
    flags = _FROM_EMPTY_PATH | (_BENEATH if beneath else 0)
    _syscall(_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(path), flags)


def detach(path: str) -> None:
    """Detach the topmost mount of a path, even if it is in use. Raise OSError."""
    if _C.umount2(os.fsencode(path), _DETACH | _NOFOLLOW) < 0:
        raise _last_error()


def open_uncovered(folder: str) -> int:
    """Return a descriptor of a copy of a directory tree without its mounts. Raise OSError.

    Files that lie below mounts can be reached from it.
    """
    return _syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(folder), _CLONE | os.O_CLOEXEC)


def _syscall(number: int, *args: int | bytes | None) -> int:
    result: int = _C.syscall(ctypes.c_long(number), *args)
    if result < 0:
        raise _last_error()
    return result


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
