"""The command web without click, whose memory the process of the page would keep."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ctxfs.cli.output import warn, warn_each
from ctxfs.cli.terminal import echo
from ctxfs.model.errors import EXIT_BUSY, EXIT_USAGE, CommandError
from ctxfs.model.installation import require_extra

DEFAULT_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class PageOptions:
    """The options of the command. Empty: the store of the working directory, a free port, no TLS, the owner, no token."""

    store: str | None = None
    port: int = 0
    host: str = DEFAULT_HOST
    tls_cert: str = ""
    tls_key: str = ""
    hostnames: tuple[str, ...] = ()
    principal: str = ""
    token: str = ""
    opens_browser: bool = True


def serve_page(options: PageOptions) -> None:
    """Serve the page until a signal, or print another address of the one that is served. Raise CommandError and OSError."""
    require_extra("web", "ctxfs web", EXIT_USAGE)
    from ctxfs.daemon.launch import connect_or_start
    from ctxfs.http.access import Access
    from ctxfs.http.address import TcpAddress
    from ctxfs.http.endpoint import TlsOptions, make_endpoint
    from ctxfs.model.principal import parse_principal
    from ctxfs.store.layout import find_store
    from ctxfs.web.instance import request_address
    from ctxfs.web.server import check_access, serve_web

    layout, tls = find_store(options.store), TlsOptions(options.tls_cert, options.tls_key, options.hostnames)
    endpoint = make_endpoint(TcpAddress(options.host.strip("[]"), options.port), tls)
    access = Access(str(parse_principal(options.principal)) if options.principal else "", options.token)
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
            echo(address)
            if options.opens_browser and not _open_browser(address):
                warn("no browser could be started: open this address yourself")

        if not serve_web(layout, endpoint, access, announce):
            if tls.is_given or not endpoint.address.is_loopback:
                raise CommandError("this store has a page already", "end its process, then call this again", EXIT_BUSY)
            show(request_address(layout, access))
    finally:
        client.close()


def _open_browser(address: str) -> bool:
    """Open an address in the browser of this session; return False if there is none."""
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY") and not os.environ.get("BROWSER"):
        return False
    import webbrowser

    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False
