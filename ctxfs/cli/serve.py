"""The command serve: the store over HTTP, for programs."""

import importlib.util

import click

from ctxfs.cli.options import tls_options
from ctxfs.cli.output import warn, warn_each
from ctxfs.model.errors import EXIT_USAGE, CommandError
from ctxfs.store.layout import find_store

_LIBRARIES = ("hypercorn", "starlette")


@click.command()
@click.option("--http", "address", required=True, metavar="HOST:PORT", help="Address, such as 127.0.0.1:8200")
@click.option("--afs-root", default="", metavar="PATH", help="Directory that is / of /rpc [default: the root]")
@click.option(
    "--afs-actions",
    type=click.Choice(("safe", "standard", "full")),
    default="standard",
    show_default=True,
    help="Actions and tools that /rpc permits",
)
@click.option("--afs-block", multiple=True, metavar="NAME", help="Action that /rpc refuses; repeatable")
@tls_options
@click.pass_obj
def serve(
    store: str | None,
    address: str,
    afs_root: str,
    afs_actions: str,
    afs_block: tuple[str, ...],
    tls_cert: str,
    tls_key: str,
    hostname: tuple[str, ...],
) -> None:
    """Serve the store to programs over HTTP

    The methods as JSON (/openapi.json describes them), files (/files/PATH), the interface of AFS (/rpc) and the
    memory stores of the anthropic SDK (/v1/memory_stores), until Ctrl-C. Each request needs a token (ctxfs token
    issue) and acts for the principal of that token. Other machines reach it with --tls-cert and --tls-key only.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"ctxfs serve needs {', '.join(missing)}", "pip install 'ctxfs[web]'", EXIT_USAGE)
    from ctxfs.daemon.launch import connect_or_start
    from ctxfs.http.address import parse_tcp_address
    from ctxfs.http.endpoint import TlsOptions, make_endpoint
    from ctxfs.model.path import Path
    from ctxfs.serve.afs.settings import AfsSettings
    from ctxfs.serve.server import ServeSettings, serve_http

    afs = AfsSettings(Path.parse(afs_root), afs_actions, frozenset(afs_block))  # type: ignore[arg-type]  # one of the choices
    endpoint = make_endpoint(parse_tcp_address(address), TlsOptions(tls_cert, tls_key, hostname))
    warn_each(endpoint.warnings)
    settings, layout = ServeSettings(endpoint, afs), find_store(store)
    client = connect_or_start(layout)  # while it is open, the daemon does not end
    try:
        serve_http(layout, settings, lambda url: warn(f"serving {url}; Ctrl-C ends it"))
    finally:
        client.close()
