"""RPC methods on the rules in force: the rules, decisions, the matrix of rights, and the check of a text of rules."""

from dataclasses import dataclass
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.params import NoParams
from ctxfs.daemon.api.registry import Check, method
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.policy.matrix import letters_of, named_paths, named_principals
from ctxfs.policy.rules import Verb
from ctxfs.threads import blocking
from ctxfs.vfs.session import Session

_MAX_PRINCIPALS = 200
_MAX_PATHS = 40
_MAX_GIVEN_PATHS = 1000
_MEMORY = Path(("memory",))


@dataclass(frozen=True, slots=True)
class DecidePolicyParams:
    """A principal, a permission by its name, and a path."""

    principal: str
    verb: str
    path: Path


@dataclass(frozen=True, slots=True)
class MatrixParams:
    """Principals and paths, empty for all that rules, credentials and memories name; the first principal, and how many."""

    principals: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    first: int = 0
    limit: int = _MAX_PRINCIPALS


@dataclass(frozen=True, slots=True)
class CheckPolicyParams:
    """The text of a policy.toml."""

    text: str


@method("policy", NoParams, needs=Check.ADMINISTRATORS)
async def _policy(app: App, caller: Session, params: NoParams) -> Any:
    app.policy.reload()
    return {"rules": [str(rule) for rule in app.policy.rules], "fault": app.policy.fault}


@method("decide_policy", DecidePolicyParams, needs=Check.ADMINISTRATORS)
async def _decide(app: App, caller: Session, params: DecidePolicyParams) -> Any:
    """Return whether a principal has a permission at a path, with the deciding rule and all matching rules."""
    principal, path = parse_principal(params.principal), params.path
    verb = Verb[params.verb.upper()]
    decision = app.policy.decide(principal, verb, path)
    return {"allowed": decision.allowed, "why": decision.why, "matched": [str(rule) for rule in decision.matched]}


@method("policy_matrix", MatrixParams, needs=Check.ADMINISTRATORS)
async def _matrix(app: App, caller: Session, params: MatrixParams) -> Any:
    """Return {principals, paths, rights, total, left_out, fault}: for each principal a list of its rights at the paths.

    Rights are {letters, leads, partial}: `leads` if only something below exists for the principal, `partial` if not
    all of the rights hold for everything below. `total` counts all principals, `left_out` the paths beyond a limit.
    """
    app.policy.reload()
    principals = [parse_principal(text) for text in params.principals] or await _principals(app, caller)
    shown = principals[max(0, params.first) :][: max(1, min(params.limit, _MAX_PRINCIPALS))]
    if len(params.paths) > _MAX_GIVEN_PATHS:
        raise invalid("paths", f"{_MAX_GIVEN_PATHS} at most")
    named = named_paths(app.policy.rules, map(str, app.namespace.mountpoints))
    paths = list(params.paths or named[:_MAX_PATHS])
    rights = [[app.policy.rights_by_rules(principal, Path.parse(path)) for path in paths] for principal in shown]
    return {
        "principals": [principal.bound for principal in shown],
        "paths": paths,
        "rights": [
            [
                {"letters": letters_of(cell.verbs), "leads": cell.leads, "partial": cell.verbs != cell.below}
                for cell in row
            ]
            for row in rights
        ],
        "total": len(principals),
        "left_out": 0 if params.paths else len(named) - len(paths),
        "fault": app.policy.fault,
    }


async def _principals(app: App, caller: Session) -> list[Principal]:
    """Return the principals of rules, groups, credentials and memories, and the caller."""
    agents = [f"agent:{entry.name}" for entry in await caller.tree.list(_MEMORY) if entry.name != "shared"]
    credentials = [f"{token.principal}#{token.id}" for token in await blocking(app.tokens.load)]
    others = [str(caller.principal), *agents, *credentials]
    return list(named_principals(app.policy.rules, app.policy.groups, others))


@method("check_policy", CheckPolicyParams, needs=Check.ADMINISTRATORS)
async def _check(app: App, caller: Session, params: CheckPolicyParams) -> str:
    """Return the first mistake in a text of rules; empty without one. The rules in force stay."""
    text = params.text
    fault: str = await blocking(lambda: app.policy.fault_of(text))
    return fault
