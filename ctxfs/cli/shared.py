"""The commands share, join, leave and sync: one memory on several machines."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from ctxfs.cli.options import json_option
from ctxfs.cli.output import count_noun, print_json, print_line, warn
from ctxfs.cli.progress import spinner
from ctxfs.daemon.session import StoreSession, session
from ctxfs.store.layout import find_store
from ctxfs.store.registry import confirm_store

_PAUSE_SECONDS = 1.0
_MAX_SHOWN = 5
_URL = click.argument("url", metavar="URL")
_NAME = click.option("--name", "shared_name", default="main", show_default=True, help="Name of the shared store")
_NODE = click.option("--node", default="", help="Name of this node [default: the machine's]")
_PASSWORD = click.option("--password-env", default="", metavar="VARIABLE", help="Variable with the engine's password")

_DURABLE = click.option(
    "--durable",
    type=click.Choice(["local", "engine"]),
    default="local",
    show_default=True,
    help="Storage that fsync waits for",
)
_GRACE = click.option(
    "--grace-seconds", default=0, metavar="N", type=click.IntRange(min=0), help="Serve people only without the engine"
)
_MEMBERSHIP = (_URL, _NAME, _NODE, _PASSWORD, _DURABLE, _GRACE)


def _membership(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments of a membership to a command."""
    for option in reversed(_MEMBERSHIP):
        command = option(command)
    return command


@click.command()
@_membership
@json_option()
@click.pass_obj
def share(store: str | None, /, shared_name: str, as_json: bool, **settings: object) -> None:
    """Share the store with other machines

    URL is the engine that keeps the order of versions: postgresql://USER@HOST/DATABASE, s3://BUCKET/PREFIX, or
    file:///FOLDER for a folder that all machines reach. The other machines then join it.
    """
    _become_node(store, "share", {"store": shared_name, **settings}, as_json)


@click.command()
@_membership
@click.option("--read-only", is_flag=True, help="Follow only: publish nothing, refuse writes")
@click.option("--at", default=0, metavar="N", type=click.IntRange(min=0), help="Follow up to entry N [default: all]")
@json_option()
@click.pass_obj
def join(store: str | None, /, shared_name: str, read_only: bool, at: int, as_json: bool, **settings: object) -> None:
    """Join a shared store

    The memories of this store and of the shared one are merged. Where both have a file, both contents stay. With
    --read-only this store follows the shared one, and memory, pads and reviews are changed at other nodes only.
    """
    settings = {"store": shared_name, **settings, "read_only": read_only or bool(at), "at": at}
    _become_node(store, "join_shared", settings, as_json)


@click.command()
@click.pass_obj
def leave(store: str | None) -> None:
    """Leave the shared store

    All versions stay here, and at the other nodes.
    """
    with session(store) as opened:
        opened.call("leave_shared")
    confirm_store(find_store(store).root)
    print_line("this store is no longer shared; its versions stay")


@click.command()
@click.option("--wait", is_flag=True, help="Wait for an engine that does not answer")
@click.option(
    "--timeout", default=600.0, show_default=True, type=click.FloatRange(min=0), help="Maximum wait in seconds"
)
@json_option()
@click.pass_obj
def sync(store: str | None, wait: bool, timeout: float, as_json: bool) -> None:
    """Exchange versions with the shared store now

    A daemon does so by itself.
    """
    with session(store) as opened, spinner("exchanging versions"):
        result = _sync(opened, timeout if wait else 0.0)
    _print_result(result, as_json)


def print_shared(shared: dict[str, Any]) -> None:
    """Print the state of a node of a shared store; nothing for a store that is not shared."""
    if not shared:
        return
    read_only = ", read only" if shared["read_only"] else ""
    entry = f"entry {shared['entry']}{read_only}"
    print_line(f"shared     '{shared['store']}' at {shared['url']} as {shared['node']}, {entry}")
    if not shared["reachable"] and shared["since"]:
        since = datetime.fromtimestamp(shared["since"]).strftime("%Y-%m-%d %H:%M:%S")
        verb = "waits" if shared["waiting"] == 1 else "wait"
        waiting = f", {count_noun(shared['waiting'], 'version')} {verb}" if shared["waiting"] else ""
        print_line(f"           not reached since {since}{waiting}", fg="yellow")
    if shared["fault"]:
        print_line(f"           {shared['fault']}", fg="yellow")
    if shared["agents_refused"]:
        limit = f"the engine was silent for more than {shared['grace_seconds']} s"
        print_line(f"           people only: {limit}, so agents are refused", fg="red")
    if shared["conflicts"]:
        print_line(f"conflicts  {len(shared['conflicts'])} to decide: ctxfs review", fg="yellow")
    for path in shared["conflicts"][:_MAX_SHOWN]:
        print_line(f"           {path}", fg="yellow")
    if len(shared["conflicts"]) > _MAX_SHOWN:
        print_line(f"           and {len(shared['conflicts']) - _MAX_SHOWN} more: ctxfs status --json")


def _sync(opened: StoreSession, seconds: float) -> dict[str, Any]:
    """Return the result of an exchange. Repeat it for some seconds while the engine does not answer."""
    end = time.monotonic() + seconds
    while True:
        try:
            result: dict[str, Any] = opened.call("sync")
            return result
        except OSError:
            left = end - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(_PAUSE_SECONDS, left))


def _become_node(store: str | None, method: str, arguments: dict[str, Any], as_json: bool) -> None:
    with session(store) as opened, spinner("exchanging versions"):
        result = opened.call(method, **arguments)
    confirm_store(find_store(store).root)
    _print_result(result, as_json)


def _print_result(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    print_line(
        f"versions of others: {count_noun(result['taken'], 'publication')}; of this store: {result['published']}; "
        f"{count_noun(len(result['changes']), 'path')} changed here"
    )
    for path in result["conflicts"]:
        warn(f"both sides changed {path}: the other content is beside it as *.conflict-*")
