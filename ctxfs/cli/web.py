"""The command web: a page of the store for a browser."""

import os
import webbrowser

import click

from ctxfs.cli.options import principal_option, tls_options, token_option
from ctxfs.cli.output import warn, warn_each
from ctxfs.model.errors import EXIT_BUSY, EXIT_USAGE, CommandError
from ctxfs.model.installation import require_extra
from ctxfs.model.principal import parse_principal
from ctxfs.store.layout import find_store


@click.command()
@click.option("--port", default=0, type=click.IntRange(0, 65535), metavar="N", help="Port [default: a free one]")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on")
@tls_options
@principal_option("Principal whose view the page has [default: you]", hidden_aliases=["--as"], default="")
@token_option()
@click.option("--no-open", is_flag=True, help="Print the address without a browser")
@click.pass_obj
def web(
    store: str | None,
    port: int,
    host: str,
    tls_cert: str,
    tls_key: str,
    hostname: tuple[str, ...],
    principal: str,
    token: str,
    no_open: bool,
) -> None:
    """Show the store in a browser

    Serves a page on 127.0.0.1 until Ctrl-C. The printed address opens one browser session, once, within ten minutes.
    A second call prints another address of the same page. Agents, and sessions with a token, only read. Another address
    needs --tls-cert, --tls-key and --token.
    """
    require_extra("web", "ctxfs web", EXIT_USAGE)
    from ctxfs.daemon.launch import connect_or_start
    from ctxfs.http.access import Access
    from ctxfs.http.address import TcpAddress
    from ctxfs.http.endpoint import TlsOptions, make_endpoint
    from ctxfs.web.instance import request_address
    from ctxfs.web.server import check_access, serve_web

    layout, options = find_store(store), TlsOptions(tls_cert, tls_key, hostname)
    endpoint = make_endpoint(TcpAddress(host.strip("[]"), port), options)
    access = Access(str(parse_principal(principal)) if principal else "", token)
    check_access(endpoint, access)
    warn_each(endpoint.warnings)
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

        if not serve_web(layout, endpoint, access, announce):
            if options.is_given or not endpoint.address.is_loopback:
                raise CommandError("this store has a page already", "end its process, then call this again", EXIT_BUSY)
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
