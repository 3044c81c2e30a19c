"""The command web: a page of the store for a browser on this machine."""

import os
import webbrowser

import click

from ctxfs.cli.options import principal_option, token_option
from ctxfs.cli.output import warn
from ctxfs.model.errors import EXIT_USAGE
from ctxfs.model.installation import require_extra
from ctxfs.model.principal import parse_principal
from ctxfs.store.layout import find_store


@click.command()
@click.option("--port", default=0, type=click.IntRange(0, 65535), metavar="N", help="Port [default: a free one]")
@principal_option("Principal whose view the page has [default: you]", hidden_aliases=["--as"], default="")
@token_option()
@click.option("--no-open", is_flag=True, help="Print the address without a browser")
@click.pass_obj
def web(store: str | None, port: int, principal: str, token: str, no_open: bool) -> None:
    """Show the store in a browser

    Serves a page on 127.0.0.1 until Ctrl-C. The printed address opens one browser session, once, within ten minutes.
    A second call prints another address of the same page. Agents, and sessions with a token, only read.
    """
    require_extra("web", "ctxfs web", EXIT_USAGE)
    from ctxfs.daemon.launch import connect_or_start
    from ctxfs.http.access import Access
    from ctxfs.web.instance import request_address

    layout = find_store(store)
    access = Access(str(parse_principal(principal)) if principal else "", token)
    client = connect_or_start(layout)
    try:
        # The daemon checks a principal and its token here, where the error has a reader.
        client.call("join", principal=access.principal, token=access.token, tool="web")

        def announce(address: str) -> None:
            warn("this store has a page now; Ctrl-C ends it")
            show(address)

        def show(address: str) -> None:
            click.echo(address)
            if not no_open and not _open_browser(address):
                warn("no browser could be started: open this address yourself")

        from ctxfs.web.server import serve_web

        if not serve_web(layout, port, access, announce):
            show(request_address(layout, access))
    finally:
        client.close()


def _open_browser(address: str) -> bool:
    """Open an address in the browser of this session; return False if there is none."""
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY") and not os.environ.get("BROWSER"):
        return False
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False
