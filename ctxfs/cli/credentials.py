"""The command token: credentials of agents, which limit the operations of their bearers."""

import re
from datetime import UTC, datetime

import click

from ctxfs.cli import completion_values
from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import json_option
from ctxfs.cli.output import print_json, print_line
from ctxfs.daemon.session import session as opened_session
from ctxfs.model.errors import EXIT_NOTHING_FOUND

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LIFETIME = re.compile(rf"([1-9]\d{{0,5}})([{''.join(_UNITS)}])")


def _parse_lifetime(ctx: click.Context, param: click.Parameter, value: str) -> float | None:
    if value == "never":
        return None
    match = _LIFETIME.fullmatch(value)
    if not match:
        raise click.BadParameter(f"'{value}' is not a lifetime: 30m, 1h, 7d, or never")
    return float(int(match[1]) * _UNITS[match[2]])


@click.group(cls=CommandGroup)
def token() -> None:
    """Manage access tokens of agents

    The bearer of a token acts for an agent, until the token expires or is revoked.
    """


@token.command()
@click.argument("principal", shell_complete=completion_values.principals)
@click.option(
    "--ttl", default="1h", show_default=True, callback=_parse_lifetime, help="Lifetime: 30m, 1h, 7d, or never"
)
@click.option(
    "--allow", multiple=True, metavar="PATTERN:VERBS",
    help="Permission, such as 'memory/alice/**:rw'; repeatable [default: all that the principal has]",
)  # fmt: skip
@json_option()
@click.pass_obj
def issue(store: str | None, principal: str, ttl: float | None, allow: tuple[str, ...], as_json: bool) -> None:
    """Issue a token for a principal

    It is printed this once and stored nowhere.

    \b
    CTXFS_TOKEN=$(ctxfs token issue agent:ada --allow 'knowledge/**:r') ctxfs mcp
    """
    with opened_session(store) as opened:
        issued = opened.call("issue_token", principal=principal, allow=list(allow), seconds=ttl)
    if as_json:
        print_json(issued)
    else:
        click.echo(issued["secret"])


@token.command(name="list")
@json_option()
@click.pass_obj
def list_tokens(store: str | None, as_json: bool) -> None:
    """List tokens

    A line has the number, the principal, the expiry and the permissions of a token.
    """
    with opened_session(store) as opened:
        rows = opened.call("tokens")
    if as_json:
        print_json(rows)
        return
    for row in rows:
        until = _format_time(row["expires_ns"]) if row["expires_ns"] else "for ever"
        state = "expired " if row["expired"] else "until "
        print_line(f"{row['id']}  {row['principal']}  {state}{until}  {' '.join(row['allow']) or 'all it may'}")
    if not rows:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


@token.command()
@click.argument("named", metavar="ID|PRINCIPAL", shell_complete=completion_values.principals)
@click.pass_obj
def revoke(store: str | None, named: str) -> None:
    """Revoke a token or all of a principal

    ID is the number of a token in `ctxfs token list`. The bearers lose all permissions at once.
    """
    with opened_session(store) as opened:
        revoked = opened.call("revoke_token", named=named)
    print_line(f"{len(revoked)} revoked")
    if not revoked:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


def _format_time(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
