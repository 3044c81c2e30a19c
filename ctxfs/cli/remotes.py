"""The command remote: copies of the versions elsewhere, for backup and for one memory on several machines."""

import os

import click

from ctxfs.cli import completion_values
from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import json_option
from ctxfs.cli.output import count_noun, print_json, print_line, warn
from ctxfs.cli.progress import spinner
from ctxfs.daemon.session import session
from ctxfs.model.credentials import without_passwords


@click.group(cls=CommandGroup, invoke_without_command=True)
@json_option()
@click.pass_context
def remote(ctx: click.Context, as_json: bool) -> None:
    """Manage remotes

    Versions are pushed to them and pulled from them. Without a command the remotes are listed.
    """
    if ctx.invoked_subcommand is not None:
        return
    with session(ctx.obj) as opened:
        remotes = opened.call("remotes")
        trusted = opened.call("trusted_remotes")
    if as_json:
        print_json(remotes)
        return
    for name, url in sorted(remotes.items()):
        click.secho(f"{name:<16}", bold=True, nl=False)
        print_line(f"{url}  (trusted)" if name in trusted else url)


@remote.command()
@click.argument("name")
@click.argument("url", metavar="PLACE")
@click.option("--trusted", is_flag=True, help="Trust it: it is another machine of yours")
@click.pass_obj
def add(store: str | None, name: str, url: str, trusted: bool) -> None:
    """Add a remote

    PLACE is a folder or any URL that git can push to (git init --bare makes one); NAME is its name here.
    """
    address = os.path.abspath(url) if os.path.isdir(url) else url
    with session(store) as opened:
        opened.call("add_remote", name=name, url=address, trusted=trusted)
    print_line(f"{name} is {without_passwords(address)}; next: ctxfs remote push {name}")
    if not trusted:
        print_line(
            f"what is pulled from it will be marked untrusted; if it is a machine of yours: ctxfs remote trust {name}"
        )


@remote.command()
@click.argument("name", shell_complete=completion_values.remotes)
@click.option("--off", is_flag=True, help="End the trust")
@click.pass_obj
def trust(store: str | None, name: str, off: bool) -> None:
    """Trust the content of a remote

    Principals, attributes and modes are pulled as they are there.
    """
    with session(store) as opened:
        opened.call("trust_remote", name=name, trusted=not off)
    print_line(f"{name} is {'not trusted any more' if off else 'trusted'}; what was pulled before stays as it is")


@remote.command()
@click.argument("name", shell_complete=completion_values.remotes)
@click.pass_obj
def remove(store: str | None, name: str) -> None:
    """Remove a remote

    The other repository stays as it is.
    """
    with session(store) as opened:
        opened.call("remove_remote", name=name)
    print_line(f"{name} is forgotten")


@remote.command()
@click.argument("name", shell_complete=completion_values.remotes)
@click.option("--replace", is_flag=True, help="Drop versions that are only there, as after forget")
@click.pass_obj
def push(store: str | None, name: str, replace: bool) -> None:
    """Push to a remote

    Sends every version, snapshot and large file to NAME.
    """
    with session(store) as opened, spinner(f"sending to {name}"):
        revision = opened.call("push", name=name, replace=replace)
    print_line(f"{name} is at {revision[:8]}")


@remote.command()
@click.argument("name", shell_complete=completion_values.remotes)
@json_option()
@click.pass_obj
def pull(store: str | None, name: str, as_json: bool) -> None:
    """Pull from a remote and merge

    Where both sides changed a file, lines are merged if they do not touch; else both files stay.
    """
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli")
        with spinner(f"fetching from {name}"):
            pulled = opened.call("pull", name=name)
    if as_json:
        print_json(pulled)
        return
    words = {"current": "nothing new", "forward": "followed", "merged": "merged"}
    print_line(
        f"{words[pulled['state']]}: {count_noun(pulled['versions'], 'version')}, "
        f"{count_noun(len(pulled['changes']), 'path')} changed here"
    )
    for path in pulled["conflicts"]:
        warn(f"both sides changed {path}: theirs is beside it as *.conflict-*")
