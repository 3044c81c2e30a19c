"""The command service: mount at login or at boot, by a unit of the user's systemd."""

import os
import shutil
import subprocess
import sys
from pathlib import Path as HostPath

import click

from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import principal_option
from ctxfs.cli.output import print_line
from ctxfs.model.errors import CommandError
from ctxfs.store.layout import find_store
from ctxfs.store.user_folders import settings_folder

_UNIT = """\
# Made by `ctxfs service install`; `ctxfs service remove` takes it away.
[Unit]
Description=ctxfs at {at}

[Service]
Type=exec
ExecStart={command}
# Whoever serves other mount points of the store goes on.
KillMode=process
Restart=on-failure
RestartSec=2

[Install]
WantedBy=default.target
"""


@click.group(cls=CommandGroup)
def service() -> None:
    """Manage mounts at login or at boot

    Each mount point is a unit of your systemd.
    """


@service.command()
@click.argument("mountpoint", type=click.Path())
@principal_option("Principal of the mount, such as agent:alice [default: you]", hidden_aliases=["--as"], default="")
@click.option("--read-only", is_flag=True, help="Refuse changes and calls of tools")
@click.option("--no-start", is_flag=True, help="Write the unit only")
@click.pass_obj
def install(store: str | None, mountpoint: str, principal: str, read_only: bool, no_start: bool) -> None:
    """Mount the store now and at each login

    To mount at boot, before you log in: loginctl enable-linger.
    """
    layout = find_store(store)
    target = os.path.abspath(os.path.expanduser(mountpoint))
    words = [sys.executable, "-m", "ctxfs", "--store", str(layout.root), "mount", "--foreground"]
    words += ["--principal", principal] if principal else []
    words += ["--read-only"] if read_only else []
    unit = _unit_file(target)
    if not no_start:
        _require_systemctl()
    before = unit.read_text() if unit.exists() else None
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text(_UNIT.format(at=target.replace("%", "%%"), command=" ".join(map(_quote_word, [*words, target]))))
    if no_start:
        print_line(f"wrote {unit}")
        return
    try:
        _run_systemctl("daemon-reload")
        _run_systemctl("enable", "--now", unit.name)
    except CommandError:
        # A unit that cannot be started must not stay behind: a later login would start it.
        unit.unlink() if before is None else unit.write_text(before)
        raise
    print_line(f"wrote {unit}")
    print_line(f"mounted at {target}, and whenever you log in; at boot: loginctl enable-linger")


@service.command()
@click.argument("mountpoint", type=click.Path())
def remove(mountpoint: str) -> None:
    """Unmount the store and stop its service

    It is not mounted again at login.
    """
    unit = _unit_file(os.path.abspath(os.path.expanduser(mountpoint)))
    if not unit.exists():
        raise CommandError(f"there is no service for '{mountpoint}'", f"see: ls {unit.parent}")
    try:
        _run_systemctl("disable", "--now", unit.name)
    finally:
        unit.unlink()
    _run_systemctl("daemon-reload")
    print_line(f"removed {unit}")


def _unit_file(mountpoint: str) -> HostPath:
    """Return the file of the unit of a mount point; its name contains the mount point, so that each has its own."""
    folder = HostPath(settings_folder())
    name = "-".join(
        "".join(c if c.isalnum() or c in "._" else "_" for c in part) for part in mountpoint.split("/") if part
    )
    return folder / "systemd" / "user" / f"ctxfs-{name}.service"


def _quote_word(word: str) -> str:
    """Return a word of a command in the quoting of systemd."""
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$"), ("\n", "\\n")):
        word = word.replace(character, written)
    return f'"{word}"'


def _require_systemctl() -> None:
    if shutil.which("systemctl") is None:
        raise CommandError("there is no systemctl here", "start it another way: ctxfs mount --foreground MOUNTPOINT")


def _run_systemctl(*arguments: str) -> None:
    _require_systemctl()
    process = subprocess.run(["systemctl", "--user", *arguments], capture_output=True, text=True)
    if process.returncode:
        message = process.stderr.strip() or f"systemctl ended with {process.returncode}"
        raise CommandError(message, "is systemd running for you? see: systemctl --user status")
