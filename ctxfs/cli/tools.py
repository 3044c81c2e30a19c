"""tools: which there are, running and approving them, and what came of calls."""

import json
import secrets
import sys
from typing import Any

import click

from ctxfs.cli.output import say, say_json, warn, write_bytes
from ctxfs.daemon.session import Session
from ctxfs.daemon.session import session as opened_session
from ctxfs.model.errors import EXIT_FAILURE, EXIT_NOTHING_FOUND, EXIT_USAGE, CommandError


@click.group()
def tools() -> None:
    """Programs with a schema, which agents and scripts call: the built-in ones, and folders of <store>/tools that you approve."""


@tools.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="As JSON, schemas and all.")
@click.pass_obj
def list_tools(store: str | None, as_json: bool) -> None:
    """List the tools, and of those that do not run why."""
    with opened_session(store) as opened:
        found = opened.call("tools")
    if as_json:
        say_json(found)
        return
    for tool in found["tools"]:
        why = f"  [{tool['refusal']}]" if tool["refusal"] else ""
        say(f"{tool['name']:<16} {tool['description']}{why}", fg="yellow" if why else None)
    for why in found["faults"].values():
        warn(why)
    if not found["sandbox"]:
        warn("tools see this machine as you do: bubblewrap, which shuts them in, is not installed")


@tools.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="tool.json.")
@click.pass_obj
def show(store: str | None, name: str, as_json: bool) -> None:
    """Say what a tool is for and which arguments it takes."""
    with opened_session(store) as opened:
        write_bytes(opened.call("read", path=f"tools/{name}/{'tool.json' if as_json else 'README.md'}"))


@tools.command()
@click.argument("name")
@click.option(
    "--json", "arguments", default="", metavar="OBJECT", help="The arguments; from stdin if this is left out."
)
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Its text, or the whole result."
)
@click.option("--yes", is_flag=True, help="Of what cannot be taken back: do it without asking.")
@click.pass_obj
def run(store: str | None, name: str, arguments: str, output: str, yes: bool) -> None:
    """Run a tool: its text to stdout, what it complains of to stderr. Exit code 1 if it fails. Ctrl-C ends it."""
    words = arguments or ("" if sys.stdin.isatty() else sys.stdin.read()) or "{}"
    try:
        given = json.loads(words)
    except ValueError as error:
        raise CommandError(f"the arguments are not JSON: {error}", "give an object", EXIT_USAGE) from error
    with opened_session(store) as opened:
        tool = _tool(opened, name)
        confirmed = yes or not tool["annotations"]["destructiveHint"]
        if not confirmed and sys.stdin.isatty():
            confirmed = click.confirm(f"What {name} does cannot be taken back. Run it?")
        done = opened.call("call_tool", name=name, arguments=given, id=f"c-{secrets.token_hex(4)}", confirmed=confirmed)
    if output == "json":
        say_json(done)
    else:
        write_bytes(done["text"].encode("utf-8", "replace"))
        if done["stderr"]:
            click.echo(done["stderr"], err=True)
    if not done["ok"]:
        if done["fault"] not in done["stderr"]:
            warn(f"{name}: {done['fault']}")
        raise click.exceptions.Exit(EXIT_FAILURE)


@tools.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Without asking.")
@click.pass_obj
def approve(store: str | None, name: str, yes: bool) -> None:
    """Let the tool of the folder <store>/tools/NAME run as it is now. When its files change it has to be approved again."""
    with opened_session(store) as opened:
        found = {tool["name"]: tool for tool in opened.call("tools")["tools"]}
        if name in found:
            say(f"{found[name]['folder']}: {found[name]['description']}")
        if not yes and not click.confirm("It will run as you, with what it is now in this folder. Approve it?"):
            raise CommandError("it was not approved", "look at its files first", EXIT_FAILURE)
        opened.call("approve_tool", name=name)
        say(f"{name} is approved as it is now", fg="green")


@tools.command()
@click.argument("name")
@click.argument("number", default="")
@click.pass_obj
def calls(store: str | None, name: str, number: str) -> None:
    """List the calls of a tool that are kept, the oldest first, or print one: its arguments, its result, its text."""
    with opened_session(store) as opened:
        place = f"tools/{name}/calls"
        if number:
            for file in ("args.json", "result.json", "result.md"):
                write_bytes(opened.call("read", path=f"{place}/{number}/{file}"))
            return
        found = [entry[0] for entry in opened.call("list", path=place)]
        for each in found:
            result = json.loads(opened.call("read", path=f"{place}/{each}/result.json"))
            told = "ok" if result["ok"] else result["fault"]
            say(f"{each}  {result['at']}  {result['principal']}  {result['seconds']:.2f} s  {told}")
        if not found:
            raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


def _tool(opened: Session, name: str) -> dict[str, Any]:
    for tool in opened.call("tools")["tools"]:
        if tool["name"] == name:
            found: dict[str, Any] = tool
            return found
    raise CommandError(f"there is no tool '{name}'", "see: ctxfs tools list", EXIT_NOTHING_FOUND)
