"""The commands tools and calls: list, run and approve tools, and replay their calls."""

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import aliased_option, json_option, yes_option
from ctxfs.cli.output import print_json, print_line, warn, write_bytes
from ctxfs.daemon.session import LocalSession, StoreSession
from ctxfs.daemon.session import session as opened_session
from ctxfs.mcp_client.server_status import READY, server_status_from_wire
from ctxfs.model.errors import EXIT_FAILURE, EXIT_NOTHING_FOUND, EXIT_USAGE, CommandError
from ctxfs.model.path import lines_of
from ctxfs.rpc.client import Client
from ctxfs.store.layout import find_store
from ctxfs.store.registry import confirm_store

_format_option = aliased_option(
    "--format",
    "form",
    hidden_aliases=["-o", "--output"],
    hidden_values={"json": "result"},
    type=click.Choice(["text", "result"]),
    default="text",
    show_default=True,
    help="Output: the text, or the whole result as JSON",
)


@click.group(cls=CommandGroup)
def tools() -> None:
    """Manage tools and MCP servers

    Tools are programs with a schema, which agents and scripts call: the built-in ones, yours, and those of MCP servers.
    """


@contextlib.contextmanager
def _program_change_session(store: str | None) -> Iterator[StoreSession]:
    """Open a session that changes the programs of the store, and confirm the store afterwards."""
    root = find_store(store).root
    with opened_session(store) as opened:
        yield opened
    confirm_store(root)


@tools.command(name="list")
@json_option("Print JSON, with the schemas")
@click.pass_obj
def list_tools(store: str | None, as_json: bool) -> None:
    """List tools

    Those that cannot run are listed with the reason.
    """
    with opened_session(store) as opened:
        listing = opened.call("tools")
    if as_json:
        print_json(listing)
        return
    for tool in listing["tools"]:
        reason = f"  [{tool['refusal']}]" if tool["refusal"] else ""
        print_line(f"{tool['name']:<16} {tool['description']}{reason}", fg="yellow" if reason else None)
    for reason in listing["faults"].values():
        warn(reason)
    if not listing["sandbox"]:
        warn(
            "tools see this machine as you do: bubblewrap, which shuts them in, is not installed, or does not work here"
        )


@tools.command()
@click.argument("name", shell_complete=completion_values.tools)
@json_option("Print tool.json")
@click.pass_obj
def show(store: str | None, name: str, as_json: bool) -> None:
    """Show the purpose and arguments of a tool"""
    with opened_session(store) as opened:
        write_bytes(opened.call("read", path=f"tools/{name}/{'tool.json' if as_json else 'README.md'}"))


@tools.command()
@click.argument("name", shell_complete=completion_values.tools)
@click.option("--json", "arguments", default="", metavar="OBJECT", help="Arguments as JSON [default: from stdin]")
@_format_option
@yes_option("Skip the prompt of destructive tools")
@click.pass_obj
def run(store: str | None, name: str, arguments: str, form: str, yes: bool) -> None:
    """Run a tool

    Its text goes to stdout, its complaints to stderr. Exit code 1 if it fails. Ctrl-C ends it.
    """
    text = arguments or ("" if sys.stdin.isatty() else sys.stdin.read()) or "{}"
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CommandError(f"the arguments are not JSON: {error}", "give an object", EXIT_USAGE) from error
    with opened_session(store) as opened:
        result = _call_tool(opened, name, values, yes=yes)
    _print_result(name, result, as_json=form == "result")


