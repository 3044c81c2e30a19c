"""mcp: the tree for clients that speak the Model Context Protocol."""

import click

from ctxfs.store.layout import find_store


@click.command()
@click.pass_obj
def mcp(store: str | None) -> None:
    """Serve the tree over stdio to an MCP client."""
    from mcp_server.server import serve_stdio

    serve_stdio(find_store(store))
