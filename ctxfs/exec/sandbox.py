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
_ISOLATION_OPTIONS = (
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
BUILTIN_TOOLS = HostPath(os.path.realpath(_PACKAGE / "builtin_tools"))  # a link in a checkout
_PROBE = ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", *_ISOLATION_OPTIONS, "--unshare-net")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The settings of a sandbox.

    `hidden` are host folders that the tool cannot see, `tree` is the mount point of the caller or empty, `settings` are
    extra environment variables. Without `is_enabled` the tool runs outside of a sandbox.
    """

    hidden: Sequence[str] = ()
    tree: str = ""
    is_enabled: bool = True
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


def find_bubblewrap() -> str:
    """Return the path of bubblewrap; empty if it is not installed or does not work.

    Blocks for a moment the first time.
    """
    program = shutil.which("bwrap") or ""
    return program if program and _works(program) else ""


@functools.cache
def _works(program: str) -> bool:
    """Return False where the kernel or a container forbids new namespaces."""
    try:
        process = subprocess.run([program, *_PROBE, "true"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return process.returncode == 0


def open_filter() -> int:
    """Return a descriptor of the seccomp filter for one start; -1 for an unsupported machine."""
    program = filter_program()
    if not program:
        return -1
    fd = os.memfd_create("ctxfs-seccomp", os.MFD_CLOEXEC)
    os.write(fd, program)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def sandboxed_command(
    bwrap: str,
    command: Sequence[str],
    view: SandboxView,
    confinement: Sandbox,
    environment: Mapping[str, str],
    *,
    reads_only: bool,
    reaches_out: bool,
) -> list[str]:
    """Return the command line that runs `command` in the sandbox."""
    options = [bwrap, *_machine_options(), *_runtime_options(environment.get("PATH", ""))]
    if reaches_out and _is_private(resolver := os.path.realpath("/etc/resolv.conf")):
        options += ["--ro-bind-try", resolver, resolver]
    for path in confinement.hidden:
        if _is_private(path):
            options += ["--dir", path]
        elif os.path.isdir(path):
            options += ["--tmpfs", path, "--remount-ro", path]
    options += ["--ro-bind", view.tool, view.tool, "--bind", view.scratch, view.scratch]
    for fd, path in view.folders:
        options += ["--ro-bind-fd", str(fd), path]
    if confinement.tree:  # the caller's own mount, which enforces the permissions of its principal
        options += ["--ro-bind" if reads_only else "--bind", confinement.tree, confinement.tree]
    options += ["--dir", "/tmp", "--remount-ro", "/"]  # noqa: S108 - empty, and read-only: the call has a folder of its own
    options += [*_ISOLATION_OPTIONS, *([] if reaches_out else ["--unshare-net"])]
    for name, value in environment.items():
        options += ["--setenv", name, value]
    if view.seccomp >= 0:
        options += ["--seccomp", str(view.seccomp)]
    return [*options, "--chdir", view.tool, "--", *command]


@functools.cache
def _machine_options() -> tuple[str, ...]:
    """Return the options that bind programs, libraries and settings of the machine read-only, without its secrets."""
    return tuple(_bind_machine())


def _bind_machine() -> Iterator[str]:
    for name in sorted(os.listdir("/")):
        path = f"/{name}"
        if name in _PRIVATE:
            continue
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    for path in _MASKED:
        if os.path.isdir(path):
            yield from ("--tmpfs", path)
        elif os.path.exists(path):
            yield from ("--ro-bind", "/dev/null", path)
    yield from ("--dev", "/dev", "--proc", "/proc")


@functools.cache
def _runtime_options(search_path: str) -> tuple[str, ...]:
    """Return the options that bind the running interpreter and the PATH, unless their folders are bound already."""
    packages = (folder for folder in sys.path if folder.endswith("-packages"))
    folders = [sys.prefix, sys.base_prefix, *packages, str(_PACKAGE), str(BUILTIN_TOOLS)]
    for folder in filter(os.path.isabs, search_path.split(os.pathsep)):
        above = HostPath(folder).parent
        depth = len(above.parts) - (2 if above.parts[1:2] == ("root",) else 3)  # below a home directory
        folders += [str(above)] if depth > 0 and above.name not in _SHARED_NAMES else [folder, str(above / "lib")]
    chosen: list[str] = []
    for path in sorted({folder for folder in folders if _is_private(folder) and os.path.isdir(folder)}):
        if not any(path.startswith(f"{above}/") for above in chosen):
            chosen.append(path)
    return tuple(option for path in chosen for option in ("--ro-bind", path, path))


def _is_private(path: str) -> bool:
    """Return True for a path below a folder that is not bound."""
    parts = HostPath(path).parts
    return len(parts) > 1 and parts[1] in _PRIVATE