@tools.command()
@click.argument("name", shell_complete=completion_values.tools)
@yes_option()
@click.pass_obj
def approve(store: str | None, name: str, yes: bool) -> None:
    """Approve a tool or all tools of a server

    The approval covers the present content. Differences from the approved descriptions are shown first.

    A tool of your own is the folder <store>/tools/NAME. After any change of its files it needs another approval.
    """
    with _program_change_session(store) as opened:
        waiting = _unapproved_tools(opened, name)
        digests = {tool_name: opened.call("tool_digest", name=tool_name) for tool_name in waiting}
        for tool_name in waiting:
            tool = _find_tool(opened, tool_name)
            print_line(f"{tool_name}  {tool['folder'] or tool['description'].splitlines()[0]}", bold=True)
            for line in opened.call("tool_difference", name=tool_name).splitlines():
                print_line(line, fg={"+": "green", "-": "red"}.get(line[:1]))
        if not yes and not click.confirm("It will run as you, with what it is now. Approve it?"):
            raise CommandError("it was not approved", "look at its files first", EXIT_FAILURE)
        for tool_name in waiting:
            opened.call("approve_tool", name=tool_name, shown=digests[tool_name])
        print_line(f"{name} is approved as it is now", fg="green")


@tools.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--url", default="", help="Address of a server over HTTP, instead of a command")
@click.option("--env", multiple=True, metavar="NAME", help="Name of an environment variable for the server; repeatable")
@click.option("--token-env", default="", metavar="NAME", help="Environment variable with the token for --url")
@click.option("--searchable", is_flag=True, help="Index its documents, too")
@yes_option()
@click.pass_obj
def add(store: str | None, /, name: str, command: tuple[str, ...], yes: bool, **options: Any) -> None:
    """Add an MCP server

    ctxfs tools add NAME -- COMMAND…, or --url. Its tools are tools/NAME/, its documents knowledge/NAME/.
    """
    if bool(command) == bool(options["url"]):
        raise CommandError("give a command after --, or --url", "ctxfs tools add NAME -- COMMAND…", EXIT_USAGE)
    print_line(f"{name} runs as you, whenever the tree is mounted:" if command else f"{name} is asked at:")
    print_line(f"  {shlex.join(command) if command else options['url']}", bold=True)
    if options["env"]:
        print_line(f"  with {', '.join(f'${variable}' for variable in options['env'])}")
    if not yes and not click.confirm("Add it, and approve the tools that it has now?"):
        raise CommandError("it was not added", "", EXIT_FAILURE)
    with _program_change_session(store) as opened:
        if not isinstance(opened, Client):
            raise CommandError("servers are connected by the daemon, and none runs", "ctxfs mount DIR, then add it")
        from ctxfs.cli.progress import spinner

        with spinner(f"connecting {name}"):
            server = opened.call(
                "add_server", name=name, command=list(command), **{**options, "env": list(options["env"])}
            )
    for reason in server["faults"].values():
        warn(reason)
    for tool in server["tools"]:
        marks = "  [cannot be taken back]" if tool["annotations"]["destructiveHint"] else ""
        print_line(f"{tool['name']:<40} {' '.join(tool['description'].split())[:70]}{marks}")
    status = server_status_from_wire(server["status"])
    colour = "green" if status == READY else "yellow"
    print_line(f"tools/{name}: {status.text}, {len(server['tools'])} tools and prompts", fg=colour)
    if status != READY:
        raise click.exceptions.Exit(EXIT_FAILURE)


@tools.command()
@click.argument("name")
@click.pass_obj
def remove(store: str | None, name: str) -> None:
    """Remove an MCP server

    Its approvals and its cached documents are removed, too.
    """
    with _program_change_session(store) as opened:
        if isinstance(opened, LocalSession):
            from ctxfs.daemon.registration import unregister_server

            unregister_server(opened.app, name)
        else:
            opened.call("remove_server", name=name)
    print_line(f"removed tools/{name}")


@tools.command(name="calls")
@click.argument("name", shell_complete=completion_values.tools)
@click.argument("number", default="")
@click.pass_obj
def calls_of(store: str | None, name: str, number: str) -> None:
    """List the calls of a tool, or print one

    The oldest come first. With NUMBER the arguments, the result and the text of that call are printed.
    """
    with opened_session(store) as opened:
        if not number:
            _list_calls(opened.call("calls", tool=name), as_json=False)
            return
        folder = f"tools/{name}/calls"
        for file in ("args.json", "result.json", "result.md"):
            write_bytes(opened.call("read", path=f"{folder}/{number}/{file}"))


