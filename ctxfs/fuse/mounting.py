"""Mount points: checks before mounting, detection and removal of dead mounts, mount options, and unmounting."""

import contextlib
import errno
import os
import shutil
import subprocess
from pathlib import Path as HostPath

from ctxfs.fuse import mount_calls
from ctxfs.model.errors import EXIT_BUSY, CommandError
from ctxfs.model.installation import install_command, missing_modules

_DEAD_ERRNOS = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
_FS_TYPE = "fuse.ctxfs"
_PYFUSE3_NEEDS = "apt-get install fuse3 libfuse3-dev pkg-config gcc python3-dev"
_MAX_STACKED_MOUNTS = 2000  # more stacked dead mounts than fusermount3 makes


def check_fuse() -> None:
    """Raise CommandError with the remedy if this machine cannot mount."""
    if shutil.which("fusermount3") is None:
        raise CommandError("fusermount3 is missing", "install it: apt-get install fuse3")
    if not os.path.exists("/dev/fuse"):
        raise CommandError(
            "/dev/fuse does not exist",
            "load the module (modprobe fuse), or give the container --device /dev/fuse --cap-add SYS_ADMIN; "
            "without it every command but mount still works",
        )
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise CommandError("/dev/fuse may not be opened by this user", "as root: chmod 666 /dev/fuse")


def check_library() -> str:
    """Return the version of pyfuse3. Raise CommandError with the remedy if it cannot be imported."""
    if missing_modules("fuse"):
        raise CommandError('mount.loop = "trio" needs pyfuse3', f"{_PYFUSE3_NEEDS}, then {install_command('fuse')}")
    try:
        import pyfuse3
    except ImportError as error:
        raise CommandError(
            f"pyfuse3 cannot be imported: {error}",
            f"{_PYFUSE3_NEEDS}, then build it again: {install_command('fuse')} --force-reinstall",
        ) from error
    return pyfuse3.__version__


def prepare_mountpoint(at: HostPath, *, is_known_mountpoint: bool = False) -> None:
    """Make the directory if it is missing. Raise CommandError if it cannot become a mount point.

    A dead mount of ctxfs stays until the new one replaces it, so that the directory below is never exposed.

    `is_known_mountpoint`: the store has been mounted there before. The mount moves stray files into the store.
    """
    if is_dead(at):
        if devices_at(str(at)):
            return
        clear_dead(at)
    if is_mounted(at):
        raise CommandError(f"'{at}' is already a mount point", f"unmount it first: ctxfs unmount {at}", EXIT_BUSY)
    try:
        at.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise CommandError(f"'{at}' is not a directory", "choose another mount point") from error
    except OSError as error:
        raise CommandError(f"cannot make '{at}': {error.strerror}", "choose another mount point") from error
    if not is_known_mountpoint and any(at.iterdir()):
        raise CommandError(f"'{at}' is not empty", "choose an empty or new directory: its files would be hidden")


def is_mounted(at: HostPath) -> bool:
    """Return True if a file system is mounted at exactly this directory."""
    mountpoint = os.path.abspath(at)
    return any(path == mountpoint for path, _, _ in _read_mounts())


def is_dead(at: HostPath) -> bool:
    """Return True if a file system is mounted there whose process has died."""
    try:
        os.statvfs(at)  # always reaches the process; the kernel may answer stat from its cache
    except OSError as error:
        return error.errno in _DEAD_ERRNOS and is_mounted(at)
    return False


def dead_mounts() -> list[HostPath]:
    """Return the mount points of ctxfs whose processes have died."""
    return [
        path
        for path in dict.fromkeys(
            HostPath(mountpoint) for mountpoint, _, fs_type in _read_mounts() if fs_type == _FS_TYPE
        )
        if is_dead(path)
    ]


def devices_at(at: str) -> set[str]:
    """Return the device numbers of the mounts of ctxfs at a mount point, dead ones included."""
    return {device for mountpoint, device, fs_type in _read_mounts() if mountpoint == at and fs_type == _FS_TYPE}


def clear_dead(at: HostPath) -> None:
    """Unmount a dead mount. Raise CommandError if that is refused."""
    for _ in range(_MAX_STACKED_MOUNTS):
        result = subprocess.run(["fusermount3", "-u", "-z", "--", str(at)], capture_output=True, text=True)
        if result.returncode:
            raise CommandError(
                f"a dead mount is in the way at '{at}': {result.stderr.strip()}", f"as root: umount -l {at}"
            )
        if not is_dead(at):
            return


def mount_options(*, allow_other: bool, read_only: bool) -> set[str]:
    """Return the mount options for the kernel.

    `auto_unmount` is not among them: when a process died it would expose the directory below, and files written there
    would be lost. With `default_permissions` the kernel compares modes and owners, where these can forbid anything.
    Root is exempt from them, so without the option root alone saves a GETATTR of the directory before every change in
    it.
    """
    options = set[str]()
    if allow_other or os.geteuid():
        options.add("default_permissions")
    if read_only:
        options.add("ro")
    return options | {"allow_other"} if allow_other else options


class KernelMount:
    """A mount; `fd` is the descriptor of /dev/fuse on which its requests are answered."""

    def __init__(self, fd: int, at: str, devices: set[str]) -> None:
        self.fd = fd
        self.mountpoint = at
        # Of this mount and of dead mounts below it: mounts of others are not detached with it.
        self._devices = devices

    def close(self) -> None:
        """Unmount, if it is still mounted. Processes inside keep their open files, and get ENOTCONN."""
        with contextlib.suppress(OSError):
            os.close(self.fd)
        unmount(self.mountpoint, self._devices)


def unmount(at: str, devices: set[str]) -> None:
    """Detach mounts with these device numbers from a mount point, in use or not.

    The topmost is detached first; a mount with another device number ends the loop.
    """
    for _ in range(_MAX_STACKED_MOUNTS):
        remaining = {device for mountpoint, device, _ in _read_mounts() if mountpoint == at}
        if not remaining or not remaining <= devices:
            return
        try:
            mount_calls.detach(at)
        except OSError:
            result = subprocess.run(["fusermount3", "-u", "-q", "-z", "--", at], capture_output=True)
            if result.returncode:
                return


def _read_mounts() -> list[tuple[str, str, str]]:
    """Return (mount point, device number, type) of each mount."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return [_parse_mount(line) for line in table]


def _parse_mount(line: str) -> tuple[str, str, str]:
    fields, _, rest = line.partition(" - ")
    _, _, device, _, mountpoint, *_ = fields.split(" ", 5)
    return _unescape(mountpoint), device, rest.partition(" ")[0]


def _unescape(field: str) -> str:
    """Decode the octal escapes of mountinfo: blank, tab, newline and backslash."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
