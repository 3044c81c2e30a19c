"""The commands mcp and mcp-call: serve the tree over the Model Context Protocol, and call a tool of another server."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import click

from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import principal_option, tls_options, token_option
from ctxfs.cli.output import print_line, print_lines, warn, warn_each, write_bytes
from ctxfs.model.errors import EXIT_NOTHING_FOUND, EXIT_USAGE, CommandError
from ctxfs.model.principal import parse_principal
from ctxfs.store.layout import find_store


@click.group(cls=CommandGroup, invoke_without_command=True)
@principal_option(
    "Principal that the clients act as, such as agent:alice [default: you]", hidden_aliases=["--as"], default=""
)
@token_option()
@click.option(
    "--http", "address", default="", metavar="ADDRESS", help="Serve HTTP instead of stdio: HOST:PORT, or unix:PATH"
)
@tls_options
@click.pass_context
def mcp(
    context: click.Context,
    principal: str,
    token: str,
    address: str,
    tls_cert: str,
    tls_key: str,
    hostname: tuple[str, ...],
) -> None:
    """Serve the tree to MCP clients

    One client over stdio, or many over streamable HTTP. Over TCP each client presents a token (ctxfs token issue) and
    acts for the principal of that token. Other machines reach it with --tls-cert and --tls-key only.
    """
    if context.invoked_subcommand is not None:
        return
    layout = find_store(context.obj)
    if not address and (tls_cert or tls_key or hostname):
        raise CommandError("stdio has no TLS", "give --http HOST:PORT", EXIT_USAGE)
    if not address:
        gc.disable()  # collections take a quarter of the start: the protocol's many types all stay
        from ctxfs.mcp_server.server import serve_stdio

        gc.freeze()
        gc.enable()
        serve_stdio(layout, principal, token)
        return
    from ctxfs.http.endpoint import TlsOptions
    from ctxfs.mcp_server.http import PATH, endpoint_of, parse_address, serve_http

    parsed = parse_address(address)
    endpoint = endpoint_of(parsed, TlsOptions(tls_cert, tls_key, hostname))
    warn_each(endpoint.warnings if endpoint else ())
    warn(f"serving {endpoint.url(parsed.port) + PATH if endpoint else parsed.url}; Ctrl-C ends it")
    serve_http(layout, parsed, endpoint, principal)


_CLIENTS = (  # those of `client_config`, which takes longer to import than the help may take
    "claude-code", "claude-desktop", "cursor", "vscode", "codex", "gemini", "windsurf", "zed", "cline", "opencode", "goose",
)  # fmt: skip
_SCOPE_OPTIONS = (
    click.argument("client", type=click.Choice(_CLIENTS)),
    click.option("--user", is_flag=True, help="Use your own configuration, not that of the project in this folder"),
    click.option("--name", default="ctxfs", show_default=True, help="Name of the server in the client"),
)


def _with_scope_options(function: Callable[..., None]) -> Callable[..., None]:
    for decorate in reversed(_SCOPE_OPTIONS):
        function = decorate(function)
    return function


@mcp.command()
@_with_scope_options
@principal_option("Principal that the client acts as [default: agent:CLIENT]", hidden_aliases=["--as"], default="")
@click.option("--write", is_flag=True, help="Write to the configuration file of the client")
@click.pass_context
def install(context: click.Context, client: str, user: bool, name: str, principal: str, write: bool) -> None:
    """Set up an MCP client for this store

    Prints the configuration for CLIENT. With --write it goes into the configuration file of CLIENT. The rest of that
    file stays, its former content is saved as FILE.before-ctxfs, and a second run changes nothing. Claude Desktop,
    Windsurf, Cline and Goose have no configuration of a project: theirs is yours.
    """
    from ctxfs.mcp_server.client_config import CLIENTS, entry_of, find_file, shown
    from ctxfs.mcp_server.client_config import install as write_entry

    layout, configuration = find_store(context.obj), CLIENTS[client]
    client_principal = str(parse_principal(principal or f"agent:{client}"))
    entry = entry_of(configuration, layout.root.resolve(), client_principal, name)
    file = find_file(configuration, None if user else Path.cwd(), name)
    if not write:
        warn(f"for {file}, which --write would change:")
        print_lines(shown(configuration, name, entry).rstrip())
        return
    is_written = write_entry(configuration, file, name, entry)
    print_line(f"{file}: " + ("written; start the client again" if is_written else "it is there already"))


@mcp.command()
@_with_scope_options
def uninstall(client: str, user: bool, name: str) -> None:
    """Remove this store from an MCP client

    Takes the entry of `install --write` out of CLIENT's configuration.
    """
    from ctxfs.mcp_server.client_config import CLIENTS, find_file
    from ctxfs.mcp_server.client_config import uninstall as remove_entry

    configuration = CLIENTS[client]
    file = find_file(configuration, None if user else Path.cwd(), name)
    if not remove_entry(configuration, file, name):
        raise CommandError(f"'{file}' names no server '{name}'", "was it installed for --user?", EXIT_NOTHING_FOUND)
    print_line(f"{file}: taken out; start the client again")


@click.command(name="mcp-call")
@click.argument("tool")
@click.argument("server", nargs=-1, required=True)
def mcp_call(tool: str, server: tuple[str, ...]) -> None:
    """Call a tool of another MCP server

    TOOL is a tool of the server that the command SERVER starts. Arguments are read as JSON from stdin, the answer
    goes to stdout. So a tool can be the summariser or the judge of ctxfs.toml:

    \b
    judge = "ctxfs mcp-call judge_claims -- my-server --stdio"
    """
    import json

    from ctxfs.mcp_server.client import call_tool

    try:
        arguments = json.loads(sys.stdin.buffer.read() or b"{}")
    except ValueError as error:
        raise CommandError(f"the arguments are not JSON: {error}", "give an object on stdin", EXIT_USAGE) from error
    if not isinstance(arguments, dict):
        raise CommandError("the arguments are not a JSON object", "give an object on stdin", EXIT_USAGE)
    write_bytes(call_tool(list(server), tool, arguments).encode("utf-8", "replace"))