@click.group(cls=CommandGroup, invoke_without_command=True)
@click.option("--tool", default="", metavar="NAME", shell_complete=completion_values.tools, help="Limit to a tool")
@json_option()
@click.pass_context
def calls(context: click.Context, tool: str, as_json: bool) -> None:
    """Manage recorded calls of tools

    Without a command the calls are listed, oldest first.
    """
    if context.invoked_subcommand is None:
        with opened_session(context.obj) as opened:
            _list_calls(opened.call("calls", tool=tool), as_json=as_json)


@calls.command()
@click.argument("number", metavar="ID")
@click.option("--live", is_flag=True, help="Call the tool again with the same arguments")
@yes_option("Skip the prompt of destructive tools")
@_format_option
@click.pass_obj
def replay(store: str | None, number: str, live: bool, yes: bool, form: str) -> None:
    """Print a recorded call again

    The text, the complaints and the exit code are those of the record. Nothing runs without --live.
    """
    with opened_session(store) as opened:
        recorded = opened.call("kept_call", id=number)
        result = _call_tool(opened, recorded["tool"], recorded["arguments"], yes=yes) if live else recorded
    _print_result(recorded["tool"], result, as_json=form == "result")


def _list_calls(recorded: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(recorded)
    for call in [] if as_json else recorded:
        outcome = "ok" if call["ok"] else call["fault"]
        print_line(
            f"{call['id']}  {call['at']}  {call['principal']}  {call['tool']}  {call['seconds']:.2f} s  {outcome}"
        )
    if not recorded:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


def _call_tool(opened: StoreSession, name: str, arguments: dict[str, Any], *, yes: bool) -> dict[str, Any]:
    """Run a tool; on a terminal prompt for a confirmation first if its effects cannot be undone."""
    confirmed = yes or not _find_tool(opened, name)["annotations"]["destructiveHint"]
    if not confirmed and sys.stdin.isatty():
        confirmed = click.confirm(f"What {name} does cannot be taken back. Run it?")
    result: dict[str, Any] = opened.call("call_tool", name=name, arguments=arguments, confirmed=confirmed)
    return result


def _print_result(name: str, result: dict[str, Any], *, as_json: bool) -> None:
    """Print a call's text, complaints and exit code, as the tool itself would."""
    if as_json:
        print_json(result)
    else:
        write_bytes(result["text"].encode("utf-8", "replace"))
        for file in result.get("files", ()):
            print_line(f"tools/{name}/calls/{result['id']}/{file}")
        if result["stderr"]:
            click.echo(lines_of(result["stderr"]), err=True)
    if not result["ok"]:
        if result["fault"] not in result["stderr"]:
            warn(f"{name}: {result['fault']}")
        raise click.exceptions.Exit(EXIT_FAILURE)


def _find_tool(opened: StoreSession, name: str) -> dict[str, Any]:
    try:
        tool: dict[str, Any] = opened.call("tool", name=name)
    except FileNotFoundError as error:
        raise CommandError(f"there is no tool '{name}'", "see: ctxfs tools list", EXIT_NOTHING_FOUND) from error
    return tool


def _unapproved_tools(opened: StoreSession, name: str) -> list[str]:
    """Return the unapproved tools of a server of this name, or the name itself if it is a tool."""
    tools_of_server = [tool for tool in opened.call("tools")["tools"] if tool["name"].startswith(f"{name}/")]
    if not tools_of_server:
        return [name]
    waiting = [tool["name"] for tool in tools_of_server if "approved" in tool["refusal"]]
    if not waiting:
        raise CommandError(f"everything of {name} is approved as it is", "", EXIT_NOTHING_FOUND)
    return waiting
