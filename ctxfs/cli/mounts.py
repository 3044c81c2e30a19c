"""The commands mount, unmount and daemon: mount points, and the daemon that serves them."""

import contextlib
import os
import signal
import time
from pathlib import Path as HostPath

import click

from ctxfs.cli.options import principal_option
from ctxfs.cli.output import say, warn
from ctxfs.model.errors import CommandError
from ctxfs.store.agents_md import AgentsMdFiles
from ctxfs.store.layout import find_store
from ctxfs.store.lock import wait_released
from ctxfs.store.lost_and_found import LostAndFound, list_found

_END_SECONDS = 10.0
_GONE = 4  # checks, half a second apart, that must find no mount before it counts as unmounted


@click.command()
@click.argument("mountpoint", type=click.Path())
@principal_option("Principal of the mount, such as agent:alice [default: you]", hidden_aliases=["--as"], default="")
@click.option(
    "--token",
    default="",
    envvar="CTXFS_TOKEN",
    metavar="TOKEN",
    help="Access token of the principal [default: $CTXFS_TOKEN]",
)
@click.option("--read-only", is_flag=True, help="Refuse changes and calls of tools")
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
    at = _real_place(mountpoint)
    check_fuse()
    before = set(list_found(layout.root))
    prepare_mountpoint(at, known=MountRecords(layout.run).knows(str(at)))
    client = connect_or_start(layout)
    wanted = {"at": str(at), "principal": principal, "token": token, "read_only": read_only}
    if not foreground:
        client.call("mount", **wanted)
        client.close()
        say(f"mounted at {at}")
        _warn_of_found(layout.root, before)
        if guide is not None:
            AgentsMdFiles(layout.run).put(guide, str(at))
        return
    _interrupt_on_terminate()
    try:
        client.call("mount", **wanted)
        say(f"mounted at {at}; Ctrl-C unmounts")
        _warn_of_found(layout.root, before)
        if guide is not None:
            AgentsMdFiles(layout.run).put(guide, str(at))
        gone = 0
        while gone < _GONE:  # the daemon replaces a mount process that dies
            time.sleep(0.5)
            gone = 0 if is_mounted(at) else gone + 1
    except KeyboardInterrupt:
        client.close()  # the interrupt may leave a response half read
        with contextlib.closing(Client(layout.run)) as again:
            again.call("unmount", at=str(at), lazy=True)
        say(f"unmounted {at}")
    AgentsMdFiles(layout.run).take(str(at))


def _warn_of_found(store: HostPath, before: set[LostAndFound]) -> None:
    for found in list_found(store):
        if found not in before:
            warn(found.text)
            warn(f"→ {found.remedy}")


def _real_place(mountpoint: str) -> HostPath:
    """Return the absolute path with links resolved, except for the last component.

    A `stat` of the last component fails if it is a dead mount.
    """
    place = HostPath(os.path.abspath(os.path.expanduser(mountpoint)))
    return HostPath(os.path.realpath(place.parent)) / place.name


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
    at = _real_place(mountpoint or ".")
    try:
        client = Client(find_store(store).run)
    except NoDaemon:
        if mountpoint and is_dead(at):
            clear_dead(at)
            say(f"cleared the dead mount at {at}")
            return
        if everything:
            say("nothing is mounted")
            return
        if not is_mounted(at):
            raise CommandError(f"'{at}' is not mounted", "see: ctxfs status") from None
        clear_dead(at)
        say(f"unmounted {at}")
        return
    announced = AgentsMdFiles(find_store(store).run)
    if everything:
        client.call("stop")
        client.close()
        announced.take()
        wait_released(find_store(store).run, _END_SECONDS)
        say("unmounted everything")
    else:
        try:
            client.call("unmount", at=str(at), lazy=lazy)
        except CommandError:
            if not is_dead(at):
                raise
            clear_dead(at)
        client.close()
        announced.take(str(at))
        say(f"unmounted {at}")


@click.command(hidden=True)
@click.option("--until-unmounted", is_flag=True, help="End after the last unmount")
@click.pass_obj
def daemon(store: str | None, until_unmounted: bool) -> None:
    """Serve the store in the foreground

    `mount` starts a daemon by itself.
    """
    from ctxfs.daemon.server import run_daemon

    run_daemon(find_store(store), linger=not until_unmounted)
