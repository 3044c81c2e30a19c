"""The command web: a page of the store for a browser."""

import click

from ctxfs.cli.options import principal_option, tls_options, token_option
from ctxfs.cli.page_server import DEFAULT_HOST, PageOptions, serve_page


@click.command()
@click.option("--port", default=0, type=click.IntRange(0, 65535), metavar="N", help="Port [default: a free one]")
@click.option("--host", default=DEFAULT_HOST, show_default=True, metavar="ADDRESS", help="Address to listen on")
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
    serve_page(PageOptions(store, port, host, tls_cert, tls_key, hostname, principal, token, opens_browser=not no_open))
