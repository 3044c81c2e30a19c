"""The commands mount, unmount and daemon: mount points, and the daemon that serves them."""

import contextlib
import os
import signal
import time
from pathlib import Path as HostPath

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import principal_option, token_option
from ctxfs.cli.output import print_line, warn
from ctxfs.model.errors import CommandError
from ctxfs.store.agents_md import AgentsMdFiles
from ctxfs.store.layout import Layout, find_store
from ctxfs.store.lock import wait_released
from ctxfs.store.lost_and_found import StrayFiles, list_stray_files

_STOP_TIMEOUT_SECONDS = 10.0
_MIN_MISSING_CHECKS = 4  # checks, half a second apart, that must find no mount before it counts as unmounted


@click.command()
@click.argument("mountpoint", type=click.Path())
@principal_option("Principal of the mount, such as agent:alice [default: you]", hidden_aliases=["--as"], default="")
@token_option()
@click.option("--read-only", is_flag=True, help="Refuse changes and calls of tools")
@click.option("--branch", default="", shell_complete=completion_values.branches, help="Branch to show [default: main]")
@click.option("--foreground", is_flag=True, help="Stay in the foreground; Ctrl-C unmounts")
@click.option(
    "--agents-md",
    "guide",
    type=click.Path(dir_okay=False, path_type=HostPath),
    help="File that the mount point is added to until unmount, such as a project's AGENTS.md",
)
@click.pass_obj
def mount(
    store: str | None,
    mountpoint: str,
    principal: str,
    token: str,
    read_only: bool,
    branch: str,
    foreground: bool,
    guide: HostPath | None,
) -> None:
    """Mount the tree at a directory

    MOUNTPOINT is created if it does not exist.
    """
    from ctxfs.daemon.launch import connect_or_start
    from ctxfs.daemon.mount_records import MountRecords
    from ctxfs.fuse.mounting import check_fuse, is_mounted, prepare_mountpoint
    from ctxfs.rpc.client import Client

    layout = find_store(store)
    target = _resolve_mountpoint(mountpoint)
    check_fuse()
    stray_before = set(list_stray_files(layout.root))
    prepare_mountpoint(target, is_known_mountpoint=MountRecords(layout.run).was_mounted(str(target)))
    client = connect_or_start(layout)
    arguments = {"at": str(target), "principal": principal, "token": token, "read_only": read_only, "branch": branch}
    if not foreground:
        client.call("mount", **arguments)
        client.close()
        print_line(f"mounted at {target}")
        _finish_mount(layout, target, stray_before, guide)
        return
    _interrupt_on_terminate()
    try:
        client.call("mount", **arguments)
        print_line(f"mounted at {target}; Ctrl-C unmounts")
        _finish_mount(layout, target, stray_before, guide)
        missing_checks = 0
        while missing_checks < _MIN_MISSING_CHECKS:  # the daemon replaces a mount process that dies
            time.sleep(0.5)
            missing_checks = 0 if is_mounted(target) else missing_checks + 1
    except KeyboardInterrupt:
        client.close()  # the interrupt may leave a response half read
        with contextlib.closing(Client(layout.run)) as again:
            again.call("unmount", at=str(target), lazy=True)
        print_line(f"unmounted {target}")
    AgentsMdFiles(layout.run).remove_blocks(str(target))


def _finish_mount(layout: Layout, target: HostPath, stray_before: set[StrayFiles], guide: HostPath | None) -> None:
    """Warn of files that the mount hides, and name the mount point in the file `guide`."""
    _warn_of_stray_files(layout.root, stray_before)
    if guide is not None:
        AgentsMdFiles(layout.run).add_block(guide, str(target))


def _warn_of_stray_files(store: HostPath, before: set[StrayFiles]) -> None:
    for stray in list_stray_files(store):
        if stray not in before:
            warn(stray.text)
            warn(f"→ {stray.remedy}")


def _resolve_mountpoint(mountpoint: str) -> HostPath:
    """Return the absolute path with links resolved, except for the last component.

    A `stat` of the last component fails if it is a dead mount.
    """
    absolute = HostPath(os.path.abspath(os.path.expanduser(mountpoint)))
    return HostPath(os.path.realpath(absolute.parent)) / absolute.name


def _interrupt_on_terminate() -> None:
    """Make SIGTERM raise KeyboardInterrupt, as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@click.command()
@click.argument("mountpoint", type=click.Path(), required=False)
@click.option("--all", "everything", is_flag=True, help="Unmount all mount points of the store and end its daemon")
@click.option("--lazy", is_flag=True, help="Detach a mount point in use now, and end it after its last use")
@click.pass_obj
def unmount(store: str | None, mountpoint: str | None, everything: bool, lazy: bool) -> None:
    """Unmount a directory

    All closed files are stored.
    """
    from ctxfs.fuse.mounting import clear_dead, is_dead, is_mounted
    from ctxfs.rpc.client import Client, NoDaemon

    if not mountpoint and not everything:
        raise click.UsageError("name a mount point, or use --all")
    target = _resolve_mountpoint(mountpoint or ".")
    try:
        client = Client(find_store(store).run)
    except NoDaemon:
        if mountpoint and is_dead(target):
            clear_dead(target)
            print_line(f"cleared the dead mount at {target}")
            return
        if everything:
            print_line("nothing is mounted")
            return
        if not is_mounted(target):
            raise CommandError(f"'{target}' is not mounted", "see: ctxfs status") from None
        clear_dead(target)
        print_line(f"unmounted {target}")
        return
    guides = AgentsMdFiles(find_store(store).run)
    if everything:
        client.call("stop")
        client.close()
        guides.remove_blocks()
        wait_released(find_store(store).run, _STOP_TIMEOUT_SECONDS)
        print_line("unmounted everything")
    else:
        try:
            client.call("unmount", at=str(target), lazy=lazy)
        except CommandError:
            if not is_dead(target):
                raise
            clear_dead(target)
        client.close()
        guides.remove_blocks(str(target))
        print_line(f"unmounted {target}")


@click.command(hidden=True)
@click.option("--until-unmounted", is_flag=True, help="End after the last unmount")
@click.pass_obj
def daemon(store: str | None, until_unmounted: bool) -> None:
    """Serve the store in the foreground

    `mount` starts a daemon by itself.
    """
    from ctxfs.daemon.server import run_daemon

    run_daemon(find_store(store), linger=not until_unmounted)
