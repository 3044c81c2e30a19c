"""Before and after the kernel: is the mount point usable, is a dead mount in the way, which options."""

import array
import contextlib
import errno
import os
import shutil
import socket
import subprocess
from pathlib import Path as HostPath

from ctxfs.model.errors import EXIT_BUSY, CommandError

_DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)


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


def prepare_mountpoint(at: HostPath) -> None:
    """Make the directory if it is missing and clear away a dead mount; CommandError says what is in the way."""
    if is_dead(at):
        clear_dead(at)
    if is_mounted(at):
        raise CommandError(f"'{at}' is already a mount point", f"unmount it first: ctxfs unmount {at}", EXIT_BUSY)
    try:
        at.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise CommandError(f"'{at}' is not a directory", "choose another mount point") from error
    except OSError as error:
        raise CommandError(f"cannot make '{at}': {error.strerror}", "choose another mount point") from error
    if any(at.iterdir()):
        raise CommandError(f"'{at}' is not empty", "choose an empty or new directory: its files would be hidden")


def is_mounted(at: HostPath) -> bool:
    """True when a file system is mounted exactly there."""
    wanted = os.path.abspath(at)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return any(_unescape(line.split(" ", 5)[4]) == wanted for line in table)


def is_dead(at: HostPath) -> bool:
    """True when the mount point is there but the process behind it is not."""
    try:
        os.statvfs(at)  # always asks the process; stat may be answered from the kernel's cache
    except OSError as error:
        return error.errno in _DEAD and is_mounted(at)
    return False


def dead_mounts() -> list[HostPath]:
    """Mount points of ctxfs behind which there is no process."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        ours = [line.split(" ", 5)[4] for line in table if line.partition(" - ")[2].startswith("fuse.ctxfs ")]
    return [at for at in map(HostPath, map(_unescape, ours)) if is_dead(at)]


def clear_dead(at: HostPath) -> None:
    """Take a dead mount away."""
    done = subprocess.run(["fusermount3", "-u", "-z", str(at)], capture_output=True, text=True)
    if done.returncode:
        raise CommandError(f"a dead mount is in the way at '{at}': {done.stderr.strip()}", f"as root: umount -l {at}")


def mount_options(*, allow_other: bool, read_only: bool) -> set[str]:
    """Options for the kernel; auto_unmount cleans up even when the process is killed.

    The kernel compares modes and owners where they can forbid anything. Root alone, whom they do not bind, is spared the question
    about a directory before every change in it.
    """
    options = {"fsname=ctxfs", "subtype=ctxfs", "auto_unmount"}
    if allow_other or os.geteuid():
        options.add("default_permissions")
    if read_only:
        options.add("ro")
    return options | {"allow_other"} if allow_other else options


class Mounted:
    """A mount that fusermount3 has made: `fd` is the kernel's end, to be answered on."""

    def __init__(self, fd: int, at: str, helper: "subprocess.Popen[bytes]", line: socket.socket) -> None:
        self.fd = fd
        self._at = at
        # As long as the line is open the helper waits; when it closes, however this process ends, the helper unmounts.
        self._helper = helper
        self._line = line

    def close(self) -> None:
        """Unmount, if it is still mounted; whoever is inside keeps what they have open, and gets ENOTCONN."""
        with contextlib.suppress(OSError):
            os.close(self.fd)
        if is_mounted(HostPath(self._at)):
            subprocess.run(["fusermount3", "-u", "-q", "-z", "--", self._at], capture_output=True)
        self._line.close()
        self._helper.communicate()


def mount(at: str, options: set[str]) -> Mounted:
    """Mount with `options` by fusermount3, which may do it for whoever owns the directory. CommandError with its reason."""
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with its:
        helper = subprocess.Popen(
            ["fusermount3", "-o", ",".join(sorted(options)), "--", at],
            env={**os.environ, "_FUSE_COMMFD": str(its.fileno())},
            pass_fds=[its.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    descriptors = array.array("i")
    _, ancillary, _, _ = mine.recvmsg(1, socket.CMSG_LEN(descriptors.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: descriptors.itemsize])
    if not descriptors:
        _, said = helper.communicate()
        mine.close()
        raise CommandError(f"cannot mount at '{at}': {said.decode(errors='replace').strip()}", "ctxfs doctor")
    return Mounted(descriptors[0], at, helper, mine)


def _unescape(field: str) -> str:
    """mountinfo writes blanks, tabs, newlines and backslashes in octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
