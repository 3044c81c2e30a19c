"""The sandbox of tools, by bubblewrap: the visible part of the machine, and the command that starts a tool inside.

The tool sees programs and libraries, read-only. Of folders with data of people and services it sees only those that the
call needs. It has no capability. It shares no namespace with the machine except the network, if it is `open_world`. A
seccomp filter keeps it from unix sockets.
"""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as HostPath

from ctxfs.exec.seccomp import filter_program

# Not bound: data of people and services, and directories with sockets.
_PRIVATE = frozenset("proc sys dev run tmp var root home mnt media boot srv lost+found".split())
_MASKED = (
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
)
_SHARED_NAMES = (".local", ".config", ".cache")  # folders of a home that hold more than programs
_ALONE = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--cap-drop",
    "ALL",
    "--new-session",
    "--die-with-parent",
    "--clearenv",
)
_PACKAGE = HostPath(__file__).parent.parent
_PROBE = ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", *_ALONE, "--unshare-net")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The settings of a sandbox.

    `hidden` are host folders that the tool cannot see, `tree` is the mount point of the caller or empty, `settings` are
    extra environment variables. Without `up` the tool runs outside of a sandbox.
    """

    hidden: Sequence[str] = ()
    tree: str = ""
    up: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SandboxView:
    """The paths of one call that are visible in the sandbox.

    `tool` is the folder with the tool's files, `scratch` the writable folder of the call, `folders` are folders of the
    tree as (descriptor, path). `seccomp` is a descriptor of the filter, or -1.
    """

    tool: str
    scratch: str
    folders: Sequence[tuple[int, str]] = ()
    seccomp: int = -1


def sandbox() -> str:
    """Return the path of bubblewrap; empty if it is not installed or does not work.

    Blocks for a moment the first time.
    """
    program = shutil.which("bwrap") or ""
    return program if program and _works(program) else ""


@functools.cache
def _works(program: str) -> bool:
    """Return False where the kernel or a container forbids new namespaces."""
    try:
        done = subprocess.run([program, *_PROBE, "true"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def open_filter() -> int:
    """Return a descriptor of the seccomp filter for one start; -1 for an unsupported machine."""
    program = filter_program()
    if not program:
        return -1
    fd = os.memfd_create("ctxfs-seccomp", os.MFD_CLOEXEC)
    os.write(fd, program)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def shut_in(
    bwrap: str,
    command: Sequence[str],
    shown: SandboxView,
    walls: Sandbox,
    environment: Mapping[str, str],
    *,
    reads_only: bool,
    reaches_out: bool,
) -> list[str]:
    """Return the command line that runs `command` in the sandbox."""
    words = [bwrap, *_machine(), *_runtime(environment.get("PATH", ""))]
    if reaches_out and _is_private(resolver := os.path.realpath("/etc/resolv.conf")):
        words += ["--ro-bind-try", resolver, resolver]
    for place in walls.hidden:
        if _is_private(place):
            words += ["--dir", place]
        elif os.path.isdir(place):
            words += ["--tmpfs", place, "--remount-ro", place]
    words += ["--ro-bind", shown.tool, shown.tool, "--bind", shown.scratch, shown.scratch]
    for fd, place in shown.folders:
        words += ["--ro-bind-fd", str(fd), place]
    if walls.tree:  # the caller's own mount, which enforces the permissions of its principal
        words += ["--ro-bind" if reads_only else "--bind", walls.tree, walls.tree]
    words += ["--dir", "/tmp", "--remount-ro", "/"]  # noqa: S108 - empty, and read-only: the call has a folder of its own
    words += [*_ALONE, *([] if reaches_out else ["--unshare-net"])]
    for name, value in environment.items():
        words += ["--setenv", name, value]
    if shown.seccomp >= 0:
        words += ["--seccomp", str(shown.seccomp)]
    return [*words, "--chdir", shown.tool, "--", *command]


@functools.cache
def _machine() -> tuple[str, ...]:
    """Return the options that bind programs, libraries and settings of the machine read-only, without its secrets."""
    return tuple(_bound_machine())


def _bound_machine() -> Iterator[str]:
    for name in sorted(os.listdir("/")):
        place = f"/{name}"
        if name in _PRIVATE:
            continue
        if os.path.islink(place):
            yield from ("--symlink", os.readlink(place), place)
        elif os.path.isdir(place):
            yield from ("--ro-bind", place, place)
    for place in _MASKED:
        if os.path.isdir(place):
            yield from ("--tmpfs", place)
        elif os.path.exists(place):
            yield from ("--ro-bind", "/dev/null", place)
    yield from ("--dev", "/dev", "--proc", "/proc")


@functools.cache
def _runtime(path: str) -> tuple[str, ...]:
    """Return the options that bind the running interpreter and the PATH, unless their folders are bound already."""
    packages = (each for each in sys.path if each.endswith("-packages"))
    wanted = [sys.prefix, sys.base_prefix, *packages, str(_PACKAGE), str(_PACKAGE.parent / "tools")]
    for each in filter(os.path.isabs, path.split(os.pathsep)):
        above = HostPath(each).parent
        depth = len(above.parts) - (2 if above.parts[1:2] == ("root",) else 3)  # below a home directory
        wanted += [str(above)] if depth > 0 and above.name not in _SHARED_NAMES else [each, str(above / "lib")]
    chosen: list[str] = []
    for place in sorted({each for each in wanted if _is_private(each) and os.path.isdir(each)}):
        if not any(place.startswith(f"{above}/") for above in chosen):
            chosen.append(place)
    return tuple(word for place in chosen for word in ("--ro-bind", place, place))


def _is_private(place: str) -> bool:
    """Return True for a path below a folder that is not bound."""
    parts = HostPath(place).parts
    return len(parts) > 1 and parts[1] in _PRIVATE
