"""Before and after the kernel: is the mount point usable, is a dead mount in the way, which options, unmounting."""

import contextlib
import errno
import os
import shutil
import subprocess
from pathlib import Path as HostPath

from ctxfs.fuse import mount_calls
from ctxfs.model.errors import EXIT_BUSY, CommandError

_DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
_KIND = "fuse.ctxfs"
_MAX_STACKED = 2000  # more dead mounts one below the other than fusermount3 makes


def check_fuse() -> None:
    """CommandError with the remedy if this machine cannot mount."""
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
    """The version of pyfuse3; CommandError with the remedy if it cannot be loaded."""
    try:
        import pyfuse3
    except ImportError as error:
        raise CommandError(
            f"pyfuse3 cannot be imported: {error}",
            "apt-get install fuse3 libfuse3-dev pkg-config gcc python3-dev, then pip install --force-reinstall pyfuse3",
        ) from error
    return pyfuse3.__version__


def prepare_mountpoint(at: HostPath, *, known: bool = False) -> None:
    """Make the directory if it is missing; CommandError says what is in the way.

    A dead mount of ctxfs stays until the new one replaces it, so that the directory below is never bare. `known`: the store has been
    mounted there before; files that were written there since are brought into the store when it is mounted.
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
    if not known and any(at.iterdir()):
        raise CommandError(f"'{at}' is not empty", "choose an empty or new directory: its files would be hidden")


def is_mounted(at: HostPath) -> bool:
    """True when a file system is mounted exactly there."""
    wanted = os.path.abspath(at)
    return any(place == wanted for place, _, _ in _mounts())


def is_dead(at: HostPath) -> bool:
    """True when the mount point is there but the process behind it is not."""
    try:
        os.statvfs(at)  # always asks the process; stat may be answered from the kernel's cache
    except OSError as error:
        return error.errno in _DEAD and is_mounted(at)
    return False


def dead_mounts() -> list[HostPath]:
    """Mount points of ctxfs behind which there is no process."""
    return [at for at in dict.fromkeys(HostPath(place) for place, _, kind in _mounts() if kind == _KIND) if is_dead(at)]


def devices_at(at: str) -> set[str]:
    """The device numbers of the mounts of ctxfs at a place, dead ones included."""
    return {device for place, device, kind in _mounts() if place == at and kind == _KIND}


def clear_dead(at: HostPath) -> None:
    """Take a dead mount away."""
    for _ in range(_MAX_STACKED):
        done = subprocess.run(["fusermount3", "-u", "-z", "--", str(at)], capture_output=True, text=True)
        if done.returncode:
            raise CommandError(
                f"a dead mount is in the way at '{at}': {done.stderr.strip()}", f"as root: umount -l {at}"
            )
        if not is_dead(at):
            return


def mount_options(*, allow_other: bool, read_only: bool) -> set[str]:
    """Options for the kernel.

    `auto_unmount` is not among them: where a process died it would bare the directory below, and what is written there is lost.
    The kernel compares modes and owners where they can forbid anything. Root alone, whom they do not bind, is spared the question
    about a directory before every change in it.
    """
    options = set[str]()
    if allow_other or os.geteuid():
        options.add("default_permissions")
    if read_only:
        options.add("ro")
    return options | {"allow_other"} if allow_other else options


class Mounted:
    """A mount: `fd` is the kernel's end, to be answered on."""

    def __init__(self, fd: int, at: str, devices: set[str]) -> None:
        self.fd = fd
        self.at = at
        # Its own, and those of dead mounts below it: nobody else's is taken away with it.
        self._devices = devices

    def close(self) -> None:
        """Unmount, if it is still mounted; whoever is inside keeps what they have open, and gets ENOTCONN."""
        with contextlib.suppress(OSError):
            os.close(self.fd)
        unmount(self.at, self._devices)


def unmount(at: str, devices: set[str]) -> None:
    """Take mounts with these device numbers away from a place, in use or not, from the top one down to another's."""
    for _ in range(_MAX_STACKED):
        left = {device for place, device, _ in _mounts() if place == at}
        if not left or not left <= devices:
            return
        try:
            mount_calls.detach(at)
        except OSError:
            done = subprocess.run(["fusermount3", "-u", "-q", "-z", "--", at], capture_output=True)
            if done.returncode:
                return


def _mounts() -> list[tuple[str, str, str]]:
    """(place, device number, type) of each mount."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return [_parse_mount(line) for line in table]


def _parse_mount(line: str) -> tuple[str, str, str]:
    fields, _, rest = line.partition(" - ")
    _, _, device, _, place, *_ = fields.split(" ", 5)
    return _unescape(place), device, rest.partition(" ")[0]


def _unescape(field: str) -> str:
    """mountinfo writes blanks, tabs, newlines and backslashes in octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
