"""mcp, mcp-call: the tree for clients that speak the Model Context Protocol, and a tool of another server as a command."""

import sys

import click

from ctxfs.cli.output import warn, write_bytes
from ctxfs.model.errors import EXIT_USAGE, CommandError
from ctxfs.store.layout import find_store


@click.group(invoke_without_command=True)
@click.option("--as", "principal", default="", metavar="PRINCIPAL", help="Who acts through it, such as agent:alice.")
@click.option("--token", default="", envvar="CTXFS_TOKEN", help="Act with this token; $CTXFS_TOKEN.")
@click.option(
    "--http", "address", default="", metavar="ADDRESS", help="Serve HTTP instead of stdio: HOST:PORT, or unix:PATH."
)
@click.pass_context
def mcp(context: click.Context, principal: str, token: str, address: str) -> None:
    """Serve the tree to MCP clients: one over stdio, or many over streamable HTTP.

    Over TCP every client shows a token (ctxfs token issue) and acts for whoever it was given to.
    """
    if context.invoked_subcommand is not None:
        return
    layout = find_store(context.obj)
    if not address:
        from mcp_server.server import serve_stdio

        serve_stdio(layout, principal, token)
        return
    from mcp_server.http import parse_address, serve_http

    warn(f"serving {parse_address(address).url}; Ctrl-C ends it")
    serve_http(layout, address, principal)


@click.command(name="mcp-call")
@click.argument("tool")
@click.argument("server", nargs=-1, required=True)
def mcp_call(tool: str, server: tuple[str, ...]) -> None:
    """Call TOOL of the MCP server that the command SERVER starts: arguments as JSON on stdin, the answer on stdout.

    So a tool can be the summariser or the judge of ctxfs.toml:

    \b
    judge = "ctxfs mcp-call judge_claims -- my-server --stdio"
    """
    import json

    from mcp_server.client import call_tool

    try:
        arguments = json.loads(sys.stdin.buffer.read() or b"{}")
    except ValueError as error:
        raise CommandError(f"the arguments are not JSON: {error}", "give an object on stdin", EXIT_USAGE) from error
    if not isinstance(arguments, dict):
        raise CommandError("the arguments are not a JSON object", "give an object on stdin", EXIT_USAGE)
    write_bytes(call_tool(list(server), tool, arguments).encode("utf-8", "replace"))
