"""Mounting, also in place of a mount whose process has died: the directory below is never exposed."""

import contextlib
import logging
import os
import socket
import subprocess
from pathlib import Path as HostPath

from ctxfs.fuse import mount_calls
from ctxfs.fuse.dead_connection import DeadConnection
from ctxfs.fuse.mounting import KernelMount, clear_dead, devices_at, is_dead, is_mounted
from ctxfs.fuse.stray_files import move_stray_files, open_covered, open_directory
from ctxfs.model.errors import EXIT_BUSY, CommandError

log = logging.getLogger(__name__)


def mount(at: str, options: set[str], store: HostPath, dead: DeadConnection | None = None) -> KernelMount:
    """Mount with `options`, in place of a dead mount if there is one, and bring stray files into the store.

    Raise CommandError with the reason. Root mounts beneath the dead mount and detaches that, so that one is always in
    place. Other users unmount it first; files that are written below in that moment are brought into the store.
    Requests that wait in `dead`, the connection of the dead process, continue in the new mount.
    """
    old_devices = devices_at(at)
    if dead is None and is_mounted(HostPath(at)) and not is_dead(HostPath(at)):
        raise CommandError(f"'{at}' is already a mount point", f"unmount it first: ctxfs unmount {at}", EXIT_BUSY)
    if dead is not None:
        dead.start()
    directory = None if old_devices else open_directory(at)
    fd = _mount_with_syscalls(at, options, bool(old_devices)) if os.geteuid() == 0 else None
    if fd is None:
        if old_devices:  # fusermount3 cannot stat it: it runs as root, which the kernel does not admit
            clear_dead(HostPath(at))
            directory = open_directory(at)
        fd = _mount_with_fusermount(at, options)
    mounted = KernelMount(fd, at, devices_at(at) | old_devices)
    if dead is not None:
        dead.release()
    directory = open_covered(at) if directory is None else directory
    if directory is not None:
        _move_stray_files(directory, at, store)
    return mounted


def _move_stray_files(directory: int, at: str, store: HostPath) -> None:
    try:
        move_stray_files(directory, at, store)
    except OSError as error:  # this does not prevent the mount
        log.error("files below the mount at '%s' cannot be brought into the store: %s", at, error)
    finally:
        os.close(directory)


def _mount_with_syscalls(at: str, options: set[str], is_covered: bool) -> int | None:
    """Mount by system calls, as root. Return the descriptor of /dev/fuse, None if the kernel refuses."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        detached = mount_calls.mount_detached(device, options)
        try:
            _attach(detached, at, is_covered)
        finally:
            os.close(detached)
    except OSError as error:
        os.close(device)
        log.info("cannot mount at '%s' by system calls, trying fusermount3: %s", at, error)
        return None
    return device


def _attach(detached: int, at: str, is_covered: bool) -> None:
    if is_covered:
        with contextlib.suppress(OSError):  # EINVAL before Linux 6.5: then mount on top, and leave the dead mount below
            mount_calls.attach(detached, at, beneath=True)
            mount_calls.detach(at)
            return
    mount_calls.attach(detached, at, beneath=False)


def _mount_with_fusermount(at: str, options: set[str]) -> int:
    """Mount with fusermount3, which may mount for the owner of the directory. Return the descriptor of /dev/fuse.

    Raise CommandError with the reason.
    """
    parent_socket, child_socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with parent_socket, child_socket:
        process = subprocess.Popen(
            ["fusermount3", "-o", ",".join(sorted(options | {"fsname=ctxfs", "subtype=ctxfs"})), "--", at],
            env={**os.environ, "_FUSE_COMMFD": str(child_socket.fileno())},
            pass_fds=[child_socket.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        child_socket.close()
        _, descriptors, _, _ = socket.recv_fds(parent_socket, 1, 1, socket.MSG_CMSG_CLOEXEC)
        _, stderr = process.communicate()
    if not descriptors:
        raise CommandError(f"cannot mount at '{at}': {stderr.decode(errors='replace').strip()}", "ctxfs doctor")
    return descriptors[0]
