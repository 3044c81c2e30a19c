"""The command policy: permissions of principals, and the rules that grant them."""

from typing import TextIO

import click

from ctxfs.cli import completion_values
from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import json_option, principal_option
from ctxfs.cli.output import print_json, print_line, warn
from ctxfs.daemon.session import session as opened_session
from ctxfs.model.errors import EXIT_FAILURE, CommandError
from ctxfs.model.line_ends import LF, convert_line_ends, line_end_of

_RULES = ".ctxfs/policy.toml"
_FAULT = "there is a mistake in the rules, the last good ones stay"
_VERBS = ("list", "read", "write", "create", "delete", "exec", "meta", "admin")


@click.group(cls=CommandGroup)
def policy() -> None:
    """Manage permissions and their rules

    The rules are those of policy.toml and ctxfs.toml, and the defaults.
    """


@policy.command()
@click.argument("principal", shell_complete=completion_values.principals)
@click.argument("verb", type=click.Choice(_VERBS))
@click.argument("path", shell_complete=completion_values.tree_paths)
@json_option()
@click.pass_obj
def check(store: str | None, principal: str, verb: str, path: str, as_json: bool) -> None:
    """Check a permission

    Shows if PRINCIPAL may do VERB to PATH, and the rule that decides. Exit code 1 if not.
    """
    with opened_session(store) as opened:
        decision = opened.call("decide_policy", principal=principal, verb=verb, path=path)
    if as_json:
        print_json(decision)
    else:
        print_line(
            f"{'allowed' if decision['allowed'] else 'denied'}: {decision['why']}",
            fg="green" if decision["allowed"] else "red",
        )
    if not decision["allowed"]:
        raise click.exceptions.Exit(EXIT_FAILURE)


@policy.command()
@click.argument("principal", shell_complete=completion_values.principals)
@click.argument("path", shell_complete=completion_values.tree_paths)
@json_option()
@click.pass_obj
def explain(store: str | None, principal: str, path: str, as_json: bool) -> None:
    """Show all rights of a principal at a path

    Verb by verb, with every rule that matches; the first one decides.
    """
    with opened_session(store) as opened:
        decisions = {v: opened.call("decide_policy", principal=principal, verb=v, path=path) for v in _VERBS}
    if as_json:
        print_json(decisions)
        return
    for verb, decision in decisions.items():
        print_line(
            f"{verb:<7}{'allowed' if decision['allowed'] else 'denied'}", fg="green" if decision["allowed"] else "red"
        )
        for rule in decision["matched"]:
            print_line(f"       {rule}")
        if not decision["matched"]:
            print_line(f"       {decision['why']}")


@policy.command(name="list")
@json_option()
@click.pass_obj
def list_rules(store: str | None, as_json: bool) -> None:
    """List the rules in force

    The defaults come first.
    """
    with opened_session(store) as opened:
        policy_state = opened.call("policy")
    if as_json:
        print_json(policy_state)
        return
    for rule in policy_state["rules"]:
        print_line(rule)
    if policy_state["fault"]:
        print_line(f"{_FAULT}: {policy_state['fault']}", fg="red")


@policy.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, shell_complete=completion_values.tree_paths)
@principal_option("Limit to a principal, such as agent:alice")
@json_option()
@click.pass_obj
def matrix(store: str | None, paths: tuple[str, ...], principal: str | None, as_json: bool) -> None:
    """Show the rights of principals at paths

    Without PATH: at all that rules name. Letters are those of rules; … leads to paths below, + holds in parts below.
    """
    with opened_session(store) as opened:
        named = [principal] if principal else []
        table = opened.call("policy_matrix", principals=named, paths=[path.strip("/") for path in paths])
    if as_json:
        print_json(table)
        return
    for name, row in zip(table["principals"], table["rights"], strict=True):
        print_line(name, bold=True)
        for path, cell in zip(table["paths"], row, strict=True):
            letters = "…" if cell["leads"] else f"{cell['letters']}{'+' if cell['partial'] else ''}"
            if letters:
                print_line(f"    {letters:<8}{path}")
    if table["left_out"]:
        warn(f"{table['left_out']} more paths of rules: name them")


@policy.command()
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
@click.pass_obj
def validate(store: str | None, file: TextIO) -> None:
    """Find the first mistake in a policy.toml

    FILE, or the standard input, is checked and not put in force. Exit code 1 for a mistake.
    """
    try:
        text = file.read()
    except UnicodeDecodeError as error:
        raise CommandError(f"'{file.name}' is not UTF-8: {error}", "write it in UTF-8") from error
    with opened_session(store) as opened:
        fault = opened.call("check_policy", text=text)
    if fault:
        raise CommandError(fault, "mend it, and check it again")
    print_line("no mistake", fg="green")


@policy.command()
@click.pass_obj
def edit(store: str | None) -> None:
    """Edit policy.toml in $EDITOR

    It is also a file of the tree: .ctxfs/policy.toml.
    """
    with opened_session(store) as opened:
        data = opened.call("read", path=_RULES)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise CommandError(f"{_RULES} is not UTF-8: {error}", f"replace the file {_RULES} of the tree") from error
        edited = click.edit(convert_line_ends(text, LF), extension=".toml")
        if edited is None or edited == convert_line_ends(text, LF):
            print_line("nothing was changed")
            return
        opened.call("apply", change=["put", _RULES, convert_line_ends(edited, line_end_of(text)).encode(), {}])
        policy_state = opened.call("policy")
    if policy_state["fault"]:
        raise CommandError(f"{_FAULT}: {policy_state['fault']}", "mend it: ctxfs policy edit")
    print_line("in force", fg="green")
